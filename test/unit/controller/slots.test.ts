import t from "tap";
import { annotationOf, labelOf, type KubeObject, type Pod } from "../../../src/kinds/kube.ts";
import { LABEL, POD_DELETION_COST, STATUS } from "../../../src/kinds/names.ts";
import { perform, planFor, podOf, settle, workloadOf, type Shape, type World } from "../../support/instances.ts";

const worldOf = (shape: Shape, pods: readonly Pod[]): World => ({
  workloads: [workloadOf(shape)],
  pods: [...pods],
  services: [],
});
const many = (shape: Shape, count: number, hash = "h1"): Pod[] =>
  Array.from({ length: count }, (_, index) => podOf(shape, index, hash));
const said = (world: World): string[] => planFor(world).map(({ do: verb, verdict }) => `${verb} ${verdict.reason}`);
const gatesOf = ({ spec }: Pod): string[] => (spec.schedulingGates ?? []).map(({ name }) => name);
const instanceOf = (pod: Pod): string => labelOf(pod, LABEL.instance) ?? "";
const placeOf = (pod: Pod): string => `${instanceOf(pod)}/${labelOf(pod, LABEL.nodeRank) ?? ""}`;

t.test("the record is stored before any pod is let go", (t) => {
  const world = worldOf({ replicas: 2 }, many({}, 2));
  t.same(said(world), ["apply InstanceFormed"]);
  for (const action of planFor(world)) perform(world, action);
  t.same(said(world), ["patch InstanceRanked", "patch InstanceRanked"]);
  settle(world);
  t.same(said(world), [], "and then there is nothing to do");
  t.end();
});

t.test("a pod gets its whole place in one patch, and only our gate is lifted", (t) => {
  const world = worldOf({ replicas: 2 }, many({}, 2));
  settle(world);
  const [leader, other] = world.pods as [Pod, Pod];
  const [service] = world.services as [KubeObject];
  t.equal(instanceOf(leader), instanceOf(other));
  t.same(
    [leader, other].map((pod) => labelOf(pod, LABEL.nodeRank)),
    ["0", "1"],
  );
  t.same(gatesOf(leader), ["kueue"], "others' gates are theirs");
  t.match(other.metadata.annotations, {
    [STATUS.leader]: `${service.metadata.name ?? ""}.a.svc`,
    [STATUS.rankStart]: "2",
    [STATUS.nodeArgument]: "--headless",
    [STATUS.addressArgument]: "--host=",
    [STATUS.members]: `${leader.metadata.uid ?? ""},${other.metadata.uid ?? ""}`,
  });
  t.match(leader.metadata.annotations, {
    [STATUS.rankStart]: "0",
    [STATUS.nodeArgument]: "--data-parallel-size=4",
    [STATUS.addressArgument]: "--data-parallel-address=",
  });
  t.equal(annotationOf(leader, POD_DELETION_COST), annotationOf(other, POD_DELETION_COST), "scaled in together");
  t.match(annotationOf(leader, POD_DELETION_COST), /^\d{1,9}$/);
  t.match(service, {
    metadata: {
      name: /^tandem-w-[0-9a-f]{12}$/,
      ownerReferences: [{ kind: "Deployment", name: "w", uid: "uid-w" }],
    },
    spec: {
      clusterIP: "None",
      publishNotReadyAddresses: true,
      selector: { [LABEL.instance]: instanceOf(leader), [LABEL.nodeRank]: "0" },
    },
  });
  t.end();
});

t.test("who is routed to follows the mode of data parallelism and the role", (t) => {
  const entries = (annotations: Record<string, string>, role = "decode"): (string | undefined)[] => {
    const shape: Shape = { replicas: 2, role, annotations };
    const world = worldOf(shape, many(shape, 2));
    settle(world);
    return world.pods.map((pod) => labelOf(pod, LABEL.entry));
  };
  t.same(entries({}), ["true", undefined], "internal: the leader alone");
  t.same(entries({ "tandem.sh/dp-mode": "hybrid" }), ["true", "true"]);
  t.same(entries({ "tandem.sh/dp-mode": "external" }), ["true", "true"]);
  t.same(entries({ "tandem.sh/rank-ports": "9123+2" }), ["true", "true"]);
  t.same(entries({ "tandem.sh/dp-mode": "external" }, "prefill"), [undefined, undefined], "never prefill");
  t.end();
});

