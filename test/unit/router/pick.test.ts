import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import type { Endpoint, Role } from "../../../src/kinds/endpoint.ts";
import { LoadBook } from "../../../src/router/load.ts";
import { ownPrefillMs } from "../../../src/router/pick/cost.ts";
import { pick, type Candidate, type PickInput } from "../../../src/router/pick/pick.ts";

const constants = loadConfig().router.cost;
const endpoint = (id: string, role: Role, more: Partial<Endpoint> = {}): Endpoint => ({
  id,
  address: `${id}:80`,
  name: id,
  namespace: "n",
  role,
  service: "s",
  group: "g",
  cell: "0",
  instance: id,
  dataParallelRank: 0,
  models: ["m"],
  compatibility: { connector: "nixl", engine: "vllm", tag: "", fabric: "" },
  draining: false,
  ready: true,
  bootId: "1",
  ...more,
});
const candidate = (id: string, role: Role, load: Partial<Candidate["load"]> = {}, cachedTokens = 0): Candidate => ({
  endpoint: endpoint(id, role),
  load: {
    prefillMs: 0,
    inflight: 0,
    pinnedTokens: 0,
    contextTokens: 0,
    slowness: 1,
    givenMs: 0,
    assigned: 0,
    shunnedUntil: 0,
    ...load,
  },
  stats: undefined,
  cachedTokens,
});
const choose = (input: Partial<PickInput>): string => {
  const chosen = pick({
    prefill: [],
    decode: [],
    promptTokens: 1000,
    outputTokens: 100,
    constants,
    policy: "cost",
    incompatible: () => undefined,
    ...input,
  });
  return chosen === undefined
    ? "none"
    : `${chosen.prefill[0]?.candidate.endpoint.id ?? "local"} ${chosen.decode.endpoint.id}`;
};

t.test("own prefill time: linear in the fresh tokens, attention over what stands before", (t) => {
  t.equal(ownPrefillMs(1000, 0, constants), 0.1 * 1000 + 2 * 1e-6 * 1000 * 500);
  t.equal(ownPrefillMs(1000, 900, constants), 0.1 * 100 + 2 * 1e-6 * 100 * 950);
  t.equal(ownPrefillMs(10, 20, constants), 0);
  t.end();
});

t.test("picks", (t) => {
  const p1 = candidate("p1", "prefill");
  const p2 = candidate("p2", "prefill");
  const d1 = candidate("d1", "decode");
  const d2 = candidate("d2", "decode");
  const table: [string, string, Partial<PickInput>][] = [
    ["no decode endpoint", "none", { prefill: [p1] }],
    ["no prefill endpoint", "local d1", { decode: [d1] }],
    ["remote prefill for a long prompt", "p1 d1", { prefill: [p1], decode: [d1] }],
    ["local prefill for a few tokens", "local d1", { prefill: [p1], decode: [d1], promptTokens: 8 }],
    ["always remote where told so", "p1 d1", { prefill: [p1], decode: [d1], promptTokens: 8, policy: "always" }],
    ["the cached prefix wins", "p2 d1", { prefill: [p1, candidate("p2", "prefill", {}, 900)], decode: [d1] }],
    [
      "until its queue costs more",
      "p1 d1",
      { prefill: [p1, candidate("p2", "prefill", { prefillMs: 1000 }, 900)], decode: [d1] },
    ],
    [
      "local prefill where decode holds nearly all",
      "local d1",
      { prefill: [p1], decode: [candidate("d1", "decode", {}, 999)] },
    ],
    [
      "local prefill when prefill drowns",
      "local d1",
      { prefill: [candidate("p1", "prefill", { prefillMs: 60_000 })], decode: [d1] },
    ],
    [
      "the emptier decode endpoint",
      "p1 d2",
      { prefill: [p1], decode: [candidate("d1", "decode", { inflight: 20 }), d2] },
    ],
    [
      "ties take turns",
      "p2 d2",
      {
        prefill: [candidate("p1", "prefill", { assigned: 5 }), p2],
        decode: [candidate("d1", "decode", { assigned: 6 }), d2],
      },
    ],
    ["an endpoint of role both prefills for itself", "local b", { decode: [candidate("b", "both")] }],
    ["incompatible pairs are never made", "local d1", { prefill: [p1], decode: [d1], incompatible: () => "fabric" }],
    [
      "another group never pairs",
      "local d1",
      { prefill: [{ ...p1, endpoint: endpoint("p1", "prefill", { group: "blue" }) }], decode: [d1], policy: "always" },
    ],
    [
      "foreign traffic that the engine reports counts",
      "p1 d2",
      { prefill: [p1], decode: [{ ...d1, stats: { at: 0, running: 30, waiting: 9, kvUsage: 0.5 } }, d2] },
    ],
  ];
  const both = (id: string, load: Partial<Candidate["load"]>, more: Partial<Candidate> = {}): Candidate => ({
    ...candidate(id, "both", load),
    ...more,
  });
  const usage = (kvUsage: number): Partial<Candidate> => ({
    ...{ stats: { at: 0, running: 5, waiting: 0, kvUsage }, capacityTokens: 100_000 },
  });
  const idle = { assigned: 9 };
  // Whatever is the dearer one waited longest: a term that does not count would make it the pick.
  table.push(
    [
      "a prefill holds up those in flight, whatever they decode",
      "local b",
      { decode: [both("a", { inflight: 4 }), both("b", { ...idle, inflight: 3 })], outputTokens: 0 },
    ],
    [
      "of as many requests those with less to attend to",
      "local b",
      {
        decode: [
          both("a", { inflight: 5, contextTokens: 90_000 }),
          both("b", { ...idle, inflight: 5, contextTokens: 50_000 }),
        ],
      },
    ],
    [
      "or by what the engine tells, where that is more",
      "local b",
      { decode: [both("a", { inflight: 5 }, usage(0.9)), both("b", { ...idle, inflight: 5 }, usage(0.2))] },
    ],
    [
      "where a cache has no room it is waited for",
      "local b",
      {
        decode: [
          both("a", { contextTokens: 99_000 }, { capacityTokens: 100_000 }),
          both("b", { ...idle, contextTokens: 99_000 }, { capacityTokens: 200_000 }),
        ],
        promptTokens: 50_000,
        constants: { ...constants, decodeMsPerKvToken: 0.1 },
      },
    ],
    [
      "what is cached needs no room",
      "local b",
      {
        decode: [
          both("a", { prefillMs: 0, contextTokens: 99_500 }, { capacityTokens: 100_000 }),
          both(
            "b",
            { ...idle, prefillMs: 300, contextTokens: 99_500 },
            { capacityTokens: 100_000, cachedTokens: 49_900 },
          ),
        ],
        promptTokens: 50_000,
        // Prefill costs next to nothing, room much.
        constants: { ...constants, prefillMsPerToken: 0.00001, prefillMsPerTokenSquared: 0, decodeMsPerKvToken: 1 },
      },
    ],
  );
  for (const [name, wanted, input] of table) t.equal(choose(input), wanted, name);
  t.end();
});

