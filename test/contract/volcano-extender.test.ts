/**
 * Calls of a real vc-scheduler 1.15.1, recorded with their answers while test/e2e/volcano-extender.test.ts ran; of the
 * objects in them only managedFields was left out. In the cluster they tell of, the same calls get the same answers.
 */
import t from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { HyperNode, Node, Pod, Workload } from "../../src/kinds/kube.ts";
import { decodeEvictees, decodeJob, decodePredicate, type Task } from "../../src/extender/volcano/wire.ts";
import { gangDeployments, type GangShape } from "../e2e/cluster/gangs.ts";
import { fakeNodes, hyperNodeTree, type NodeOptions } from "../e2e/cluster/nodes.ts";
import { pod, snapshotOf } from "../support/placement.ts";
import { serveVolcano } from "../support/volcano.ts";

interface Frame {
  readonly verb: string;
  readonly what: string;
  readonly request: unknown;
  readonly reply: unknown;
}

const frames = readFileSync(join(import.meta.dirname, "volcano-extender.jsonl"), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Frame);
const frame = (what: string): Frame => frames.find((one) => one.what === what) as Frame;

const ASCEND = "huawei.com/Ascend910";
const NPUS: NodeOptions = { prefix: "npu", count: 2, resource: ASCEND };
const GPUS: NodeOptions = { prefix: "gpu", count: 4, leafSize: 2 };
const workloads = (gang: Omit<GangShape, "prefill" | "decode">): Workload[] =>
  gangDeployments({ prefill: 1, decode: 1, ...gang }).map(
    (object) => ({ ...object, metadata: { ...object.metadata, namespace: "volcano" } }) as Workload,
  );
const required = { "tandem.sh/topology": "required", "tandem.sh/topology-tier": "1" };
const gpuCluster = {
  nodes: fakeNodes(GPUS) as Node[],
  hyperNodes: hyperNodeTree(GPUS) as HyperNode[],
  workloads: workloads({ name: "close", annotations: required }),
};

/** As the store has it: the node that the session chose is not its node yet. */
const unbound = ({ pod: one }: Task): Pod => {
  const spec = { ...one.spec };
  delete spec.nodeName;
  return { ...one, spec };
};

t.test("jobReady of half a cell, and of another's job", async (t) => {
  const { request, reply, verb } = frame("half a cell");
  const { uid, tasks } = decodeJob(request);
  t.match(uid, /^volcano\/tandem-vetoed-/);
  t.equal(tasks[0]?.status, 2);
  t.ok(tasks[0]?.pod.spec.nodeName, "the pod carries the node of the session");
  const annotations = { "tandem.sh/scheduler": "volcano", "tandem.sh/accelerator": "mindcluster-910" };
  const served = await serveVolcano(
    snapshotOf({
      nodes: fakeNodes(NPUS) as Node[],
      workloads: workloads({ name: "vetoed", resource: ASCEND, annotations }),
      pods: tasks.map(unbound),
    }),
  );
  served.now = Date.parse(tasks[0]?.pod.metadata.creationTimestamp ?? "") + 5000;
  t.same((await served.post(verb, request)).body, reply);
  served.now += 120_000;
  t.same((await served.post(verb, request)).body, { status: true }, "a veto ends by itself");
  const other = frame("another's job");
  t.same((await served.post(other.verb, other.request)).body, other.reply);
});

t.test("predicate and prioritize in a required domain", async (t) => {
  const tenant = { ...pod("tenant", { model: null, gpus: 8, nodeName: "gpu-00" }) };
  for (const what of ["outside the domain", "inside the domain"]) {
    const { request, reply, verb } = frame(what);
    const served = await serveVolcano(
      snapshotOf({ ...gpuCluster, pods: [tenant, unbound(decodePredicate(request).task)] }),
    );
    t.same((await served.post(verb, request)).body, reply, what);
  }
  const { request, reply, verb } = frame("both nodes of the leaf");
  const served = await serveVolcano(snapshotOf({ ...gpuCluster, pods: [tenant] }));
  const { nodeScore } = (await served.post(verb, request)).body as { nodeScore: Record<string, number> };
  t.same(Object.keys(nodeScore).sort(), Object.keys((reply as { nodeScore: object }).nodeScore).sort());
});

t.test("preemptable, for a pod that the gang cannot do without", async (t) => {
  const { request, reply, verb } = frame("the only prefill or decode pod");
  const [evictee] = decodeEvictees(request);
  const one = evictee?.task.pod as Pod;
  const role = one.metadata.labels?.["tandem.sh/role"] === "prefill" ? "decode" : "prefill";
  const labels = { ...one.metadata.labels, "tandem.sh/role": role };
  const other = { ...one, metadata: { ...one.metadata, name: "other", uid: "other", labels } };
  const served = await serveVolcano(snapshotOf({ ...gpuCluster, pods: [one, other] }));
  t.same((await served.post(verb, request)).body, reply);
});

t.test("what changes nothing", async (t) => {
  const served = await serveVolcano(snapshotOf(gpuCluster));
  for (const { verb, request, reply } of frames.filter(({ verb }) => /Func$|^queue/.test(verb)))
    t.same(await served.post(verb, request), { status: 200, body: reply }, verb);
});