t.test("templates are never mixed, and what is left over waits with a word about it", (t) => {
  const world = worldOf({ replicas: 3 }, [podOf({}, 0, "h1"), podOf({}, 1, "h2"), podOf({}, 2, "h2")]);
  settle(world);
  t.same(
    world.pods.map((pod) => instanceOf(pod) !== ""),
    [false, true, true],
  );
  t.same(said(world), ["tell InstanceWaiting"]);
  t.match(planFor(world)[0]?.verdict.message, /1 pods wait for an instance of 2: 1 are missing/);
  t.end();
});

t.test("a lost member takes the instance out of routing and replaces it; the new one has a new name", (t) => {
  const world = worldOf({ replicas: 2 }, many({}, 2));
  settle(world);
  const before = instanceOf(world.pods[0] as Pod);
  world.pods = [world.pods[0] as Pod];
  t.same(said(world), ["tell InstanceBroken", "patch InstanceBroken", "remove InstanceBroken"]);
  const [, drain] = planFor(world);
  if (drain !== undefined) perform(world, drain);
  t.match(world.pods[0]?.metadata, { annotations: { [STATUS.drain]: "instance-broken" } });
  t.equal(labelOf(world.pods[0] as Pod, LABEL.entry), undefined);
  settle(world);
  t.same([world.pods.length, world.services.length], [0, 0]);
  world.pods = [podOf({}, 7), podOf({}, 8)];
  settle(world);
  t.equal(new Set(world.pods.map(instanceOf)).size, 1);
  t.not(instanceOf(world.pods[0] as Pod), before);
  t.end();
});

t.test("a member that is over or on its way out is gone as well", (t) => {
  for (const change of [
    (pod: Pod): Pod => ({ ...pod, status: { phase: "Failed" } }),
    (pod: Pod): Pod => ({ ...pod, status: { phase: "Succeeded" } }),
    (pod: Pod): Pod => ({ ...pod, metadata: { ...pod.metadata, deletionTimestamp: "2026-01-01T01:00:00Z" } }),
    (pod: Pod): Pod => ({ ...pod, metadata: { ...pod.metadata, uid: "another" } }),
  ]) {
    const world = worldOf({ replicas: 2 }, many({}, 2));
    settle(world);
    world.pods = [world.pods[0] as Pod, change(world.pods[1] as Pod)];
    t.ok(said(world).includes("remove InstanceBroken"));
  }
  t.end();
});

t.test("recovery platform: out of routing, and left to others", (t) => {
  const shape: Shape = { replicas: 2, annotations: { "tandem.sh/recovery": "platform" } };
  const world = worldOf(shape, many(shape, 2));
  settle(world);
  world.pods = [...world.pods.slice(1), podOf(shape, 5)];
  settle(world);
  t.same(said(world), ["tell InstanceBroken", "tell InstanceWaiting"]);
  t.equal(annotationOf(world.pods[0] as Pod, STATUS.drain), "instance-broken");
  world.pods = [...world.pods.slice(1), podOf(shape, 6)];
  settle(world);
  t.equal(new Set(world.pods.map(instanceOf)).size, 1, "and new pods become an instance of their own");
  t.notOk(world.pods.map(instanceOf).includes(""));
  t.end();
});

t.test("a member lost before any was let go costs no pod that waits", (t) => {
  const world = worldOf({ replicas: 2 }, many({}, 2));
  for (const action of planFor(world)) perform(world, action);
  world.pods = [world.pods[1] as Pod, podOf({}, 3)];
  t.same(said(world), ["remove InstanceRemoved", "tell InstanceWaiting"]);
  settle(world);
  t.same(
    world.pods.map(placeOf),
    [0, 1].map((rank) => `${instanceOf(world.pods[0] as Pod)}/${rank}`),
  );
  t.end();
});

t.test("a controller that stopped half way goes on where it was", (t) => {
  const world = worldOf({ replicas: 2 }, many({}, 2));
  for (const action of planFor(world)) perform(world, action);
  const [first] = planFor(world);
  if (first !== undefined) perform(world, first);
  t.same(said(world), ["patch InstanceRanked"], "the other one of the same record");
  settle(world);
  t.equal(new Set(world.pods.map(instanceOf)).size, 1);
  t.end();
});

t.test("a Service that somebody deleted or changed is written again, also while pods still wait", (t) => {
  const world = worldOf({ replicas: 2 }, many({}, 2));
  for (const action of planFor(world)) perform(world, action);
  const [first] = planFor(world);
  if (first !== undefined) perform(world, first);
  world.services = [];
  settle(world);
  t.equal(world.services.length, 1);
  t.equal(new Set(world.pods.map(instanceOf)).size, 1);
  const [service] = world.services as [KubeObject];
  world.services = [{ ...service, spec: { clusterIP: "None", selector: { app: "mine" } } }];
  t.same(said(world), ["apply InstanceFormed"]);
  t.end();
});

