/** What is written for a decision, step by step, on a cluster that does what Kubernetes does. */
import t from "tap";
import { startAutoscaler, type Autoscaler } from "../../../src/autoscaler/loop.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import { AUTOSCALING_STATUS, DRAIN_UNREADY, POD_DELETION_COST, STATUS } from "../../../src/kinds/names.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { createMetrics } from "../../../src/telemetry/metrics.ts";
import { lastScaled } from "../../../src/workload/draining.ts";
import { EPOCH, ScalingCluster } from "../../support/scaling-cluster.ts";

interface Running {
  readonly autoscaler: Autoscaler;
  readonly observer: ReturnType<ScalingCluster["observer"]>;
  readonly metrics: ReturnType<typeof createMetrics>;
}

function start(t: { teardown(fn: () => Promise<void>): void }, cluster: ScalingCluster): Running {
  const [observer, client, metrics] = [cluster.observer(), cluster.client("one"), createMetrics()];
  const autoscaler = startAutoscaler({
    config: loadConfig().autoscaler,
    observer,
    decider: cluster.decider(),
    snapshot: () => cluster.snapshot(),
    synced: () => true,
    isLeader: () => true,
    reader: client,
    writer: client,
    clock: cluster.time,
    timers: cluster.time,
    random: { next: () => 0.5, id: () => "" },
    log: SILENT_LOG,
    metrics,
  });
  t.teardown(() => autoscaler.stop());
  return { autoscaler, observer, metrics };
}

const drained = (cluster: ScalingCluster, id: string): (string | undefined)[] =>
  cluster
    .pods(id)
    .filter((pod) => cluster.annotations(pod)[AUTOSCALING_STATUS.draining] !== undefined)
    .map(({ metadata }) => metadata.uid);

const kinds = (cluster: ScalingCluster): string[] => cluster.writes.map(({ what }) => what);
const uids = (pods: readonly Pod[]): (string | undefined)[] => pods.map(({ metadata }) => metadata.uid);

t.test("more replicas: what is to be asked for, then the number, then the Event", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  cluster.targets.set(id, 4);
  start(t, cluster);
  await cluster.pass(250);
  t.equal(cluster.replicas(id), 4);
  t.same(kinds(cluster), ["annotate", "scale", "event"]);
  t.match(cluster.events, [{ reason: "ScaledOut", message: "2 to 4 instances: demand 40 / 10 = 4", about: "d" }]);
  t.match(cluster.workload(id).metadata.annotations, {
    [AUTOSCALING_STATUS.recommendation]: "4",
    [AUTOSCALING_STATUS.lastScale]: `2 -> 4 ${new Date(EPOCH).toISOString()}`,
    [AUTOSCALING_STATUS.status]: '{"mode":"auto","desired":4,"why":"ScaledOut"}',
  });
  t.equal(lastScaled(cluster.workload(id), EPOCH + 100_000), 4);
});

t.test("fewer: the least busy drains, and goes when it has been idle", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 3 });
  const [a, b, c] = cluster.pods(id) as [Pod, Pod, Pod];
  cluster.run(a, 5);
  cluster.run(b, 1);
  cluster.run(c, 9);
  cluster.targets.set(id, 2);
  start(t, cluster);
  await cluster.pass(20_000);
  t.same(drained(cluster, id), uids([b]));
  t.match(cluster.annotations(b), { [STATUS.drain]: "scale-in" });
  t.equal(cluster.replicas(id), 3, "it still has a request");
  cluster.run(b, 0);
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 2);
  t.same(cluster.deleted, uids([b]));
  t.match(cluster.events, [{ reason: "ScaledIn" }]);
  t.same(
    kinds(cluster).filter((what) => what !== "annotate" && what !== "event"),
    ["drain", "mark", "scale"],
  );
});

t.test("an engine that does not come to its end goes when its time is over", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2, scaling: { drainTimeoutMs: 30_000 } });
  for (const pod of cluster.pods(id)) cluster.run(pod, 3);
  cluster.targets.set(id, 1);
  const { metrics } = start(t, cluster);
  await cluster.pass(25_000);
  t.equal(cluster.replicas(id), 2);
  await cluster.pass(15_000);
  t.equal(cluster.replicas(id), 1);
  t.match(cluster.events[0]?.message, /1 had requests left when the time to drain was over/);
  t.match(await metrics.page(), /tandem_autoscaler_drains_total\{end="late"\} 1/);
});

