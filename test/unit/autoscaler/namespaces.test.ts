/** Two autoscalers with namespaces of their own: neither undoes what the other does. */
import t from "tap";
import { AUTOSCALING_STATUS } from "../../../src/kinds/names.ts";
import { ScalingCluster, runLoop } from "../../support/scaling-cluster.ts";

const always = (): boolean => true;

/** A pod that drains for nobody in namespace a, seen by an autoscaler of these namespaces. */
async function strayUnder(namespaces: string): Promise<string | undefined> {
  const cluster = new ScalingCluster();
  const id = cluster.add("d", { replicas: 2 });
  const [pod] = cluster.pods(id);
  if (pod === undefined) throw new Error("no pod");
  cluster.annotate(pod, { [AUTOSCALING_STATUS.draining]: "2026-01-01T00:00:00.000Z cost=none" });
  cluster.forget(id);
  const autoscaler = runLoop(cluster, "one", always, { "autoscaler.namespaces": namespaces });
  await cluster.pass(6000);
  await autoscaler.stop();
  return cluster.annotations(pod)[AUTOSCALING_STATUS.draining];
}

t.test("what drains for nobody is taken back in its own namespaces, and left alone in others", async (t) => {
  t.equal(await strayUnder("[]"), undefined);
  t.equal(await strayUnder("a,c"), undefined);
  t.type(await strayUnder("b"), "string");
});