t.test("a StatefulSet's own numbers are the ranks", (t) => {
  const shape: Shape = { kind: "StatefulSet", replicas: 4 };
  const world = worldOf(
    shape,
    [3, 1, 2].map((index) => podOf(shape, index)),
  );
  settle(world);
  t.same(
    world.pods.map((pod) => labelOf(pod, LABEL.nodeRank)),
    ["1", undefined, "0"],
    "2 and 3 are an instance; 1 waits for 0",
  );
  world.pods = [...world.pods, podOf(shape, 0)];
  settle(world);
  t.same(
    world.pods.map((pod) => labelOf(pod, LABEL.nodeRank)),
    ["1", "1", "0", "0"],
  );
  t.equal(annotationOf(world.pods[0] as Pod, POD_DELETION_COST), undefined, "ordinals say who goes first");
  t.end();
});

t.test("a StatefulSet may begin to count elsewhere", (t) => {
  const shape: Shape = { kind: "StatefulSet", replicas: 4 };
  const world = worldOf(
    shape,
    [3, 4, 5, 6].map((index) => podOf(shape, index)),
  );
  const [set] = world.workloads;
  if (set !== undefined) set.spec["ordinals"] = { start: 3 };
  settle(world);
  t.same(
    world.pods.map((pod) => labelOf(pod, LABEL.nodeRank)),
    ["0", "1", "0", "1"],
  );
  t.equal(instanceOf(world.pods[0] as Pod), instanceOf(world.pods[1] as Pod));
  t.end();
});

t.test("instances on the host's network have ports of their own, over the whole cluster", (t) => {
  const shape: Shape = { replicas: 4, hostNetwork: true };
  const world = worldOf(shape, many(shape, 4));
  settle(world);
  const ports = world.pods.map((pod) => annotationOf(pod, STATUS.portBase));
  const blocks = (): number[] => [...new Set(world.pods.map((pod) => Number(annotationOf(pod, STATUS.portBase))))];
  t.same([ports[0], ports[2]], [ports[1], ports[3]], "one block for each instance");
  t.equal(blocks().length, 2);
  t.ok(blocks().every((port) => port >= 14000 && (port - 14000) % 64 === 0 && (port - 14000) / 64 < 93));
  world.pods = world.pods.slice(1);
  settle(world);
  world.pods = [...world.pods, podOf(shape, 8), podOf(shape, 9)];
  settle(world);
  t.equal(blocks().length, 2);
  t.end();
});

t.test("a record that was not seen yet is written again with the same ports, whoever came meanwhile", (t) => {
  const shape: Shape = { replicas: 4, hostNetwork: true };
  const [a, b, c, d] = many(shape, 4) as [Pod, Pod, Pod, Pod];
  const portsOf = (pods: readonly Pod[]): string[] =>
    planFor(worldOf(shape, pods)).flatMap((action) =>
      action.do === "apply" ? [annotationOf(action.object, STATUS.portBase) ?? ""] : [],
    );
  const [first] = portsOf([c, d]);
  t.equal(portsOf([a, b, c, d])[1], first);
  t.not(portsOf([a, b, c, d])[0], first);
  t.end();
});

t.test("what a template forges is not believed", (t) => {
  const forged = many({}, 2).map((pod) => {
    const copy = structuredClone(pod);
    copy.metadata.labels = { ...copy.metadata.labels, [LABEL.instance]: "theirs" };
    copy.metadata.annotations = { ...copy.metadata.annotations, [STATUS.members]: "x,y" };
    return copy;
  });
  const world = worldOf({ replicas: 2 }, forged);
  settle(world);
  t.notOk(world.pods.map(instanceOf).includes("theirs"));
  t.equal(new Set(world.pods.map(placeOf)).size, 2);
  t.end();
});

/** Seconds after midnight, at which the pods were made. */
const at = (seconds: number): string => new Date(Date.UTC(2026, 0, 1, 0, 0, seconds)).toISOString().replace(".000", "");
interface Life {
  readonly ready: boolean;
  readonly since?: number;
  readonly began?: number;
  /** The run before this one. */
  readonly ended?: number;
}
const alive = (pod: Pod, { ready, since = 10, began = 10, ended }: Life): Pod => ({
  ...pod,
  status: {
    phase: "Running",
    podIP: "10.0.0.1",
    conditions: [{ type: "Ready", status: ready ? "True" : "False", lastTransitionTime: at(since) }],
    containerStatuses: [
      {
        ...{ name: "e", started: true, restartCount: ended === undefined ? 0 : 1 },
        state: { running: { startedAt: at(began) } },
        ...(ended === undefined ? {} : { lastState: { terminated: { finishedAt: at(ended) } } }),
      },
    ],
  },
});
function live(shape: Shape = {}, served = true): World {
  const world = worldOf({ replicas: 2, ...shape }, many(shape, 2));
  settle(world);
  world.pods = world.pods.map((pod) => alive(pod, { ready: true }));
  if (served) settle(world);
  return world;
}
const become = (world: World, life: Life): void => {
  world.pods = [world.pods[0] as Pod, alive(world.pods[1] as Pod, life)];
};
const saidAt = (world: World, seconds: number): string[] =>
  planFor(world, Date.UTC(2026, 0, 1, 0, 0, seconds)).map(({ do: verb, verdict }) => `${verb} ${verdict.reason}`);