t.test("an idle prefill engine that holds KV stays until it is fetched, or its lease is over", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("p", { replicas: 2, role: "prefill", scaling: { drainTimeoutMs: 120_000 } });
  for (const pod of cluster.pods(id)) cluster.run(pod, 0, { kvUsage: 0.2 });
  cluster.targets.set(id, 1);
  start(t, cluster);
  await cluster.pass(25_000);
  t.equal(cluster.replicas(id), 2);
  await cluster.pass(25_000);
  t.equal(cluster.replicas(id), 1, "after 30 s of the lease");
});

t.test("standby: drained, it stays to be taken back", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2, scaling: { standbyMs: 60_000 } });
  cluster.targets.set(id, 1);
  start(t, cluster);
  await cluster.pass(60_000);
  t.equal(cluster.replicas(id), 2);
  t.equal(drained(cluster, id).length, 1);
  cluster.targets.set(id, 2);
  await cluster.pass(6000);
  t.same(drained(cluster, id), []);
  cluster.targets.set(id, 1);
  await cluster.pass(95_000);
  t.equal(cluster.replicas(id), 1);
});

t.test("what drains is taken back before more are asked for, with the cost that it had", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 3 });
  const pods = cluster.pods(id);
  for (const pod of pods) cluster.annotate(pod, { [POD_DELETION_COST]: "7" });
  cluster.targets.set(id, 1);
  cluster.refuse = ({ what }) => (what === "scale" ? { status: 500 } : "pass");
  start(t, cluster);
  await cluster.pass(30_000);
  t.equal(drained(cluster, id).length, 2);
  t.equal(pods.filter((pod) => cluster.annotations(pod)[POD_DELETION_COST] === "-2147483648").length, 2);
  cluster.refuse = () => "pass";
  cluster.writes.length = 0;
  cluster.targets.set(id, 4);
  await cluster.pass(20_000);
  t.same(kinds(cluster).slice(0, 4), ["release", "release", "annotate", "scale"]);
  t.equal(cluster.replicas(id), 4);
  for (const pod of pods) t.same(cluster.annotations(pod), { [POD_DELETION_COST]: "7" });
});

t.test("what is not ready goes first, undrained and unmarked", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  cluster.startMs = 600_000;
  cluster.targets.set(id, 4);
  start(t, cluster);
  await cluster.pass(1000);
  const young = uids(cluster.pods(id).slice(2));
  cluster.targets.set(id, 2);
  await cluster.pass(10_000);
  t.equal(cluster.replicas(id), 2);
  t.same(cluster.deleted.toSorted(), young);
  t.same(cluster.whatWas("drain"), []);
  t.same(cluster.whatWas("mark"), []);
});

t.test("one that fails while another drains goes in its place", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 3 });
  const [a, b, c] = cluster.pods(id) as [Pod, Pod, Pod];
  for (const pod of [a, b, c]) cluster.run(pod, pod === a ? 1 : 5);
  cluster.targets.set(id, 2);
  start(t, cluster);
  await cluster.pass(8000);
  t.same(drained(cluster, id), uids([a]));
  cluster.ready(b, false);
  cluster.run(b, 0);
  await cluster.pass(15_000);
  t.same(cluster.deleted, uids([b]));
  t.same(drained(cluster, id), []);
});

t.test("a StatefulSet loses its highest ordinals, whole instances from the top", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("s", { kind: "StatefulSet", replicas: 8, nodes: 2 });
  const pods = cluster.pods(id);
  cluster.run(pods[4]!, 3);
  cluster.targets.set(id, 2);
  start(t, cluster);
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 6, "the instance in the middle still works");
  t.same(drained(cluster, id), uids(pods.slice(4, 6)));
  cluster.run(pods[4]!, 0);
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 4);
  t.same(cluster.deleted.toSorted(), uids(pods.slice(4)));
  t.same(cluster.whatWas("mark"), []);
});

