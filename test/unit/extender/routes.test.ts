import fastify, { type FastifyInstance } from "fastify";
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { extenderRoutes, type ExtenderOptions } from "../../../src/extender/kube/routes.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { createMetrics } from "../../../src/telemetry/metrics.ts";
import { deployment, fabric, pod, snapshotOf } from "../../support/placement.ts";
import { configuredDevices } from "../../../src/profiles/devices.ts";

const config = loadConfig({ text: "extender: { maxBodyBytes: 65536, timeoutMs: 100 }", name: "test" });

async function server(more: Partial<ExtenderOptions> = {}): Promise<FastifyInstance> {
  const snapshot = snapshotOf({
    ...fabric(2, 2),
    pods: [pod("p0", { nodeName: "r1n0" }), pod("busy", { model: null, gpus: 8, nodeName: "r0n0" })],
    workloads: [deployment("p"), deployment("d", { role: "decode" })],
  });
  const app = fastify();
  await app.register(
    extenderRoutes({
      config,
      devices: configuredDevices(config.admission),
      cluster: () => ({ snapshot, synced: true }),
      clock: { now: () => 0, monotonic: () => 0 },
      metrics: createMetrics(),
      log: SILENT_LOG,
      ...more,
    }),
  );
  return app;
}

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

async function post(app: FastifyInstance, verb: string, payload: unknown): Promise<Reply> {
  const reply = await app.inject({
    method: "POST",
    url: `/extender/${verb}`,
    headers: { "content-type": "application/json" },
    payload: typeof payload === "string" ? payload : JSON.stringify(payload),
  });
  return { status: reply.statusCode, body: JSON.parse(reply.body) };
}

const asked = (names: readonly string[] | null, more: object = {}): object => ({
  Pod: pod("d0", { role: "decode" }),
  Nodes: null,
  NodeNames: names,
  ...more,
});

t.test("filter answers with names and a reason for each refused node", async (t) => {
  const app = await server({ config: { ...config, extender: { ...config.extender, shortlist: false } } });
  const { status, body } = await post(app, "filter", asked(["r0n0", "r0n1", "r1n0", "gone"]));
  t.equal(status, 200);
  t.same(body, {
    Nodes: null,
    NodeNames: ["r0n1", "r1n0"],
    FailedNodes: {
      r0n0: "NodeLacksDevices: needs 4 nvidia.com/gpu, 0 of 8 free",
    },
    FailedAndUnresolvableNodes: { gone: "NodeUnknown: the node is not in Tandem's store yet" },
    Error: "",
  });
});

t.test("filter answers with the planned node alone, where it is named and takes the pod", async (t) => {
  const app = await server();
  const fit = async (...names: string[]): Promise<unknown> =>
    ((await post(app, "filter", asked(names))).body as { NodeNames: unknown }).NodeNames;
  t.same(await fit("r0n0", "r0n1", "r1n0", "gone"), ["r1n0"], "beside its prefill");
  t.same(await fit("r0n0", "r0n1", "r1n1"), ["r0n1", "r1n1"], "all are judged where the scheduler has ruled it out");
  const { body } = await post(app, "filter", { ...asked(["r0n1", "r1n0"]), Pod: pod("x", { model: null }) });
  t.match(body, { NodeNames: ["r0n1", "r1n0"] }, "pods of others are not steered");
});

t.test("prioritize answers with a score for each name, nearest to the cell highest", async (t) => {
  const app = await server();
  const { status, body } = await post(app, "prioritize", asked(["r0n1", "r1n0", "r1n1"]));
  t.equal(status, 200);
  const scores = new Map((body as { Host: string; Score: number }[]).map(({ Host, Score }) => [Host, Score]));
  t.equal(scores.get("r1n0"), 10);
  t.ok((scores.get("r1n1") ?? 0) > (scores.get("r0n1") ?? 0));
});

t.test("whole nodes are refused in words that reach the scheduler's log", async (t) => {
  const { status, body } = await post(await server(), "filter", asked(null, { Nodes: { items: [] } }));
  t.equal(status, 200);
  t.match(body, { NodeNames: null, Error: /nodeCacheCapable: true/ });
});

t.test("bad input is a 400 that says what is wanted", async (t) => {
  const app = await server();
  const rows: [payload: unknown, error: RegExp][] = [
    ["{", /JSON/],
    ["[]", /ExtenderArgs/],
    ["null", /ExtenderArgs/],
    [{ NodeNames: [] }, /Pod must be/],
    [{ Pod: { metadata: {} }, NodeNames: [] }, /Pod must be/],
    [asked(null), /NodeNames is missing/],
    [asked([1] as unknown as string[]), /must be strings/],
    [asked("x" as unknown as string[]), /at most/],
  ];
  for (const [payload, error] of rows)
    for (const verb of ["filter", "prioritize"]) {
      const { status, body } = await post(app, verb, payload);
      t.equal(status, 400, `${verb} ${JSON.stringify(payload)}`);
      t.match(body, { Error: error });
    }
});

t.test("a body over the limit is a 413", async (t) => {
  const many = Array.from({ length: 10_000 }, (_, index) => `node-${index}`);
  t.equal((await post(await server(), "filter", asked(many))).status, 413);
});

t.test("no names, no nodes", async (t) => {
  const app = await server();
  t.match((await post(app, "filter", asked([]))).body, { NodeNames: [], FailedNodes: {}, Error: "" });
  t.same((await post(app, "prioritize", asked([]))).body, []);
});

t.test("nothing is judged before the store is full", async (t) => {
  const app = await server({ cluster: () => ({ snapshot: snapshotOf({}), synced: false }) });
  t.match((await post(app, "filter", asked(["r0n0"]))).body, { NodeNames: null, Error: /ClusterNotSynced/ });
  t.same((await post(app, "prioritize", asked(["r0n0"]))).body, [{ Host: "r0n0", Score: 0 }]);
});

t.test("a call that took too long to arrive is not answered with a decision", async (t) => {
  let time = 0;
  const app = await server({ clock: { now: () => 0, monotonic: () => (time += 200) } });
  t.match((await post(app, "filter", asked(["r0n1"]))).body, { NodeNames: null, Error: /longer than 100 ms/ });
});

t.test("our own failure is a 500 without its inside", async (t) => {
  const app = await server({
    cluster: () => {
      throw new Error("secret detail");
    },
  });
  const { status, body } = await post(app, "filter", asked(["r0n0"]));
  t.equal(status, 500);
  t.match(body, { Error: "internal error of Tandem's extender" });
});

t.test("verdicts are counted", async (t) => {
  const metrics = createMetrics();
  const app = await server({ metrics });
  await post(app, "filter", asked(["r0n0", "r0n1"]));
  const page = await metrics.page();
  t.match(page, 'tandem_extender_verdicts_total{verb="filter",reason="NodeLacksDevices"} 1');
  t.match(page, 'tandem_extender_duration_seconds_count{verb="filter"} 1');
});

t.test("a pod with hostile names is data, not structure", async (t) => {
  const hostile: Pod = { ...pod("d0", { role: "decode" }) };
  hostile.metadata.labels = { ...hostile.metadata.labels, constructor: "x" };
  const { status, body } = await post(await server(), "filter", asked(["constructor", "toString"], { Pod: hostile }));
  t.equal(status, 200);
  t.match(body, { NodeNames: [] });
});
