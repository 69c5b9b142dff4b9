/** What the router counts for the autoscaler, and what it believes of its words. */
import fastify from "fastify";
import t from "tap";
import fc from "fast-check";
import { LATENCY_BOUNDS_MS, MAX_GROUPS } from "../../../src/kinds/statistics.ts";
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { LoadBook } from "../../../src/router/load.ts";
import { GroupCounters, Statistics } from "../../../src/router/statistics/groups.ts";
import { statisticsRoutes } from "../../../src/router/statistics/routes.ts";
import { decodeScaled, Wakeable } from "../../../src/router/statistics/wakeable.ts";
import { Wakes } from "../../../src/router/statistics/wakes.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";
import { Routing } from "../../support/routing.ts";

const NONE = { list: () => [], loads: new LoadBook(), held: () => new Map() };

t.test("every latency is counted under the first bound that is not below it", (t) => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e6, noNaN: true }), (ms) => {
      const counters = new GroupCounters();
      counters.firstToken(ms);
      const at = counters.read().ttft.indexOf(1);
      const wanted = LATENCY_BOUNDS_MS.findIndex((bound) => ms <= bound);
      return at === (wanted === -1 ? LATENCY_BOUNDS_MS.length : wanted);
    }),
  );
  for (const [index, bound] of LATENCY_BOUNDS_MS.entries()) {
    const counters = new GroupCounters();
    counters.paced(bound);
    t.equal(counters.read().tpot.indexOf(1), index, `${bound}`);
  }
  t.end();
});

t.test("groups are bounded: the one that came first is forgotten", (t) => {
  const statistics = new Statistics("r");
  for (let group = 0; group <= MAX_GROUPS; group++) statistics.of(`n/${group}`).arrived(1);
  const { id, groups } = statistics.page(NONE);
  t.equal(id, "r");
  t.equal(Object.keys(groups).length, MAX_GROUPS);
  t.equal(groups["n/0"], undefined);
  t.equal(groups[`n/${MAX_GROUPS}`]?.requests, 1);
  t.end();
});

t.test("the way of requests: asked for, waiting to be prefilled, answered", async (t) => {
  const statistics = new Statistics("r");
  let now = 0;
  const routing = new Routing({
    endpoints: { "10.0.0.1:80": { model: "m" } },
    router: { maxInflightPerEndpoint: 2 },
    more: { statistics, clock: { now: () => now, monotonic: () => now } },
  });
  const entries = loadConfig({
    text: JSON.stringify({ router: { endpoints: { static: [{ address: "10.0.0.1:80", role: "both", model: "m" }] } } }),
  }).router.endpoints.static;
  const known = staticEndpoints(entries).map((endpoint) => ({ endpoint, stats: undefined }));
  const page = () => statistics.page({ ...NONE, list: () => known, loads: routing.loads }).groups["/m"]!;
  const begin = (stream = true) => {
    const body = Buffer.from(JSON.stringify({ model: "m", stream, prompt: "word ".repeat(400) }));
    const head = [["content-type", "application/json"]] as const;
    return routing.router.begin({ method: "POST", path: "/v1/completions", headers: head, body });
  };
  t.match(page(), { requests: 0, backlogRequests: 0 }, "a group with endpoints is there before it is asked for");
  const one = begin();
  await one.routed;
  const tokens = page().promptTokens;
  t.ok(tokens > 300, `${tokens}`);
  t.match(page(), { requests: 1, backlogRequests: 1, backlogTokens: tokens, answers: 0 });
  now = 100;
  one.ticket.responseStarted();
  one.ticket.firstToken();
  t.match(page(), { requests: 1, backlogRequests: 0, backlogTokens: 0 });
  now = 1100;
  one.ticket.usage({ promptTokens: 400, completionTokens: 101 });
  one.ticket.finish(true);
  const { ttft, tpot, ...figures } = page();
  t.match(figures, { answers: 1, generatedTokens: 101, heldRequests: 0 });
  t.equal(ttft[LATENCY_BOUNDS_MS.findIndex((bound) => bound >= 100)], 1);
  t.equal(tpot[LATENCY_BOUNDS_MS.findIndex((bound) => bound >= 10)], 1);
  const whole = begin(false);
  await whole.routed;
  t.ok(page().promptTokens < 2 * tokens, "what is thought to be cached is not counted again");
  now = 9000;
  whole.ticket.firstToken();
  whole.ticket.finish(true);
  t.equal(
    page().ttft.reduce((sum, count) => sum + count, 0),
    1,
    "the time of a whole answer is none to a token",
  );
  const [a, b, c] = [begin(), begin(), begin()];
  t.match(await c.routed, { kind: "answer", status: 429 });
  t.equal(page().requests, 5, "one that is turned away was asked for all the same");
  for (const { ticket } of [a, b, c]) ticket.finish();
  t.match(page(), { backlogRequests: 0, backlogTokens: 0 });
});

