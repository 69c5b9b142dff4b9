/** One object on which deciding throws: it is left as it is and told of, and everything else is done as ever. */
import t from "tap";
import type { Action } from "../../../src/controller/action.ts";
import { createExplainer } from "../../../src/controller/explanations.ts";
import { controllerPlan } from "../../../src/controller/plan.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { allowed } from "../../../src/kinds/verdict.ts";
import { podOf, settle, workloadOf, type World } from "../../support/instances.ts";

const config = loadConfig();
const plan = (snapshot: Partial<ClusterSnapshot>, explain = createExplainer(() => [])): readonly Action[] =>
  controllerPlan({ ...EMPTY_SNAPSHOT, ...snapshot }, { config, acts: () => true, explain });

/** The object, of which one field cannot be read. */
function poisoned<T extends KubeObject>(object: T, field: string): T {
  const { [field]: taken, ...rest } = object;
  const get = (): never => {
    throw new Error(`poison instead of ${typeof taken}`);
  };
  return Object.defineProperty(rest, field, { get, enumerable: true }) as unknown as T;
}

const failures = (actions: readonly Action[]): [string, string[]][] =>
  actions
    .filter(({ verdict }) => verdict.reason === "DecisionFailed")
    .map(({ verdict, about }) => [verdict.message, about.map(({ metadata }) => metadata.name ?? "")]);
const reasons = (actions: readonly Action[]): string[] => actions.map(({ verdict }) => verdict.reason);

const shape = { replicas: 2 };
const pair = (name: string): Pod[] => [podOf({ ...shape, name }, 0), podOf({ ...shape, name }, 1)];

t.test("a workload that cannot be decoded", (t) => {
  const bad = poisoned(workloadOf({ ...shape, name: "bad" }), "spec");
  const actions = plan({ workloads: [bad, workloadOf({ ...shape, name: "good" })], pods: pair("good") });
  t.ok(reasons(actions).includes("InstanceFormed"), "the other one gets its instance");
  t.same(failures(actions), [["contract: Deployment a/bad is left as it is: poison instead of object", ["bad"]]]);
  t.end();
});

t.test("a pod that cannot be read costs its instance nothing, and other namespaces go on", (t) => {
  const world: World = { workloads: [workloadOf({ ...shape, name: "w" })], pods: pair("w"), services: [] };
  settle(world);
  const [first, second] = world.pods as [Pod, Pod];
  const elsewhere = <T extends KubeObject>(object: T): T => ({
    ...object,
    metadata: { ...object.metadata, namespace: "b" },
  });
  const workloads = [...world.workloads, elsewhere(workloadOf({ ...shape, name: "v" }))];
  const pods = [first, poisoned(second, "spec"), ...pair("v").map(elsewhere)];
  const actions = plan({ workloads, pods, services: world.services });
  t.notOk(reasons(actions).includes("InstanceBroken"), "it is there, though it cannot be read");
  t.ok(reasons(actions).includes("InstanceFormed"));
  t.match(failures(actions), [[/^instances: Pod a\/w-h1-1 is left as it is/, ["w-h1-1"]]]);
  t.end();
});

t.test("a pod that cannot be labelled", (t) => {
  const route = { ...shape, args: [], nodes: 1, annotations: { "tandem.sh/mode": "route" } };
  const plain = (index: number): Pod => {
    const pod = podOf({ ...route, name: "w" }, index);
    return { ...pod, metadata: { ...pod.metadata, labels: { app: "w" }, annotations: {} } };
  };
  const [first, second] = [plain(0), plain(1)];
  const bad = { ...first, metadata: poisoned({ ...first, ...first.metadata }, "annotations") } as unknown as Pod;
  const actions = plan({ workloads: [workloadOf(route)], pods: [bad, second] });
  t.same(reasons(actions), ["PodLabelled", "DecisionFailed"]);
  t.end();
});

t.test("nothing is deleted in a namespace of which one object could not be judged", (t) => {
  const owned = { "tandem.sh/owned-by": "controller" };
  const budget = (namespace: string): KubeObject => ({
    ...{ apiVersion: "policy/v1", kind: "PodDisruptionBudget" },
    metadata: { name: "tandem-old", namespace, uid: namespace, labels: owned },
  });
  const bad = poisoned(workloadOf({ ...shape, name: "bad" }), "spec");
  const actions = plan({ workloads: [bad], budgets: [budget("a"), budget("b")] });
  t.same(
    actions.filter((action) => action.do === "remove").map(({ verdict }) => verdict.subject),
    ["b/tandem-old"],
  );
  t.end();
});

t.test("a judgement that throws is told once, and the others are told as ever", (t) => {
  const explain = createExplainer((workload) => {
    if (workload.metadata.name === "bad") throw new Error("judge");
    return [allowed("Admitted", "fine")];
  });
  const workloads = ["bad", "good"].map((name) => workloadOf({ ...shape, name }));
  t.same(
    plan({ workloads }, explain).map(({ verdict }) => verdict.message),
    ["explanation: Deployment a/bad is left as it is: judge", "fine"],
  );
  t.end();
});
