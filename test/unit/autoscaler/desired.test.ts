import t from "tap";
import { createDesired } from "../../../src/autoscaler/keda/desired.ts";
import { ScalingCluster } from "../../support/scaling-cluster.ts";

t.test("KEDA is told the last number of what is left to it, in its own replicas, and nothing of others", (t) => {
  const cluster = new ScalingCluster();
  const keda = cluster.add("k", { replicas: 4, nodes: 2, scaling: { actuator: "keda" } });
  const own = cluster.add("o", { replicas: 2 });
  cluster.targets.set(keda, 3).set(own, 5);
  const desired = createDesired();
  let changes = 0;
  const cancel = desired.onChange(() => (changes += 1));
  const decide = (): void => {
    const observation = cluster.observation();
    desired.decided(observation, cluster.decider().decide({}, observation));
  };
  t.equal(desired.desired("a", "k"), undefined);
  decide();
  t.equal(desired.desired("a", "k"), 6);
  t.ok(desired.isActive("a", "k"));
  t.equal(desired.desired("a", "o"), undefined);
  t.equal(desired.desired("b", "k"), undefined);
  cluster.targets.set(keda, 0);
  decide();
  t.equal(desired.desired("a", "k"), 0);
  t.notOk(desired.isActive("a", "k"));
  cancel();
  cluster.rescale(keda, { actuator: "scale" });
  decide();
  t.equal(desired.desired("a", "k"), undefined);
  t.equal(changes, 2);
  cluster.rescale(keda, { actuator: "keda" });
  decide();
  desired.keep(new Set([own]));
  t.equal(desired.desired("a", "k"), undefined);
  t.end();
});
