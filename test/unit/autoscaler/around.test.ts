/** What happens around the actions: readiness that flaps, others that write, words without end, plans that grow old. */
import t, { type Test } from "tap";
import type { Observed } from "../../../src/autoscaler/loop.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import { AUTOSCALING_STATUS } from "../../../src/kinds/names.ts";
import { EPOCH, runLoop, ScalingCluster } from "../../support/scaling-cluster.ts";

function run(t: Test, cluster: ScalingCluster): void {
  const loop = runLoop(cluster, "one");
  t.teardown(() => loop.stop());
}

const drained = (cluster: ScalingCluster, id: string): readonly Pod[] =>
  cluster.pods(id).filter((pod) => cluster.annotations(pod)[AUTOSCALING_STATUS.draining] !== undefined);

t.test("readiness that comes and goes during a drain costs nobody an answer", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 3 });
  const [a, b, c] = cluster.pods(id) as [Pod, Pod, Pod];
  for (const pod of [a, b, c]) cluster.run(pod, 5);
  cluster.targets.set(id, 2);
  run(t, cluster);
  await cluster.pass(20_000);
  cluster.lapse(a);
  await cluster.pass(20_000);
  t.same(cluster.deleted, [], "it may still run what it was given");
  cluster.ready(a);
  cluster.run(a, 5);
  cluster.run(b, 0);
  await cluster.pass(20_000);
  t.same(
    cluster.deleted.filter((uid) => uid !== b.metadata.uid),
    [],
  );
});

t.test("words that requests wait cost a group whose writes are under way one look, however many come", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  const observer = cluster.observer();
  let looks = 0;
  const observe = (only?: string): readonly Observed[] => {
    looks += 1;
    return observer.observe(only);
  };
  cluster.observer = () => ({ ...observer, observe });
  run(t, cluster);
  await cluster.pass(6000);
  cluster.targets.set(id, 3);
  looks = 0;
  for (let word = 0; word < 1000; word += 1) observer.wake("a/m");
  await cluster.pass(1000);
  t.equal(cluster.replicas(id), 3);
  t.ok(looks <= 4, `${looks} looks`);
});

t.test("who sets the replicas between our look and our write is not overruled", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  cluster.targets.set(id, 4);
  const somebody = cluster.client("kubectl");
  const { apiVersion, metadata } = cluster.workload(id);
  const scale = { apiVersion, plural: "deployments", namespace: "a", name: metadata.name ?? "", subresource: "scale" };
  let isSet = false;
  cluster.refuse = ({ what, by }) => {
    if (what === "scale" && by === "one" && !isSet) {
      isSet = true;
      void somebody.patch(scale, "merge", { metadata: {}, spec: { replicas: 7 } });
    }
    return "pass";
  };
  run(t, cluster);
  await cluster.pass(250);
  t.ok(isSet);
  t.equal(cluster.replicas(id), 7);
});

t.test("a pod that changed between our look and our write is not marked by what was read before", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  cluster.targets.set(id, 1);
  let isChanged = false;
  cluster.refuse = ({ what, name }) => {
    const pod = cluster.pods(id).find(({ metadata }) => metadata.name === name);
    if (what === "drain" && pod !== undefined && !isChanged) {
      isChanged = true;
      cluster.annotate(pod, { "status.tandem.sh/drain": "false" });
    }
    return "pass";
  };
  run(t, cluster);
  await cluster.pass(250);
  t.ok(isChanged);
  t.same(drained(cluster, id), []);
});

t.test("many that grow or shrink at once all come to their end", async (t) => {
  for (const [to, ms] of [
    [4, 120_000],
    [1, 300_000],
  ] as const) {
    const cluster = new ScalingCluster();
    const ids = Array.from({ length: 60 }, (_, at) => cluster.add(`w${at}`, { replicas: 2 }));
    for (const id of ids) cluster.targets.set(id, to);
    run(t, cluster);
    await cluster.pass(ms);
    t.equal(ids.filter((id) => cluster.replicas(id) === to).length, ids.length, `${to} replicas`);
  }
});

t.test("what has not begun when the next look is due is decided anew", async (t) => {
  const cluster = new ScalingCluster();
  const ids = Array.from({ length: 40 }, (_, at) => cluster.add(`w${at}`, { replicas: 2 }));
  for (const id of ids) cluster.targets.set(id, 4);
  run(t, cluster);
  await cluster.pass(4500);
  for (const id of ids) cluster.targets.set(id, 2);
  await cluster.pass(10_000);
  const up = cluster.whatWas("scale").filter(({ body }) => (body["spec"] as { replicas: number }).replicas === 4);
  t.ok(up.length > 5);
  t.ok(
    up.every(({ at }) => at - EPOCH <= 5500),
    `last after ${(up.at(-1)?.at ?? 0) - EPOCH} ms`,
  );
});

t.test("after a failure what nobody waits for is left for later", async (t) => {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 4 });
  cluster.targets.set(id, 1);
  cluster.refuse = () => ({ status: 500 });
  run(t, cluster);
  await cluster.pass(250);
  t.equal(cluster.whatWas("drain").length, 1);
});
