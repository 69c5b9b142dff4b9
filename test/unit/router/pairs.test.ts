/** Joint choice of prefill and decode: who can pair, how far they are, what is pinned, and how an upgrade shares traffic. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import type { Endpoint, Role } from "../../../src/kinds/endpoint.ts";
import { compatible } from "../../../src/profiles/connectors.ts";
import { LoadBook } from "../../../src/router/load.ts";
import { pinnedCost, transferCost } from "../../../src/router/pick/cost.ts";
import { distanceOf } from "../../../src/router/pick/distance.ts";
import { pick, type Candidate, type PickInput } from "../../../src/router/pick/pick.ts";
import { seededRandom } from "../../../src/simulator/random.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";

const constants = loadConfig({}).router.cost;

const endpoint = (id: string, role: Role, more: Partial<Endpoint> & { tag?: string } = {}): Endpoint => ({
  ...{ id, role, address: `${id}:80`, name: id, namespace: "n", service: "m", group: "m", cell: "0", instance: id },
  ...{ dataParallelRank: 0, models: ["m"], draining: false, ready: true, bootId: id },
  compatibility: { connector: "nixl", engine: "vllm", tag: more.tag ?? "", fabric: "" },
  ...more,
});
const loads = {
  prefillMs: 0,
  inflight: 0,
  pinnedTokens: 0,
  contextTokens: 0,
  slowness: 1,
  givenMs: 0,
  assigned: 0,
  shunnedUntil: 0,
};
const idle = (each: Endpoint, load: Partial<Candidate["load"]> = {}): Candidate => ({
  endpoint: each,
  load: { ...loads, ...load },
  stats: undefined,
  cachedTokens: 0,
  capacityTokens: 100_000,
});
const choose = (prefill: readonly Candidate[], decode: readonly Candidate[], more: Partial<PickInput> = {}) =>
  pick({
    ...{ prefill, decode, promptTokens: 4000, outputTokens: 100, constants, policy: "always" },
    incompatible: (a, b) => compatible(a.compatibility, b.compatibility),
    ...more,
  });

t.test("distance by domains, from the widest on", (t) => {
  const table: readonly (readonly [readonly string[] | undefined, readonly string[] | undefined, number])[] = [
    [undefined, undefined, 0],
    [["z", "0", "a"], undefined, 0],
    [["z", "0", "a"], ["z", "0", "a"], 0],
    [["z", "0", "a"], ["z", "1", "a"], 0],
    [["z", "0", "a"], ["z", "0", "b"], 1],
    [["z", "0", "a"], ["z", "1", "b"], 2],
    [["z", "0", "a"], ["y", "0", "b"], 3],
    [["z", "0", "a"], ["z", "b"], 2],
  ];
  for (const [from, to, wanted] of table) {
    const [a, b] = [from, to].map((domains, at) =>
      endpoint(String(at), "both", domains === undefined ? {} : { domains }),
    );
    t.equal(distanceOf(a!, b!), wanted, `${from?.join("/")} to ${to?.join("/")}`);
    t.equal(distanceOf(b!, a!), wanted, "the same way back");
  }
  t.ok(transferCost(1000, constants, 2) > transferCost(1000, constants, 1), "each step costs");
  t.equal(transferCost(1000, constants, 0), transferCost(1000, constants));
  t.end();
});

t.test("the near prefill is taken before the far one, unless its queue is longer than the way", (t) => {
  const decode = [idle(endpoint("d", "decode", { domains: ["z", "0", "n1"] }))];
  const near = endpoint("near", "prefill", { domains: ["z", "0", "n2"] });
  const far = endpoint("far", "prefill", { domains: ["y", "1", "n3"] });
  const first = (queue: number): string | undefined =>
    choose([idle(far), idle(near, { prefillMs: queue })], decode)?.prefill[0]?.candidate.endpoint.id;
  t.equal(first(0), "near");
  t.equal(first(3), "near", "0.003 ms a token, half of it for each 2 steps: 6 ms");
  t.equal(first(100), "far");
  t.same(
    choose([idle(far), idle(near)], decode)?.prefill.map(({ candidate }) => candidate.endpoint.id),
    ["near", "far"],
    "and who follows is further",
  );
  t.end();
});

t.test("blocks that wait to be fetched make an endpoint dearer, without bound at none and with one at all", (t) => {
  const price = (pinned: number): number => pinnedCost(100, pinned, 100_000, constants);
  t.equal(price(0), 0);
  t.equal(price(50_000), 100 * constants.mu, "once mu at half of the cache");
  t.ok(price(10_000) < price(20_000));
  t.equal(price(1e9), price(100_000));
  t.equal(pinnedCost(100, 50, 0, constants), 0, "nothing is known of the cache");
  const [a, b] = [endpoint("a", "prefill"), endpoint("b", "prefill")];
  const chosen = choose([idle(a, { pinnedTokens: 60_000 }), idle(b)], [idle(endpoint("d", "decode"))]);
  t.equal(chosen?.prefill[0]?.candidate.endpoint.id, "b");
  t.end();
});

t.test("what cannot talk is never paired, and a decode engine that computes nothing is not picked alone", (t) => {
  const oldPrefill = idle(endpoint("op", "prefill", { tag: "1" }));
  const newDecode = idle(endpoint("nd", "decode", { tag: "2" }));
  const oldDecode = idle(endpoint("od", "decode", { tag: "1" }), { inflight: 200 });
  t.match(choose([oldPrefill], [newDecode]), { prefill: [], decode: newDecode }, "it prefills by itself");
  const alone = (): boolean => false;
  t.equal(choose([oldPrefill], [newDecode], { alone }), undefined);
  t.match(choose([oldPrefill], [newDecode, oldDecode], { alone }), { decode: oldDecode }, "however busy");
  t.end();
});

interface Upgrade {
  readonly prefill: readonly [old: number, fresh: number];
  readonly decode: readonly [old: number, fresh: number];
  /** Share of what all prefill endpoints can do. */
  readonly load: number;
}