t.test("fallbacks are the next best that the same prefill can be handed to", (t) => {
  const decode = ["d1", "d2", "d3", "d4"].map((id, index) => candidate(id, "decode", { inflight: 10 * index }));
  const chosen = pick({
    prefill: [candidate("p", "prefill")],
    ...{ decode, promptTokens: 8, outputTokens: 100, constants, policy: "always", fallbacks: 2 },
    incompatible: (_, { id }) => (id === "d2" ? "block size" : undefined),
  });
  t.same(
    chosen?.fallbacks.map(({ id }) => id),
    ["d3", "d4"],
  );
  t.end();
});

t.test("near is near the cheapest, not near the next", (t) => {
  // Each within 1 % of the one before, the dearest twice the first, and waiting longest.
  const prefill = Array.from({ length: 80 }, (_, n) =>
    candidate(`p${n}`, "prefill", { prefillMs: 1000 * 1.009 ** n, assigned: 100 - n }),
  );
  t.equal(choose({ prefill, decode: [candidate("d", "decode")], policy: "always" }), "p1 d", "p0 and p1 tie");
  const near = candidate("d", "decode");
  const domains = ["rack"];
  const inRack = { ...near, endpoint: { ...near.endpoint, domains } };
  const twins = [5, 3].map((assigned) => candidate(`p${assigned}`, "prefill", { assigned }));
  const placed = twins.map((each) => ({ ...each, endpoint: { ...each.endpoint, domains } }));
  t.equal(choose({ prefill: placed, decode: [inRack], policy: "always" }), "p3 d", "and where distances are known");
  t.end();
});

/** 200 requests at once, none of which ends: how many each endpoint got. */
function burst(policy: PickInput["policy"]): Record<string, number> {
  const book = new LoadBook();
  const of = (id: string, role: Role): Candidate => ({
    endpoint: endpoint(id, role),
    load: { ...book.of(id) },
    stats: undefined,
    cachedTokens: 0,
  });
  const counts = new Map<string, number>();
  for (let i = 0; i < 200; i++) {
    const chosen = pick({
      prefill: [of("p1", "prefill"), of("p2", "prefill")],
      decode: [of("d1", "decode"), of("d2", "decode")],
      promptTokens: 300,
      outputTokens: 64,
      constants,
      policy,
      incompatible: () => undefined,
    })!;
    const by = chosen.prefill[0];
    if (by !== undefined) {
      book.request(by.candidate.endpoint.id);
      book.prefill(by.candidate.endpoint.id, by.ownMs);
    } else book.prefill(chosen.decode.endpoint.id, chosen.localOwnMs);
    book.request(chosen.decode.endpoint.id);
    for (const id of [by?.candidate.endpoint.id ?? "local", chosen.decode.endpoint.id])
      counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

t.test("a uniform burst over two pairs spreads evenly, both legs on their roles", (t) => {
  t.same(burst("always"), { p1: 100, p2: 100, d1: 100, d2: 100 });
  const { local = 0, p1 = 0, p2 = 0, ...decode } = burst("cost");
  t.same(decode, { d1: 100, d2: 100 });
  t.ok(
    local > 20 && local < 100 && Math.abs(p1 - p2) <= 1,
    `${local} short prompts do not wait for busy prefill: ${p1}, ${p2}`,
  );
  t.end();
});

t.test("releases are exact and safe to repeat", (t) => {
  const book = new LoadBook();
  const [a, b] = [book.request("x"), book.prefill("x", 40)];
  t.match(book.of("x"), { inflight: 1, prefillMs: 40, assigned: 1 });
  a();
  a();
  b();
  b();
  t.match(book.of("x"), { inflight: 0, prefillMs: 0 });
  book.keep(new Set());
  t.equal(book.of("x").assigned, 0);
  t.end();
});
