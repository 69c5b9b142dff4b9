/** What becomes of Deployments over their life under admission: real API server, Deployment controller and kubectl. */
import t, { type Test } from "tap";
import { setTimeout as sleep } from "node:timers/promises";
import { LABEL, STATUS } from "../../src/kinds/names.ts";
import type { KubeObject, Pod, Workload } from "../../src/kinds/kube.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { drift } from "./cluster/drift.ts";
import { install, type Installation } from "./cluster/installation.ts";
import { labelledDeployment } from "./cluster/load.ts";
import { HAMI, ISTIO, KUEUE, startNeighbours } from "./cluster/neighbour.ts";
import { eventually } from "./cluster/process.ts";
import { buildProgram } from "./cluster/tandem.ts";

t.setTimeout(420_000);
const APPS = "/apis/apps/v1/namespaces/default";
/** The Deployment controller acts within a second; what has not rolled by then is not going to. */
const CALM_MS = 1500;
let cluster: Cluster;
let service: Installation;

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  service = await install(cluster, { replicas: 1, failurePolicy: "Fail" });
});
t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${service.logs()}`);
  await service.stop();
  await cluster.stop();
});

const deployment = async (name: string): Promise<Workload> =>
  (await cluster.api.get(`${APPS}/deployments/${name}`)) as Workload;
const planOf = ({ metadata }: KubeObject): string | undefined => metadata.annotations?.[STATUS.plan];
/** ReplicaSets of a Deployment: one for each template it ever had. */
const rollouts = async (name: string): Promise<number> =>
  (await cluster.api.list(`${APPS}/replicasets?labelSelector=app%3D${name}`)).length;
const rolled = (name: string, count: number): Promise<boolean> =>
  eventually(`${count} ReplicaSets of ${name}`, async () => {
    const found = await rollouts(name);
    if (found !== count) throw new Error(`${found}`);
    return true;
  });

/** Nothing rolls because of `act`. */
async function calm(t: Test, name: string, act: () => Promise<unknown>, what: string): Promise<void> {
  const before = await rollouts(name);
  await act();
  await sleep(CALM_MS);
  t.equal(await rollouts(name), before, `${what}: no rollout`);
}

const apply = (object: object, ...flags: string[]): Promise<string> =>
  cluster.must(["apply", ...flags, "-f", "-"], JSON.stringify(object));
const label = (name: string, ...labels: string[]): Promise<string> =>
  cluster.must(["label", "--overwrite", "deployment", name, ...labels]);
const OURS = [`${LABEL.model}=m`, `${LABEL.role}=decode`];
const NOT_OURS = [`${LABEL.model}-`, `${LABEL.role}-`];

t.test("a label on a running Deployment rolls it once; with mode route never", async (t) => {
  await apply(labelledDeployment("late", {}));
  await apply({ ...labelledDeployment("routed", {}) });
  await cluster.must(["annotate", "deployment", "routed", "tandem.sh/mode=route"]);
  await Promise.all([rolled("late", 1), rolled("routed", 1)]);
  await label("late", ...OURS);
  await rolled("late", 2);
  await calm(t, "late", () => cluster.must(["annotate", "deployment", "late", "note=x"]), "a foreign annotation");
  t.type(planOf(await deployment("late")), "string");
  await calm(t, "routed", () => label("routed", ...OURS), "mode route");
  t.equal(planOf(await deployment("routed")), undefined);
});

t.test("without the label what we injected goes, and nothing else, also after edits in between", async (t) => {
  const edits = async (name: string): Promise<void> => {
    await cluster.must(["set", "env", `deployment/${name}`, "MINE=1"]);
    await cluster.must(["annotate", "deployment", name, "note=y"]);
    const add = [{ op: "add", path: "/spec/template/spec/containers/0/args/-", value: "--enforce-eager" }];
    await cluster.must(["patch", "deployment", name, "--type=json", "-p", JSON.stringify(add)]);
  };
  await apply(labelledDeployment("twin", {}));
  await apply(labelledDeployment("guest", {}));
  await label("guest", ...OURS);
  await Promise.all(["twin", "guest"].map(edits));
  await label("guest", ...NOT_OURS);
  const [twin, guest] = await Promise.all(["twin", "guest"].map(deployment));
  const text = ({ metadata, spec }: Workload): unknown => {
    const annotations = { ...metadata.annotations };
    for (const key of ["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision"])
      Reflect.deleteProperty(annotations, key);
    return {
      annotations,
      labels: metadata.labels ?? {},
      spec: JSON.parse(JSON.stringify(spec).replaceAll("guest", "twin")) as unknown,
    };
  };
  t.same(text(guest!), text(twin!));
});

t.test(
  "applied again, client side and server side: nothing rolls, nothing drifts but what is documented",
  async (t) => {
    const manifest = labelledDeployment("applied");
    await apply(manifest);
    await rolled("applied", 1);
    await calm(t, "applied", () => apply(manifest), "client-side apply");
    const other = labelledDeployment("served");
    await apply(other, "--server-side");
    await rolled("served", 1);
    await calm(t, "served", () => apply(other, "--server-side"), "server-side apply");
    for (const [object, name, flags] of [
      [manifest, "applied", []],
      [other, "served", ["--server-side"]],
    ] as const) {
      const output = await cluster.kubectl(["diff", ...flags, "-f", "-"], JSON.stringify(object));
      t.equal(output.code, 0, `kubectl diff ${flags.join("")}: ${output.stdout}`);
      t.same(drift(object, await deployment(name)), [], "every field of the manifest is as it says");
    }
  },
);

t.test("rollout undo brings the old template back, with the old ReplicaSet", async (t) => {
  await apply(labelledDeployment("undone"));
  await rolled("undone", 1);
  const { spec } = await deployment("undone");
  await cluster.must(["set", "image", "deployment/undone", "engine=vllm/vllm-openai:v0.12.0"]);
  await rolled("undone", 2);
  await cluster.must(["rollout", "undo", "deployment/undone"]);
  await calm(t, "undone", () => Promise.resolve(), "after the undo");
  t.same((await deployment("undone")).spec.template, spec.template);
});

t.test("a dry run gives what the real thing gives", async (t) => {
  const path = `${APPS}/deployments`;
  const object = labelledDeployment("dry");
  const dry = (await cluster.api.post(`${path}?dryRun=All`, object)) as Workload;
  const real = (await cluster.api.post(path, object)) as Workload;
  const bytes = ({ metadata, spec }: Workload): string => JSON.stringify([metadata.labels, metadata.annotations, spec]);
  t.equal(bytes(dry), bytes(real));
  t.type(planOf(real), "string");
});

t.test("no-op updates and nodes do not reach the webhooks; what matters does", async (t) => {
  const { replicas } = service;
  const calls = async (): Promise<number> => {
    const page = await (await fetch(replicas[0]!.metrics)).text();
    const lines = page.match(/^tandem_admission_requests_total\{.*webhook="mutate".*\} \d+$/gm) ?? [];
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  };
  await apply(labelledDeployment("quiet"));
  await rolled("quiet", 1);
  await sleep(CALM_MS);
  const during = async (act: () => Promise<unknown>): Promise<number> => {
    const before = await calls();
    await act();
    return (await calls()) - before;
  };
  t.equal(await during(() => cluster.must(["annotate", "deployment", "quiet", "note=z"])), 0, "a foreign annotation");
  t.equal(
    await during(() => cluster.must(["annotate", "deployment", "quiet", "tandem.sh/gang=off"])),
    1,
    "a key of ours",
  );
  t.equal(await during(() => cluster.must(["annotate", "deployment", "quiet", `${STATUS.plan}-`])), 1, "a lost plan");
  t.ok(
    (await during(() => cluster.must(["scale", "deployment", "quiet", "--replicas=0"]))) === 0,
    "a Scale has no labels",
  );
});

t.test("kube-system and Tandem's own namespace are never touched", async (t) => {
  for (const namespace of ["kube-system", "tandem-system"]) {
    const found = await cluster.api.post(
      `/apis/apps/v1/namespaces/${namespace}/deployments?dryRun=All`,
      labelledDeployment("excluded"),
    );
    t.equal(planOf(found), undefined, namespace);
  }
});

t.test("another version of Tandem, that would plan otherwise, rolls nothing", async (t) => {
  const [old] = service.replicas;
  await apply(labelledDeployment("upgraded"));
  await rolled("upgraded", 1);
  const before = planOf(await deployment("upgraded"));
  const newer = await service.startReplica(["admission.defaultProfile=amd"]);
  await service.end(old!, "SIGTERM");
  await calm(t, "upgraded", () => cluster.must(["scale", "deployment", "upgraded", "--replicas=2"]), "scaled");
  await calm(t, "upgraded", () => apply(labelledDeployment("upgraded")), "applied again");
  t.equal(planOf(await deployment("upgraded")), before);
  await apply(labelledDeployment("fresh"));
  t.not(planOf(await deployment("fresh")), before, "it does plan otherwise");
  await service.startReplica([]);
  await service.end(newer, "SIGTERM");
});

for (const [when, name] of [
  ["before", (n: string): string => `a-${n}`],
  ["after", (n: string): string => `z-${n}`],
] as const)
  t.test(`HAMi, Istio and Kueue ${when} us: all changes are there, each once`, async (t) => {
    const stop = await startNeighbours(cluster, "default", [
      HAMI(name("hami")),
      ISTIO(name("istio")),
      KUEUE(name("kueue")),
    ]);
    const id = `beside-${when}`;
    await apply(labelledDeployment(id));
    const [pod] = await eventually<Pod[]>("its pod", async () => {
      const found = await cluster.pods("default", `app=${id}`);
      return found.length > 0 ? found : undefined;
    });
    await stop();
    const { spec } = pod!;
    t.equal(spec.schedulerName, "hami-scheduler");
    t.same(spec.containers.map((container) => container.name).sort(), ["engine", "istio-proxy"]);
    t.equal(spec.volumes?.filter((volume) => volume.name === "istio-envoy").length, 1);
    const gates = (spec.schedulingGates ?? []).map((gate) => gate.name);
    t.equal(gates.filter((gate) => gate === "kueue.x-k8s.io/admission").length, 1);
    t.equal(new Set(gates).size, gates.length);
    const engine = spec.containers.find((container) => container.name === "engine");
    t.ok(
      engine?.env?.some((variable) => variable.name.startsWith("TANDEM_")),
      "ours is there too",
    );
    const names = engine?.env?.map((variable) => variable.name) ?? [];
    t.equal(new Set(names).size, names.length, "no variable twice");
    t.same(engine?.args?.filter((argument) => argument === "--kv-transfer-config").length, 1);
  });

t.test("fifty Deployments relabelled at once: each rolls once", async (t) => {
  const names = Array.from({ length: 50 }, (_, index) => `fleet-${index}`);
  await cluster.must(["apply", "-f", "-"], names.map((name) => JSON.stringify(fleetMember(name))).join("\n---\n"));
  const all = (): Promise<KubeObject[]> => cluster.api.list(`${APPS}/replicasets?labelSelector=fleet%3Dyes`);
  await eventually("50 ReplicaSets", async () => ((await all()).length === 50 ? true : undefined), 60_000);
  await cluster.must(["label", "deployment", "-l", "fleet=yes", ...OURS]);
  await eventually("100 ReplicaSets", async () => ((await all()).length >= 100 ? true : undefined), 90_000);
  await sleep(2 * CALM_MS);
  t.equal((await all()).length, 100);
  const found = (await cluster.api.list(`${APPS}/deployments?labelSelector=fleet%3Dyes`)) as Workload[];
  t.ok(found.every((each) => planOf(each) !== undefined));
  // Created 1, labelled 2.
  t.same([...new Set(found.map(({ metadata }) => metadata["generation"]))], [2]);
});

function fleetMember(name: string): object {
  const object = labelledDeployment(name, { fleet: "yes" }) as Workload;
  object.spec.template.metadata!.labels = { ...object.spec.template.metadata!.labels, fleet: "yes" };
  return object;
}

t.test(
  "uninstalled and installed again under running workloads: no pod is replaced, pods start without Tandem",
  async (t) => {
    const uids = async (): Promise<string[]> =>
      (await cluster.pods("default")).map(({ metadata }) => metadata.uid ?? "").sort();
    await cluster.must(["delete", "deployment", "-l", "fleet=yes", "--wait=true"]);
    await eventually("pods at rest", async () => {
      const before = await uids();
      await sleep(CALM_MS);
      return (await uids()).join() === before.join() ? true : undefined;
    });
    const before = await uids();
    t.ok(before.length > 5);
    await service.stop();
    await cluster.must(["delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "tandem"]);
    await cluster.must([
      "delete",
      "secret",
      "-n",
      "tandem-system",
      "tandem-webhook-tls",
      "tandem-webhook-tls-authority",
    ]);
    await apply(labelledDeployment("native"));
    const [pod] = await eventually("a native pod", async () => {
      const found = await cluster.pods("default", "app=native");
      return found.length > 0 ? found : undefined;
    });
    t.notOk(JSON.stringify(pod).includes("TANDEM_"));
    t.equal(pod?.spec.schedulingGates, undefined);
    service = await install(cluster, { replicas: 1 });
    await sleep(2 * CALM_MS);
    const after = new Set(await uids());
    t.same(
      before.filter((uid) => !after.has(uid)),
      [],
      "every pod of before is there",
    );
  },
);