const PREFILL_MS = 400;
const DECODE_MS = 4000;
const REQUESTS = 4000;

/** Share of requests that a pair of the new version served, with prefill one at a time and decode side by side. */
function shareOfNew({ prefill, decode, load }: Upgrade): { share: number; mixed: number } {
  const [time, book, random] = [new VirtualTime(), new LoadBook(), seededRandom(7)];
  const make = (role: Role, [old, fresh]: readonly [number, number]): Endpoint[] =>
    Array.from({ length: old + fresh }, (_, at) => endpoint(`${role}${at}`, role, { tag: at < old ? "1" : "2" }));
  const [prefills, decodes] = [make("prefill", prefill), make("decode", decode)];
  const free = new Map<string, number>();
  let [fresh, mixed] = [0, 0];
  const serve = (): void => {
    const all = (list: readonly Endpoint[]): Candidate[] => list.map((each) => idle(each, book.of(each.id)));
    const chosen = choose(all(prefills), all(decodes), { policy: "cost", alone: () => false });
    const by = chosen?.prefill[0];
    if (chosen === undefined || by === undefined) throw new Error("no pair");
    const [p, d] = [by.candidate.endpoint, chosen.decode.endpoint];
    if (p.compatibility.tag !== d.compatibility.tag) mixed += 1;
    if (d.compatibility.tag === "2") fresh += 1;
    const releases = [book.request(p.id), book.prefill(p.id, by.ownMs)];
    const decoded = book.request(d.id);
    const starts = Math.max(time.monotonic(), free.get(p.id) ?? 0);
    free.set(p.id, starts + PREFILL_MS);
    time.after(starts + PREFILL_MS - time.monotonic(), () => {
      releases.forEach((release) => release());
      time.after(DECODE_MS, decoded);
    });
  };
  const every = PREFILL_MS / (load * prefills.length);
  for (let count = 0; count < REQUESTS; count += 1) {
    time.advance(-Math.log(1 - random.next()) * every);
    serve();
  }
  return { share: fresh / REQUESTS, mixed };
}

t.test("a rolling upgrade shares traffic by what each set of compatible pairs can do", (t) => {
  // Prefill is what runs short here: a set can do as much as its prefill endpoints.
  const table: readonly (readonly [name: string, upgrade: Upgrade, wanted: readonly [number, number]])[] = [
    ["10 % of both, busy", { prefill: [9, 1], decode: [9, 1], load: 0.8 }, [0.07, 0.13]],
    ["10 % of prefill and half of decode, busy", { prefill: [9, 1], decode: [5, 5], load: 0.8 }, [0.07, 0.14]],
    ["half of prefill and 10 % of decode, busy", { prefill: [5, 5], decode: [9, 1], load: 0.8 }, [0.1, 0.5]],
    ["half of both, busy", { prefill: [5, 5], decode: [5, 5], load: 0.8 }, [0.45, 0.55]],
    ["90 % of both, busy", { prefill: [1, 9], decode: [1, 9], load: 0.8 }, [0.87, 0.93]],
    ["10 % of both, at ease", { prefill: [9, 1], decode: [9, 1], load: 0.3 }, [0.06, 0.15]],
  ];
  for (const [name, upgrade, [least, most]] of table) {
    const { share, mixed } = shareOfNew(upgrade);
    t.equal(mixed, 0, `${name}: nothing is mixed`);
    t.ok(share >= least && share <= most, `${name}: ${(100 * share).toFixed(1)} % go to the new version`);
  }
  t.end();
});