t.test("a LeaderWorkerSet counts groups", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("l", { kind: "LeaderWorkerSet", replicas: 3, nodes: 2 });
  const pods = cluster.pods(id);
  cluster.targets.set(id, 2);
  start(t, cluster);
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 2);
  t.same(cluster.deleted.toSorted(), uids(pods.slice(4)));
  t.match(cluster.workload(id).metadata.annotations?.[AUTOSCALING_STATUS.lastScale], /^3 -> 2 /);
});

t.test("an instance over several pods of a Deployment goes whole", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 6, nodes: 2 });
  const pods = cluster.pods(id);
  pods.forEach((pod, at) => cluster.annotate(pod, { [POD_DELETION_COST]: String(100 + Math.floor(at / 2)) }));
  for (const at of [0, 4]) cluster.run(pods[at]!, 2);
  cluster.targets.set(id, 2);
  start(t, cluster);
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 4);
  t.same(cluster.deleted.toSorted(), uids(pods.slice(2, 4)));
});

t.test("two instances with a pod each that is not ready: Kubernetes would tear both, so it waits", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 4, nodes: 2 });
  const pods = cluster.pods(id);
  for (const at of [0, 2]) cluster.ready(pods[at]!, false);
  cluster.targets.set(id, 1);
  start(t, cluster);
  await cluster.pass(20_000);
  t.equal(cluster.replicas(id), 4);
  cluster.ready(pods[0]!);
  await cluster.pass(10_000);
  t.equal(cluster.replicas(id), 2);
  t.same(cluster.deleted.toSorted(), uids(pods.slice(2)));
});

t.test("no shrink during a rollout; growth all the same", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 3 });
  cluster.targets.set(id, 2);
  start(t, cluster);
  await cluster.pass(5000);
  t.equal(drained(cluster, id).length, 1);
  cluster.roll(id, true);
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 3);
  t.same(drained(cluster, id), []);
  cluster.targets.set(id, 4);
  await cluster.pass(6000);
  t.equal(cluster.replicas(id), 4);
});

t.test("nothing is written but the recommendation where nobody asked for more", async (t) => {
  for (const scaling of [{ mode: "recommend" }, { actuator: "none" }, { actuator: "keda" }] as const) {
    const cluster = new ScalingCluster();
    const id = cluster.add("d", { replicas: 3, scaling });
    cluster.targets.set(id, 5);
    start(t, cluster);
    await cluster.pass(10_000);
    t.same(kinds(cluster), ["annotate"], JSON.stringify(scaling));
    t.equal(cluster.workload(id).metadata.annotations?.[AUTOSCALING_STATUS.recommendation], "5");
  }
});

t.test("a mode that is switched off in the middle gives back what drains", async (t) => {
  for (const end of ["recommend", "gone"] as const) {
    const cluster = new ScalingCluster();
    const id = cluster.add("d", { replicas: 3 });
    for (const pod of cluster.pods(id)) cluster.run(pod, 1);
    cluster.targets.set(id, 1);
    start(t, cluster);
    await cluster.pass(6000);
    t.equal(drained(cluster, id).length, 2);
    if (end === "gone") cluster.forget(id);
    else cluster.rescale(id, { mode: "recommend" });
    await cluster.pass(10_000);
    t.same(drained(cluster, id), [], end);
    t.equal(cluster.replicas(id), 3);
  }
});

t.test("a budget of somebody else spares instances; Tandem's own is not asked", async (t) => {
  const budget = (labels: Record<string, string>, allowed: number): KubeObject => ({
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: "keep", namespace: "a", labels },
    spec: { selector: { matchLabels: { app: "d" } } },
    status: { disruptionsAllowed: allowed },
  });
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 4 });
  cluster.budgets = [budget({}, 1)];
  cluster.targets.set(id, 1);
  start(t, cluster);
  await cluster.pass(6000);
  t.equal(drained(cluster, id).length, 1);
  await cluster.pass(10_000);
  t.match(cluster.workload(id).metadata.annotations?.[AUTOSCALING_STATUS.status], /"why":"ScaleInBudget"/);
  cluster.budgets = [budget({ "tandem.sh/owned-by": "controller" }, 0)];
  cluster.annotate(cluster.pods(id)[0]!, {});
  await cluster.pass(60_000);
  t.equal(cluster.replicas(id), 1);
});

