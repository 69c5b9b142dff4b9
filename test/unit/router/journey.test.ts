/** Whatever happens to a request, in whatever order: nothing of it stays on an endpoint. */
import t from "tap";
import fc from "fast-check";
import { loadConfig } from "../../../src/config/load.ts";
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import type { EngineClient, EngineReply, EngineRequest, Timers } from "../../../src/ports.ts";
import type { Begun, CompleteRequest, Routed, Ticket } from "../../../src/router/exchange.ts";
import { createBlockHasher } from "../../../src/router/kv/blocks.ts";
import { HistoryIndex } from "../../../src/router/kv/history.ts";
import { LoadBook } from "../../../src/router/load.ts";
import { createRouter, type RouterDependencies } from "../../../src/router/route.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";

const ADDRESSES = { prefill: ["p1:80", "p2:80", "p3:80"], decode: ["d1:80", "d2:80"] };
const hasher = createBlockHasher();

/** Engines that answer when they are told to, and a clock that runs when it is told to. */
class World {
  readonly loads = new LoadBook();
  readonly asked: EngineRequest[] = [];
  readonly #answers: ((reply: EngineReply) => void)[] = [];
  readonly #due = new Set<() => void>();
  readonly router;

  constructor(flags: Record<string, string> = {}, spoken: object = {}) {
    const entries = Object.entries(ADDRESSES).flatMap(([role, all]) =>
      all.map((address) => ({ address, role, model: "m", ...spoken })),
    );
    const config = loadConfig({ text: JSON.stringify({ router: { endpoints: { static: entries } } }), flags }).router;
    const known = staticEndpoints(config.endpoints.static).map((endpoint) => ({ endpoint, stats: undefined }));
    const timers: Timers = { after: (_, task) => this.#after(task), every: () => () => undefined };
    const client: EngineClient = { send: (request) => this.#send(request) };
    const deps: RouterDependencies = {
      ...{ config, client, timers, hasher, loads: this.loads, metrics: NO_METRICS, log: SILENT_LOG },
      directory: { list: () => known },
      index: new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 1000),
      clock: { now: () => 0, monotonic: () => 0 },
      random: { next: () => 0.5, id: () => "1d" },
      incompatible: () => undefined,
    };
    this.router = createRouter(deps);
  }

  #after(task: () => void): () => void {
    this.#due.add(task);
    return () => void this.#due.delete(task);
  }

  #send(request: EngineRequest): Promise<EngineReply> {
    if (request.path === "/query") return Promise.resolve(raw(200, '{"0":{"engine_id":"e"}}'));
    this.asked.push(request);
    // Decided by its number, so that some are refused before they are on their way.
    if (this.asked.length % 3 !== 0) request.onSent?.();
    return new Promise((resolve) => {
      this.#answers.push(resolve);
      request.signal?.addEventListener("abort", () => resolve({ kind: "aborted", detail: "" }));
    });
  }

  answer(reply: EngineReply): void {
    this.#answers.shift()?.(reply);
  }

  tick(): void {
    for (const task of this.#due) task();
    this.#due.clear();
  }

  get timers(): number {
    return this.#due.size;
  }

  sum(): { inflight: number; prefillMs: number; pinned: number } {
    const all = Object.values(ADDRESSES).flatMap((list) => list.map((address) => this.loads.of(`static:${address}`)));
    return {
      inflight: all.reduce((total, { inflight }) => total + inflight, 0),
      prefillMs: all.reduce((total, { prefillMs }) => total + prefillMs, 0),
      pinned: all.reduce((total, { pinnedTokens }) => total + pinnedTokens, 0),
    };
  }
}

const request = (more: object = {}): CompleteRequest => ({
  method: "POST",
  path: "/v1/completions",
  headers: [["x-request-id", "a b\u00ff"]],
  body: Buffer.from(JSON.stringify({ model: "m", prompt: "word ".repeat(900), ...more })),
});
const raw = (status: number, text: string): EngineReply => ({
  kind: "answer",
  status,
  headers: {},
  body: Buffer.from(text),
});
const DONE = raw(200, '{"kv_transfer_params":{"remote_engine_id":"e"},"usage":null}');
const REPLIES: readonly EngineReply[] = [
  DONE,
  raw(200, "{}"),
  raw(200, "<html>"),
  raw(200, '{"usage":{"a":}}'),
  raw(400, "{}"),
  raw(429, ""),
  raw(500, ""),
  raw(307, ""),
  ...(["refused", "lost", "late"] as const).map((kind) => ({ kind, detail: "" })),
];