t.test("what may be woken: forms, namespaces, one group alone", (t) => {
  const group = { group: "n/g", models: ["m"], service: "s" };
  for (const bad of ["", "{}", '{"groups":[1]}', '{"groups":[{"group":"n","models":[],"service":"s"}]}'])
    t.equal(decodeScaled(bad), undefined, bad);
  for (const change of [{ group: "" }, { models: [1] }, { models: ["m".repeat(600)] }, { service: "" }])
    t.equal(decodeScaled(JSON.stringify({ groups: [{ ...group, ...change }] })), undefined, JSON.stringify(change));
  t.same(decodeScaled(JSON.stringify({ groups: [{ ...group, more: 1 }] })), [group]);
  const wakeable = new Wakeable();
  t.equal(wakeable.isEmpty, true);
  wakeable.replace([group, { ...group, group: "n/h" }, { group: "o/g", models: ["o"], service: "s" }]);
  t.equal(wakeable.find("m"), "n/g", "the first of them");
  t.equal(wakeable.find("m", "o"), undefined);
  t.equal(wakeable.find(undefined, "o"), "o/g");
  t.equal(wakeable.find(undefined), undefined);
  wakeable.replace([group, { ...group, group: "o/g" }]);
  t.equal(wakeable.find("m"), undefined, "of two namespaces nobody knows which");
  t.equal(wakeable.find("m", "o"), "o/g");
  t.end();
});

t.test("wakes: bounded listeners, and whoever comes later hears of those that wait", (t) => {
  const wakes = new Wakes(() => ["n/waits"]);
  const heard: string[] = [];
  const leave = wakes.listen((group) => heard.push(group));
  wakes.wake("n/g");
  t.same(heard, ["n/waits", "n/g"]);
  for (let more = 1; more < 16; more++) t.ok(wakes.listen(() => undefined));
  t.equal(
    wakes.listen(() => undefined),
    undefined,
  );
  leave?.();
  t.ok(wakes.listen(() => undefined));
  t.end();
});

t.test("the edge: who may ask, and what is refused", async (t) => {
  const wakeable = new Wakeable();
  const statistics = new Statistics("r");
  const isMember = (remote: string | undefined): Promise<boolean> => Promise.resolve(remote === "10.0.0.1");
  const timers = { after: () => () => undefined, every: () => () => undefined };
  const edge = async (token: string) => {
    const app = fastify();
    const callers = { token, isMember, metrics: NO_METRICS };
    const page = () => statistics.page(NONE);
    await app.register(statisticsRoutes({ page, wakeable, wakes: new Wakes(() => []), callers, timers }));
    return app;
  };
  const open = await edge("");
  const get = { method: "GET", url: "/v1/statistics" } as const;
  t.equal((await open.inject({ ...get, remoteAddress: "10.0.0.9" })).statusCode, 403);
  t.same((await open.inject({ ...get, remoteAddress: "10.0.0.1" })).json(), { id: "r", groups: {} });
  const guarded = await edge("secret");
  const headers = { authorization: "Bearer secret", "content-type": "application/json" };
  t.equal((await guarded.inject({ ...get, remoteAddress: "10.0.0.1" })).statusCode, 401);
  t.equal((await guarded.inject({ ...get, headers })).statusCode, 200);
  const post = async (payload: string): Promise<number> =>
    (await guarded.inject({ method: "POST", url: "/v1/scaled", headers, payload })).statusCode;
  t.equal(await post("{}"), 400);
  t.equal(await post("x".repeat(2_000_000)), 413);
  t.equal(wakeable.isEmpty, true);
  t.equal(await post('{"groups":[{"group":"n/g","models":["m"],"service":"s"}]}'), 204);
  t.equal(wakeable.find("m"), "n/g");
});
