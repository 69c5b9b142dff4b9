/**
 * The configurations for Envoy Gateway, Istio and InferencePools against the definitions of their own projects, on a real
 * API server; and the router as the picker of a pool there, under the rights that the manifest gives it.
 */
import t from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseObjects } from "../../src/cli/input.ts";
import { connectCluster } from "../../src/cli/roles/cluster.ts";
import { discover } from "../../src/cli/roles/discovery.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { gatewayCrds } from "./cluster/crds.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { REPOSITORY } from "./cluster/paths.ts";
import { eventually } from "./cluster/process.ts";

t.setTimeout(300_000);
const FILES = ["envoy-gateway", "inference-pool", "istio"] as const;
const textOf = (file: string): string => readFileSync(join(REPOSITORY, "manifests", "envoy", `${file}.yaml`), "utf8");
let cluster: Cluster;

t.before(async () => {
  cluster = await startCluster();
  await cluster.apply(await gatewayCrds());
  await cluster.must(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
  await cluster.must(["create", "namespace", "tandem-system"]);
  await cluster.addNodes({ tree: false });
});
t.teardown(async () => {
  if (!t.passing()) t.comment(cluster.logs());
  await cluster.stop();
});

for (const file of FILES)
  t.test(`${file}.yaml: every field is one of its kind, and every value one that it takes`, async (t) => {
    const args = ["apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-"];
    const { code, stderr } = await cluster.kubectl(args, textOf(file));
    t.equal(code, 0, stderr);
    t.equal(stderr, "", "no warnings");
    const wrong = textOf(file).replace("targetRefs:", "targetReffs:").replace("targetPorts:", "targetPortz:");
    t.not((await cluster.kubectl(args, wrong)).code, 0, "the server looks at them");
  });

const until = (what: string, holds: () => boolean): Promise<boolean> =>
  eventually(what, () => Promise.resolve(holds() || undefined));

/** The router's own file, and what it reads the cluster with. */
async function picker(): Promise<ReturnType<typeof createPorts>> {
  const objects = parseObjects(textOf("inference-pool"), "inference-pool.yaml");
  const map = objects.find(({ kind }) => kind === "ConfigMap") as KubeObject & { data: Record<string, string> };
  const kubeconfig = await cluster.kubeconfigFor("default", "qwen3-32b-picker");
  const flags = { "cluster.kubeconfig": kubeconfig };
  return createPorts(loadConfig({ text: map.data["tandem.yaml"] ?? "", flags }), SILENT_LOG);
}

const engine = (name: string, role: string, entry: string): object => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name,
    namespace: "default",
    labels: {
      "tandem.sh/model": "qwen3-32b",
      "tandem.sh/role": role,
      ...(entry === "" ? {} : { "tandem.sh/entry": entry }),
    },
  },
  spec: {
    nodeName: "node-0",
    containers: [{ name: "engine", image: "vllm/vllm-openai", args: ["--model", "Qwen/Qwen3-32B"] }],
  },
});

t.test("the router of the manifest is the picker of its pool, and of nothing else", async (t) => {
  await cluster.apply(textOf("inference-pool"));
  const [node] = await cluster.api.list("/api/v1/nodes");
  const pods = [engine("decode", "decode", "true"), engine("prefill", "prefill", ""), engine("rank-1", "decode", "")];
  const placed = pods.map(
    (pod) => JSON.parse(JSON.stringify(pod).replace("node-0", node?.metadata.name ?? "")) as object,
  );
  await cluster.apply(placed);
  const ports = await picker();
  const access = await connectCluster(ports, new Set(["router"]));
  t.teardown(() => access.stop());
  const { endpoints, synced } = discover(access, ports.config);
  await until("members of the pool", () => synced() && endpoints().length === 2);
  t.same(
    endpoints()
      .map(({ name, role, service }) => `${name} ${role} ${service}`)
      .sort(),
    ["decode decode qwen3-32b", "prefill prefill qwen3-32b"],
    "its member, and the prefill engine beside it",
  );
  const patch = { spec: { targetPorts: [{ number: 8123 }] } };
  const path = "/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools/qwen3-32b";
  await cluster.api.patch(path, "merge-patch", patch);
  await until("the new port", () => endpoints().some(({ address }) => address.endsWith(":8123")));
  await cluster.api.remove(path);
  await until("no pool, no endpoints", () => endpoints().length === 0 && !synced());
});