type Step =
  | { do: "begin"; more: object }
  | { do: "answer"; reply: EngineReply }
  | { do: "tick" | "headers" | "token" | "finish"; which: number }
  | { do: "served"; which: number; address: string };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc
    .constantFrom({}, { stream: true }, { n: 2 }, { model: "x" }, { max_tokens: -1 })
    .map((more) => ({ do: "begin" as const, more })),
  fc.constantFrom(...REPLIES).map((reply) => ({ do: "answer" as const, reply })),
  fc.record({
    do: fc.constant("served" as const),
    which: fc.nat(9),
    address: fc.constantFrom(...ADDRESSES.decode, "nobody:1"),
  }),
  fc.record({
    do: fc.constantFrom("tick" as const, "headers" as const, "token" as const, "finish" as const),
    which: fc.nat(9),
  }),
);

function take(world: World, begun: Begun[], each: Step): void {
  if (each.do === "begin") begun.push(world.router.begin(request(each.more)));
  else if (each.do === "answer") world.answer(each.reply);
  else if (each.do === "tick") world.tick();
  else if (each.do === "served") begun[each.which % Math.max(1, begun.length)]?.ticket.served(each.address);
  else tell(begun[each.which % Math.max(1, begun.length)]?.ticket, each.do);
}

function tell(ticket: Ticket | undefined, what: "headers" | "token" | "finish"): void {
  if (what === "headers") ticket?.responseStarted();
  else if (what === "token") ticket?.firstToken();
  else ticket?.finish();
}

const wires = fc.tuple(
  fc.constantFrom("cost", "always"),
  fc.constantFrom({}, { connector: "sglang" }, { connector: "nixl-push" }, { connector: "mooncake", engine: "vllm" }),
);

t.test("after any order of events, once every request is finished, every load is zero", async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), wires, async (steps, [policy, spoken]) => {
      const world = new World({ "router.prefill.policy": policy }, spoken);
      const begun: Begun[] = [];
      for (const each of steps) {
        take(world, begun, each);
        await Promise.resolve();
      }
      const { inflight, prefillMs } = world.sum();
      if (inflight < 0 || prefillMs < 0) return false;
      for (const { ticket } of begun) ticket.finish();
      await Promise.all(begun.map(({ routed }) => routed));
      // Legs behind a decode whose client may have gone are cut; leases of prompts that nobody fetched end.
      for (let round = 0; round < 3; round += 1) {
        world.tick();
        await new Promise((resolve) => setImmediate(resolve));
      }
      const left = world.sum();
      return left.inflight === 0 && left.prefillMs === 0 && left.pinned === 0 && world.timers === 0;
    }),
    { numRuns: 400 },
  );
  t.end();
});

const settled = async (
  replies: readonly EngineReply[],
  more: object = {},
): Promise<{ world: World; routed: Routed }> => {
  const world = new World();
  const { routed } = world.router.begin(request(more));
  for (const reply of replies) {
    world.answer(reply);
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  }
  return { world, routed: await routed };
};

t.test("how each end of a prefill leg reaches the client", async (t) => {
  const refused: EngineReply = { kind: "refused", detail: "" };
  const lost: EngineReply = { kind: "lost", detail: "" };
  const late: EngineReply = { kind: "late", detail: "" };
  const table: [string, readonly EngineReply[], object][] = [
    ["done", [DONE], { kind: "forward" }],
    ["all refuse", [refused, refused, refused], { kind: "forward" }],
    ["refused, then done", [refused, DONE], { kind: "forward" }],
    ["lost, then done", [lost, DONE], { kind: "forward" }],
    ["garbage", [raw(200, '{"usage":{"a":}}')], { kind: "forward" }],
    ["lost twice", [lost, lost], { kind: "answer", status: 503, reason: "PrefillLost" }],
    ["late twice", [late, late], { kind: "answer", status: 503, reason: "PrefillLost" }],
    ["refusal of the request", [raw(400, '{"error":1}')], { kind: "answer", status: 400 }],
  ];
  for (const [name, replies, wanted] of table) t.match((await settled(replies)).routed, wanted, name);
});

