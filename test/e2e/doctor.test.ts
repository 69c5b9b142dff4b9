/** `tandem doctor` on a real API server with Tandem's own processes: all is well, then one thing after the other is not. */
import t from "tap";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parse } from "yaml";
import { parseObjects } from "../../src/cli/input.ts";
import type { JsonObject, Workload } from "../../src/kinds/kube.ts";
import { kubernetesBinaries } from "./cluster/binaries.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { REPOSITORY } from "./cluster/paths.ts";
import { buildProgram, startTandem, type Tandem } from "./cluster/tandem.ts";

const COMPONENT = join(REPOSITORY, "manifests", "components", "second-scheduler");
const PROGRAM = join(REPOSITORY, "dist", "tandem.js");

t.setTimeout(300_000);
let cluster: Cluster;
let tandem: Tandem;
let configuration: string;

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes();
  tandem = await startTandem(cluster);
  configuration = join(cluster.folder, "shipped-configuration.yaml");
  writeFileSync(configuration, JSON.stringify(shipped(tandem)));
});
t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${tandem.logs()}`);
  await tandem.stop();
  await cluster.stop();
});

/** The configuration of the manifests, with the addresses of this cluster. */
function shipped({ webhooks, authority }: Tandem): JsonObject {
  const value = parse(readFileSync(join(COMPONENT, "scheduler-configuration.yaml"), "utf8")) as JsonObject;
  const [entry] = value["extenders"] as JsonObject[];
  const tlsConfig = { caData: Buffer.from(authority).toString("base64") };
  return {
    ...value,
    clientConnection: { kubeconfig: cluster.kubeconfig },
    leaderElection: { leaderElect: false },
    extenders: [{ ...entry, urlPrefix: `${webhooks}/extender`, tlsConfig }],
  };
}

interface Finding {
  readonly check: string;
  readonly state: string;
  readonly message: string;
}

async function run(command: string, args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(command, args, { env: { PATH: process.env["PATH"] ?? "", KUBECONFIG: cluster.kubeconfig } });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  const [code] = (await once(child, "close")) as [number];
  return { code, out, err };
}

async function doctor(): Promise<{ code: number; found: ReadonlyMap<string, Finding> }> {
  const { code, out, err } = await run(process.execPath, [
    PROGRAM,
    "doctor",
    "--cluster",
    "-f",
    configuration,
    "-o",
    "json",
  ]);
  t.ok(code < 2, err);
  const { checks } = JSON.parse(out) as { checks: Finding[] };
  return { code, found: new Map(checks.map((check) => [check.check, check])) };
}

const withState = (found: ReadonlyMap<string, Finding>, ...states: string[]): string[] =>
  [...found.values()].filter(({ state }) => states.includes(state)).map(({ check, message }) => `${check}: ${message}`);

t.test("kube-scheduler takes the configuration of the manifests", async (t) => {
  const binaries = await kubernetesBinaries();
  const written = join(cluster.folder, "written.yaml");
  const { code, err } = await run(binaries["kube-scheduler"], [
    `--config=${configuration}`,
    `--write-config-to=${written}`,
    `--cert-dir=${cluster.folder}`,
  ]);
  t.equal(code, 0, err);
  t.match(readFileSync(written, "utf8"), /filterVerb: filter[^]*percentageOfNodesToScore: 100/);
});

t.test("the second scheduler is rendered, taken without a warning, and may do what a scheduler does", async (t) => {
  const overlay = t.testdir({
    "kustomization.yaml": JSON.stringify({
      resources: [relative(t.testdirName, join(REPOSITORY, "manifests", "base"))],
      components: [relative(t.testdirName, COMPONENT)],
    }),
  });
  const rendered = parseObjects(await cluster.must(["kustomize", overlay]), "second-scheduler");
  const own = rendered.filter(({ metadata }) => metadata.name?.startsWith("tandem-scheduler") === true);
  const [map] = own.filter(({ kind }) => kind === "ConfigMap");
  const pod = own.find(({ kind }) => kind === "Deployment") as Workload | undefined;
  t.match(pod?.spec.template.spec.volumes, [{ configMap: { name: map?.metadata.name } }]);
  const text = JSON.stringify({ kind: "List", apiVersion: "v1", items: own });
  const taken = await cluster.kubectl(["apply", "--server-side", "-f", "-"], text);
  t.match(taken, { code: 0, stderr: "" });
  for (const [verb, what, allowed] of [
    ["create", "pods --subresource=binding", "yes"],
    ["update", "leases.coordination.k8s.io/tandem-scheduler", "yes"],
    ["update", "leases.coordination.k8s.io/kube-scheduler-x", "no"],
    ["get", "secrets", "no"],
  ] as const) {
    const as = "--as=system:serviceaccount:tandem-system:tandem-scheduler";
    const { stdout } = await cluster.kubectl(["auth", "can-i", verb, ...what.split(" "), "-n", "tandem-system", as]);
    t.equal(stdout.trim(), allowed, `${verb} ${what}`);
  }
  // It finds its own configuration there, and the Service of its extender does not exist here.
  t.match((await doctor()).found.get("extender-reachable"), {
    state: "fail",
    message: /services "tandem-webhook" not found/,
  });
  await cluster.must(["delete", "-f", "-"], text);
});

const VOLCANO_EXTENDER = ["", "-verbs", "-silence", "-order", "-cost", "-reachable"].map(
  (end) => `volcano-extender${end}`,
);

t.test("nothing is wrong with what was installed: the webhooks and the extender answer", async (t) => {
  const { code, found } = await doctor();
  t.same(withState(found, "fail", "warn"), []);
  t.equal(code, 0);
  t.match(found.get("extender-reachable"), { state: "ok", message: /answers 200/ });
  t.match(found.get("webhook-endpoints"), { state: "ok" });
  t.match(found.get("webhook-trust"), { state: "ok" });
  t.match(found.get("topology"), { state: "ok", message: "16 nodes in 2 tiers" });
  // No Volcano is configured here, and no workload is there.
  t.same(
    withState(found, "skip").map((text) => text.split(":")[0]),
    ["volcano-plugins", "queue", "scheduler-name", ...VOLCANO_EXTENDER],
  );
});

t.test("what disables gangs without a word is found", async (t) => {
  const volcano = "scheduling.volcano.sh/v1beta1";
  const conf = 'actions: "enqueue, allocate, backfill"\ntiers:\n- plugins:\n  - name: gang\n  - name: predicates\n';
  await cluster.must(["create", "namespace", "volcano-system"]);
  await cluster.apply([
    {
      apiVersion: volcano,
      kind: "Queue",
      metadata: { name: "research" },
      spec: { weight: 1 },
    },
    {
      apiVersion: volcano,
      kind: "PodGroup",
      metadata: { name: "by-hand", namespace: "default" },
      spec: {
        minMember: 1,
        minTaskMember: { prefill: 1, decode: 1 },
        queue: "research",
        networkTopology: { mode: "hard", highestTierAllowed: 1 },
      },
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "volcano-scheduler-configmap", namespace: "volcano-system" },
      data: { "volcano-scheduler.conf": conf },
    },
  ]);
  const closed = JSON.stringify({ status: { state: "Closed" } });
  const queue = "queues.scheduling.volcano.sh/research";
  await cluster.must(["patch", queue, "--subresource=status", "--type=merge", "-p", closed]);
  await cluster.must(["delete", "hypernodes.topology.volcano.sh", "--all"]);
  await tandem.stopRole("admission");
  const { code, found } = await doctor();
  t.equal(code, 1);
  const failed = withState(found, "fail", "warn");
  t.match(failed, [
    /^webhook-endpoints: .*ECONNREFUSED/,
    /^volcano-plugins: .*network-topology-aware, which PodGroup default\/by-hand relies on/,
    /^queue: queue research is Closed/,
    /^podgroup-sums: PodGroup default\/by-hand: minTaskMember sums to 2, minMember is 1/,
    /^topology: there are no HyperNodes/,
    /^extender-reachable: .*ECONNREFUSED/,
  ]);
  t.equal(failed.length, 6);
});