t.test("the controller's drain is not undone, and does not undo", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  const [a, b] = cluster.pods(id) as [Pod, Pod];
  cluster.run(a, 1);
  cluster.run(b, 9);
  cluster.annotate(a, { [STATUS.drain]: DRAIN_UNREADY });
  cluster.targets.set(id, 1);
  start(t, cluster);
  await cluster.pass(2000);
  t.equal(cluster.annotations(a)[STATUS.drain], DRAIN_UNREADY);
  t.same(drained(cluster, id), uids([a]));
  cluster.targets.set(id, 2);
  await cluster.pass(6000);
  t.same(cluster.annotations(a), { [STATUS.drain]: DRAIN_UNREADY });
});

t.test("pods stuck in their end do not block", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 3 });
  cluster.terminate(cluster.pods(id)[0]!);
  await cluster.pass(5000);
  t.equal(cluster.pods(id).length, 4);
  cluster.targets.set(id, 2);
  start(t, cluster);
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 2);
});

t.test("others went instead: people are told", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 3 });
  const pods = cluster.pods(id);
  cluster.run(pods[1]!, 4);
  cluster.run(pods[2]!, 4);
  cluster.targets.set(id, 2);
  start(t, cluster);
  cluster.refuse = ({ what }) => {
    if (what === "scale") cluster.paused = true;
    return "pass";
  };
  await cluster.pass(30_000);
  t.equal(cluster.replicas(id), 2);
  t.equal(cluster.pods(id).length, 3);
  // The victim's cost was lost on the way, and another was deleted.
  cluster.ready(pods[2]!, false);
  cluster.paused = false;
  await cluster.pass(10_000);
  t.same(cluster.deleted, uids([pods[2]!]));
  t.match(cluster.events.at(-1), { reason: "ScaleInElsewhere" });
  t.same(drained(cluster, id), [], "and the one that was spared serves again");
});

t.test("a router's word that requests wait leads to a write at once", async (t) => {
  const cluster = new ScalingCluster();
  const prefill = cluster.add("p", { replicas: 0, role: "prefill" });
  const decode = cluster.add("d", { replicas: 0 });
  const { observer, metrics } = start(t, cluster);
  await cluster.pass(7000);
  cluster.targets.set(prefill, 1).set(decode, 1);
  const before = cluster.time.now();
  observer.wake("a/m");
  for (let turn = 0; turn < 60; turn += 1) await Promise.resolve();
  t.equal(cluster.time.now(), before, "no time passes");
  t.same([cluster.replicas(prefill), cluster.replicas(decode)], [1, 1]);
  await cluster.pass(1000);
  t.match(await metrics.page(), /tandem_autoscaler_wake_seconds_count 1/);
});

t.test("what somebody else changed is read again, and never written over", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  cluster.targets.set(id, 4);
  const seen = { ...cluster.workload(id) };
  cluster.refuse = ({ what }) => {
    // `kubectl scale`, between what was read and what is written.
    if (what === "annotate" && cluster.replicas(id) === 2)
      Object.assign(cluster.workload(id), { spec: { ...seen.spec, replicas: 7 } });
    return "pass";
  };
  start(t, cluster);
  await cluster.pass(250);
  t.equal(cluster.replicas(id), 7);
  t.same(cluster.whatWas("scale"), []);
});

t.test("what is gone leaves no series and no decisions", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  const { autoscaler, metrics } = start(t, cluster);
  await cluster.pass(1000);
  t.match(await metrics.page(), /tandem_autoscaler_desired_replicas\{namespace="a",workload="Deployment\/d"\} 2/);
  t.equal(autoscaler.history.last().length, 1);
  cluster.forget(id);
  await cluster.pass(6000);
  t.notMatch(await metrics.page(), /tandem_autoscaler_desired_replicas\{/);
  t.equal(autoscaler.history.of(id), undefined);
});