const routed = ({ pods }: World): unknown[] =>
  pods.map((pod) => [labelOf(pod, LABEL.entry), annotationOf(pod, STATUS.drain)]);

t.test("a member that is not ready takes the whole instance out of routing, and in again", (t) => {
  const world = live();
  t.same(saidAt(world, 100), []);
  become(world, { ready: false, since: 100 });
  t.same(saidAt(world, 100), ["tell InstanceUnready", "patch InstanceUnready", "patch InstanceUnready"]);
  settle(world);
  t.same(routed(world), [
    [undefined, "instance-unready"],
    [undefined, "instance-unready"],
  ]);
  t.same(saidAt(world, 219), ["tell InstanceUnready"], "and nothing more, for a while");
  become(world, { ready: true });
  settle(world);
  t.same(routed(world), [
    ["true", undefined],
    [undefined, undefined],
  ]);
  t.same(saidAt(world, 220), []);
  t.end();
});

t.test("a member that is ready no more for two minutes is replaced with its instance", (t) => {
  for (const [recovery, removes] of [
    ["tandem", 2],
    ["platform", 0],
  ] as const) {
    const world = live({ annotations: { "tandem.sh/recovery": recovery } });
    become(world, { ready: false, since: 100 });
    settle(world);
    t.same(saidAt(world, 220).filter((one) => one === "remove InstanceBroken").length, removes, recovery);
  }
  t.end();
});

t.test("an engine that never was ready still loads its model, and is not judged", (t) => {
  const world = live({}, false);
  become(world, { ready: false });
  t.same(saidAt(world, 3600), []);
  become(world, { ready: true });
  t.same(saidAt(world, 3600), ["patch InstanceReady"], "remembered once");
  settle(world);
  t.same(saidAt(world, 3600), []);
  t.end();
});

t.test("a rank that restarts under its peers breaks the instance; one that fails before they begin does not", (t) => {
  const world = live({}, false);
  become(world, { ready: true, began: 30, ended: 20 });
  const [told, ...rest] = planFor(world, Date.UTC(2026, 0, 1, 0, 0, 40));
  t.match(told?.verdict, { reason: "InstanceBroken", message: /w-h1-1 was restarted under its peers.*old enough/ });
  t.same(
    rest.map(({ do: verb }) => verb),
    ["patch", "patch"],
    "out at once, but a start that fails is not repeated without end",
  );
  t.same(saidAt(world, 70).filter((one) => one === "remove InstanceBroken").length, 2);
  settle(world);
  t.same(routed(world), [
    [undefined, "instance-broken"],
    [undefined, "instance-broken"],
  ]);
  const served = live();
  become(served, { ready: true, began: 30, ended: 20 });
  t.same(saidAt(served, 40).filter((one) => one === "remove InstanceBroken").length, 2, "at once, if it ever served");
  const early = live();
  become(early, { ready: true, began: 9, ended: 8 });
  t.same(saidAt(early, 100), []);
  t.end();
});

t.test("pods that wait are freed where their workload asks for instances no more", (t) => {
  const route = workloadOf({ annotations: { "tandem.sh/mode": "route", "tandem.sh/nodes-per-instance": "1" } });
  for (const workloads of [[], [route]]) {
    const bare = many({}, 2).map((pod) => ({ ...pod, metadata: { ...pod.metadata, annotations: {} } }));
    const world: World = { workloads, pods: bare, services: [] };
    const freed = (seconds: number): string[] => saidAt(world, seconds).filter((one) => one === "patch Released");
    t.same(freed(120), [], "the workload may be on its way: a watch that broke is back after two minutes");
    t.same(freed(160).length, 2);
    for (const action of planFor(world, Date.UTC(2026, 0, 1, 0, 3))) perform(world, action);
    t.same(world.pods.map(gatesOf), [["kueue"], ["kueue"]]);
    t.same(freed(200), []);
  }
  t.end();
});
