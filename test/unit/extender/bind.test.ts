/** Bad input of every verb of kube-scheduler's dialect, and what `bind` makes of each answer of the API server. */
import fastify, { type FastifyInstance } from "fastify";
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { createBinder, type Binder } from "../../../src/extender/bind/loop.ts";
import { extenderRoutes } from "../../../src/extender/kube/routes.ts";
import { ExtenderMemo } from "../../../src/extender/view.ts";
import { KubeError } from "../../../src/kinds/kube-error.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import { STATUS } from "../../../src/kinds/names.ts";
import type { ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { configuredDevices } from "../../../src/profiles/devices.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { createMetrics, type MetricsRegistry } from "../../../src/telemetry/metrics.ts";
import { exact, fabric, hyperNode, letGo, pod, snapshotOf } from "../../support/placement.ts";

const config = loadConfig();
const devices = configuredDevices(config.admission);

interface Serving {
  readonly app: FastifyInstance;
  readonly metrics: MetricsRegistry;
}

async function serve(snapshot: ClusterSnapshot, synced = true): Promise<Serving> {
  const [app, metrics, time] = [fastify(), createMetrics(), new VirtualTime(0)];
  const gone = (): Promise<never> =>
    Promise.reject(new KubeError({ status: 404, reason: "NotFound", message: "gone" }));
  await app.register(
    extenderRoutes({
      ...{ config, devices, metrics },
      cluster: () => ({ snapshot, synced }),
      ...{ clock: time, log: SILENT_LOG },
      bind: { api: { bind: gone, get: () => Promise.resolve(undefined) }, timers: time },
    }),
  );
  return { app, metrics };
}

const VERBS = ["filter", "prioritize", "preempt", "bind"] as const;

async function post({ app }: Serving, verb: string, payload: unknown): Promise<{ status: number; body: unknown }> {
  const reply = await app.inject({
    ...{ method: "POST", url: `/extender/${verb}`, headers: { "content-type": "application/json" } },
    payload: typeof payload === "string" ? payload : JSON.stringify(payload),
  });
  return { status: reply.statusCode, body: JSON.parse(reply.body) };
}

const holds = async ({ metrics }: Serving): Promise<string | undefined> =>
  /^tandem_extender_holds (\d+)$/m.exec(await metrics.page())?.[1];

const binding = (more: object = {}): object => ({
  ...{ PodName: "p0", PodNamespace: "default", PodUID: "uid-p0", Node: "r0n0" },
  ...more,
});
const preempting = (more: object): object => ({ Pod: pod("x"), ...more });

t.test("malformed calls of every verb are refused in words, and leave nothing", async (t) => {
  const serving = await serve(snapshotOf(fabric(2, 2)));
  const many = Array.from({ length: 50_001 }, (_, index) => `n${index}`);
  const both = ["filter", "prioritize"];
  const rows: [verbs: readonly string[], payload: unknown, status: number, error: RegExp][] = [
    [VERBS, "{", 400, /JSON/],
    [VERBS, "[]", 400, /must be an object/],
    [VERBS, "null", 400, /must be an object/],
    [both, { Pod: pod("x"), NodeNames: many }, 400, /at most 50000 names/],
    [both, { Pod: pod("x"), Nodes: { items: [] } }, 200, /nodeCacheCapable: true/],
    [["preempt"], preempting({}), 400, /NodeNameToMetaVictims or NodeNameToVictims is missing/],
    [["preempt"], preempting({ NodeNameToMetaVictims: [] }), 400, /is missing/],
    [["preempt"], preempting({ NodeNameToMetaVictims: { r0n0: null } }), 400, /must be an object/],
    [["preempt"], preempting({ NodeNameToMetaVictims: { r0n0: { Pods: "x" } } }), 400, /at most 5000 Pods/],
    [["preempt"], preempting({ NodeNameToMetaVictims: { r0n0: { Pods: [{}] } } }), 400, /must have a UID/],
    [["preempt"], { NodeNameToMetaVictims: {} }, 400, /Pod must be/],
    [
      ["preempt"],
      preempting({ NodeNameToMetaVictims: Object.fromEntries(many.map((name) => [name, {}])) }),
      400,
      /at most 50000 nodes/,
    ],
    [["bind"], binding({ PodUID: "" }), 400, /PodUID must be/],
    [["bind"], binding({ Node: 7 }), 400, /Node must be/],
    [["bind"], binding({ PodName: "x".repeat(254) }), 400, /PodName must be/],
  ];
  for (const [verbs, payload, status, error] of rows)
    for (const verb of verbs) {
      const found = await post(serving, verb, payload);
      t.equal(found.status, status, `${verb} ${String(error)}`);
      t.match(found.body, { Error: error });
    }
  await post(serving, "filter", { Pod: pod("x"), NodeNames: ["r0n0"] });
  t.equal(await holds(serving), "0");
});

t.test("a store full of nonsense is survived: cycles, garbage, pods that are gone", async (t) => {
  const cycle = [hyperNode("a", 2, exact("HyperNode", "b")), hyperNode("b", 2, exact("HyperNode", "a"))];
  const garbage = (name: string, text: string): Pod => {
    const made = pod(name);
    made.metadata.annotations = { [STATUS.placement]: text };
    return made;
  };
  const deleted = letGo(pod("deleted"), "r0n0");
  deleted.metadata.deletionTimestamp = "2026-01-01T00:00:00Z";
  const pods = [garbage("g1", "{"), garbage("g2", '{"node":1,"at":"x"}'), garbage("g3", '{"__proto__":{}}'), deleted];
  const { nodes, hyperNodes } = fabric(2, 2);
  const serving = await serve(snapshotOf({ nodes, hyperNodes: [...hyperNodes, ...cycle], pods }));
  const names = ["r0n0", "constructor", "unknown"];
  t.match((await post(serving, "filter", { Pod: pod("x"), NodeNames: names })).body, {
    NodeNames: ["r0n0"],
    Error: "",
  });
  t.equal((await post(serving, "prioritize", { Pod: pod("x"), NodeNames: names })).status, 200);
  const victims = { r0n0: { Pods: [{ UID: "nobody" }], NumPDBViolations: -1 }, unknown: { Pods: null } };
  t.same((await post(serving, "preempt", preempting({ NodeNameToMetaVictims: victims }))).body, {
    NodeNameToMetaVictims: { r0n0: { Pods: [{ UID: "nobody" }], NumPDBViolations: 0 } },
  });
  const whole = { r0n0: { Pods: [{ metadata: { uid: "u" } }], NumPDBViolations: 1 } };
  t.match((await post(serving, "preempt", preempting({ NodeNameToVictims: whole }))).body, {
    NodeNameToMetaVictims: { r0n0: { Pods: [{ UID: "u" }], NumPDBViolations: 1 } },
  });
  t.match((await post(serving, "bind", binding())).body, { Error: /^BindRefused: default\/p0 of uid uid-p0 is gone/ });
  t.equal(await holds(serving), "0");
});

t.test("nothing is judged before the store is full", async (t) => {
  const serving = await serve(snapshotOf({}), false);
  const preempt = await post(serving, "preempt", preempting({ NodeNameToMetaVictims: {} }));
  t.match(preempt, { status: 503, body: { Error: /ClusterNotSynced/ } });
  t.match(await post(serving, "bind", binding()), { status: 200, body: { Error: /ClusterNotSynced/ } });
});

const failure = (status: number): KubeError => new KubeError({ status, reason: "x", message: `status ${status}` });

interface Scene {
  readonly binder: Binder;
  readonly memo: ExtenderMemo;
}

/** An API server that answers a binding with `status`, and then says where the pod is: null where it is gone. */
function scene(status: number, found: string | null, pods: readonly Pod[] = [pod("p0")]): Scene {
  const time = new VirtualTime(0);
  const memo = new ExtenderMemo({ topology: config.topology, devices, bindMs: 60_000, now: () => time.now() });
  const snapshot = snapshotOf({ ...fabric(1, 2), pods });
  const read = found === null ? undefined : pod("p0", found === "" ? {} : { nodeName: found });
  const api = {
    bind: () => (status === 201 ? Promise.resolve() : Promise.reject(failure(status))),
    get: () => Promise.resolve(read),
  };
  const ports = { clock: time, timers: time, log: SILENT_LOG };
  const binder = createBinder({ ...ports, api, view: () => memo.view(snapshot), holds: memo.holds, timeoutMs: 500 });
  return { binder, memo };
}

const P0 = { namespace: "default", name: "p0", uid: "uid-p0", node: "r0n0" };

t.test("what bind makes of each answer", async (t) => {
  const rows: [what: string, status: number, found: string | null, reason: string, held: number][] = [
    ["bound", 201, "", "PodBound", 1],
    ["bound before, the answer was lost", 409, "r0n0", "PodBound", 1],
    ["bound elsewhere", 409, "r0n1", "BindElsewhere", 0],
    ["on its way out", 409, "", "BindRefused", 0],
    ["conflict of a pod that is gone", 409, null, "BindRefused", 0],
    ["gone", 404, null, "BindRefused", 0],
    ["forbidden", 403, "", "BindRefused", 0],
    ["too many requests", 429, "", "BindRefused", 0],
    ["no answer", 0, "", "BindUnknown", 1],
    ["an error behind which it may be stored", 500, "", "BindUnknown", 1],
  ];
  for (const [what, status, found, reason, held] of rows) {
    const { binder, memo } = scene(status, found);
    t.equal((await binder.bind(P0)).reason, reason, what);
    t.equal(memo.holds.size, held, `${what}: held`);
    t.equal(binder.open(), held);
    binder.stop();
  }
});

t.test("bind looks once more: what is bound, kept or being bound leaves no room", async (t) => {
  const foreign = pod("other", { model: null, gpus: 8, nodeName: "r0n0" });
  t.equal((await scene(201, "", [pod("p0"), foreign]).binder.bind(P0)).reason, "NodeLacksDevices");
  const kept = letGo(pod("kept", { gpus: 8 }), "r0n0");
  t.equal((await scene(201, "", [pod("p0"), kept]).binder.bind(P0)).reason, "NodeReserved");
  const { binder, memo } = scene(201, "", [pod("p0", { gpus: 8 }), pod("p1", { gpus: 8 })]);
  const both = [P0, { ...P0, name: "p1", uid: "uid-p1" }].map((one) => binder.bind(one));
  t.same(
    (await Promise.all(both)).map(({ reason }) => reason),
    ["PodBound", "NodeReserved"],
  );
  t.equal(memo.holds.size, 1);
  t.equal((await binder.bind({ ...P0, node: "r0n1" })).reason, "BindElsewhere", "not to a second node");
  binder.stop();
});

t.test("the queue of a node is bounded", async (t) => {
  const { binder } = scene(201, "");
  const calls = Array.from({ length: 66 }, () => binder.bind(P0));
  const reasons = (await Promise.all(calls)).map(({ reason }) => reason);
  t.equal(reasons.filter((reason) => reason === "BindBusy").length, 2);
  t.equal(reasons.filter((reason) => reason === "PodBound").length, 64);
  binder.stop();
});