t.test("what a client that went away has pinned counts until its lease ends", async (t) => {
  const world = new World({ "router.prefill.policy": "always" });
  const { ticket, routed } = world.router.begin(request());
  world.answer(DONE);
  ticket.finish();
  await routed;
  t.match(world.sum(), { inflight: 0, prefillMs: 0 });
  t.ok(world.sum().pinned > 500, "nobody will fetch it");
  world.tick();
  t.equal(world.sum().pinned, 0);
});

t.test("what decode will fetch is pinned until its answer begins", async (t) => {
  const world = new World({ "router.prefill.policy": "always" });
  const { ticket, routed } = world.router.begin(request());
  world.answer(DONE);
  await routed;
  t.ok(world.sum().pinned > 500);
  ticket.responseStarted();
  t.equal(world.sum().pinned, 0);
  ticket.finish();
  t.equal(world.timers, 0, "no lease is left");
});

t.test("both at once: what was fetched before the prefill leg ended is not pinned by its end", async (t) => {
  for (const [first, pinned] of [
    ["prefill", true],
    ["decode", false],
  ] as const) {
    const spoken = { connector: "mooncake", engine: "vllm" };
    const world = new World({ "router.prefill.policy": "always" }, spoken);
    const { ticket, routed } = world.router.begin(request());
    t.equal((await routed).kind, "forward");
    if (first === "decode") ticket.firstToken();
    world.answer(DONE);
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(world.sum().pinned > 500, pinned, `${first} first`);
    ticket.firstToken();
    t.equal(world.sum().pinned, 0);
    ticket.finish(true);
    t.match([world.sum(), world.timers], [{ inflight: 0, prefillMs: 0 }, 0]);
  }
});

t.test("a client cannot name hosts, and its id is made unique", async (t) => {
  const evil = { kv_transfer_params: { remote_host: "10.9.9.9", remote_port: 1 }, bootstrap_host: "10.9.9.9" };
  for (const replies of [[DONE], [raw(200, "{}")]]) {
    const { world, routed } = await settled(replies, evil);
    t.notMatch(world.asked[0]?.body?.toString() ?? "", /10\.9\.9\.9/);
    if (routed.kind !== "forward") throw new Error("refused");
    t.notMatch(routed.body.toString(), /10\.9\.9\.9/);
    t.match(new Map(routed.requestHeaders).get("x-request-id"), /^ab-1d$/);
  }
});

t.test("several prompts or answers are prefilled where they are decoded", async (t) => {
  for (const more of [{ prompt: ["a".repeat(4000), "b"] }, { n: 2 }]) {
    const world = new World({ "router.prefill.policy": "always" });
    const routed = await world.router.begin(request(more)).routed;
    t.match(routed, { kind: "forward" });
    t.equal(world.asked.length, 0);
  }
});

t.test(
  "load follows a request to where the proxy sent it, and the endpoint it could not use is left alone",
  async (t) => {
    const world = new World();
    const { ticket, routed } = world.router.begin(request({ n: 2 }));
    const outcome = await routed;
    if (outcome.kind !== "forward") throw new Error("refused");
    const elsewhere = ADDRESSES.decode.find((address) => address !== outcome.destination) ?? "";
    const load = (address: string) => world.loads.of(`static:${address}`);
    t.ok(load(outcome.destination).prefillMs > 0, "it prefills where it decodes");
    const { prefillMs } = load(outcome.destination);
    ticket.served("nobody:1");
    ticket.served(elsewhere);
    t.match(load(outcome.destination), { inflight: 1, prefillMs }, "only the first word counts");
    ticket.finish();
    const again = world.router.begin(request({ n: 2 }));
    const second = await again.routed;
    if (second.kind !== "forward") throw new Error("refused");
    const [from, to] = [second.destination, ADDRESSES.decode.find((address) => address !== second.destination) ?? ""];
    again.ticket.served(to);
    t.match(
      [load(from), load(to)],
      [
        { inflight: 0, prefillMs: 0, shunnedUntil: 2000 },
        { inflight: 1, shunnedUntil: 0 },
      ],
    );
    t.ok(load(to).prefillMs > 0, "the prefill that waits goes along");
    again.ticket.finish();
    t.same(world.sum(), { inflight: 0, prefillMs: 0, pinned: 0 });
  },
);
