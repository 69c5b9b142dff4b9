/** Tables: who goes first, what Kubernetes would delete, how many may go. */
import t from "tap";
import { allowanceOf } from "../../../src/autoscaler/act/budget.ts";
import type { Instance } from "../../../src/autoscaler/act/instances.ts";
import { losesExactly } from "../../../src/autoscaler/act/order.ts";
import { victimsOf, type Wanted } from "../../../src/autoscaler/act/victims.ts";
import type { EngineSeen } from "../../../src/autoscaler/group.ts";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import { POD_DELETION_COST } from "../../../src/kinds/names.ts";

interface Shape {
  readonly bound?: boolean;
  readonly phase?: string;
  readonly ready?: boolean;
  readonly cost?: string;
  readonly born?: number;
}

const pod = (name: string, { bound = true, phase = "Running", ready = true, cost, born = 0 }: Shape = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name,
    namespace: "a",
    uid: name,
    creationTimestamp: new Date(born).toISOString(),
    labels: { app: "d" },
    annotations: cost === undefined ? {} : { [POD_DELETION_COST]: cost },
  },
  spec: { containers: [], ...(bound ? { nodeName: "n" } : {}) },
  status: { phase, conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
});

const engine = (over: Partial<EngineSeen>): EngineSeen => ({ at: 0, running: 0, waiting: 0, kvUsage: 0, ...over });

const instance = (name: string, over: Partial<Instance> & { readonly shape?: Shape } = {}): Instance => {
  const { shape, ...rest } = over;
  return { id: name, pods: [pod(name, shape)], ready: shape?.ready ?? true, lapsed: false, draining: false, ...rest };
};

const chosen = (instances: readonly Instance[], wanted: Partial<Wanted>): string[] =>
  victimsOf({ role: "decode", count: 1, allowed: Infinity, ...wanted, instances }).victims.map(({ id }) => id);

t.test("the least loss goes, by role", (t) => {
  const busy = instance("busy", { engine: engine({ running: 9, kvUsage: 0.5, kvCapacityTokens: 1000 }) });
  const light = instance("light", { engine: engine({ running: 1, kvUsage: 0.9, kvCapacityTokens: 1000 }) });
  const idle = instance("idle", { engine: engine({ kvUsage: 0.9, kvCapacityTokens: 1000 }) });
  const silent = instance("silent");
  t.same(chosen([silent, busy, light, idle], { count: 4 }), ["idle", "light", "busy", "silent"]);
  const queued = instance("queued", { engine: engine({ waiting: 5 }) });
  const held = instance("held", { engine: engine({ running: 1, kvUsage: 0.9 }) });
  t.same(chosen([queued, held], { role: "prefill", count: 2 }), ["held", "queued"]);
  t.end();
});

t.test("before those that serve, those that Kubernetes takes anyway, in its order", (t) => {
  const unbound = instance("unbound", { shape: { bound: false, phase: "Pending", ready: false } });
  const pending = instance("pending", { shape: { phase: "Pending", ready: false } });
  const unready = instance("unready", { shape: { ready: false } });
  const cheap = instance("cheap", { shape: { ready: false, cost: "-5" } });
  const idle = instance("idle", { engine: engine({}) });
  const draining = instance("draining", { draining: true, engine: engine({ running: 3 }) });
  const order = ["unbound", "pending", "cheap", "unready", "draining", "idle"];
  t.same(chosen([idle, draining, unready, cheap, pending, unbound], { count: 6 }), order);
  t.end();
});

t.test("of equals the youngest goes", (t) => {
  const [old, young] = [instance("old", { shape: { born: 1 } }), instance("young", { shape: { born: 2 } })];
  t.same(chosen([old, young], {}), ["young"]);
  t.end();
});

t.test("numbers decide where there are any", (t) => {
  const numbered = [0, 1, 2, 3].map((index) =>
    instance(`i${index}`, { index, engine: engine({ running: index === 0 ? 0 : 5 }) }),
  );
  t.same(chosen(numbered, { fromIndex: 2 }), ["i3", "i2"]);
  t.same(chosen(numbered, { fromIndex: 1, allowed: 1 }), ["i3"], "none is left out in between");
  t.same(chosen([instance("loose"), ...numbered], { fromIndex: 4 }), []);
  t.end();
});

t.test("budgets spare those that serve; what has begun goes on", (t) => {
  const [a, b] = ["a", "b"].map((name) => instance(name, { engine: engine({}) }));
  const begun = instance("begun", { draining: true });
  const down = instance("down", { shape: { ready: false } });
  t.same(chosen([a!, b!, begun, down], { count: 4, allowed: 2 }), ["down", "begun", "a"]);
  t.same(chosen([a!, b!, begun], { count: 3, allowed: 0 }), ["begun"]);
  t.equal(victimsOf({ role: "decode", instances: [a!, b!], count: 2, allowed: 1 }).spared, 1);
  t.end();
});

t.test("a ReplicaSet loses exactly the victims, or it does not", (t) => {
  const [low, plain, high] = [pod("l", { cost: "-2147483648" }), pod("p"), pod("h", { cost: "3" })];
  const down = pod("d", { ready: false });
  const table: readonly (readonly [victims: Pod[], others: Pod[], exactly: boolean])[] = [
    [[low], [plain, high], true],
    [[plain], [high], true],
    [[plain], [pod("q")], false],
    [[low], [down], false],
    [[down], [low], true],
    [[low, down], [plain], true],
    [[], [plain], true],
    [[pod("bad", { cost: "many" })], [high], true],
  ];
  for (const [victims, others, exactly] of table)
    t.equal(losesExactly(victims, others), exactly, victims.map(({ metadata }) => metadata.name ?? "").join());
  t.end();
});

t.test("allowed disruptions, in instances", (t) => {
  const budget = (over: object, status: object, name = "b"): KubeObject => ({
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name, namespace: "a", generation: 2 },
    spec: { selector: { matchLabels: { app: "d" } } },
    status,
    ...over,
  });
  const allows = (nodes: number, ...budgets: KubeObject[]): number => allowanceOf([pod("p")], nodes, budgets).instances;
  t.equal(allows(1), Infinity);
  t.equal(allows(1, budget({}, { disruptionsAllowed: 3 })), 3);
  t.equal(allows(4, budget({}, { disruptionsAllowed: 1 })), 1, "with its first pod an instance goes");
  t.equal(allows(4, budget({}, { disruptionsAllowed: 9 })), 2);
  t.equal(allows(4, budget({}, { disruptionsAllowed: 0 })), 0);
  t.equal(allows(1, budget({}, {})), 0, "nobody has looked at it yet");
  t.equal(allows(1, budget({}, { disruptionsAllowed: 3, observedGeneration: 1 })), 0);
  t.equal(allows(1, budget({ spec: { selector: { matchLabels: { app: "e" } } } }, {})), Infinity);
  t.equal(allows(1, budget({ spec: {} }, {})), Infinity);
  t.equal(allows(1, budget({ metadata: { name: "b", namespace: "z" } }, {})), Infinity);
  const two = [budget({}, { disruptionsAllowed: 3 }, "x"), budget({}, { disruptionsAllowed: 1 }, "y")];
  t.same(allowanceOf([pod("p")], 1, two), { instances: 1, by: "y" });
  t.end();
});
