/** Windows over an engine's counters: what each comes to, and what is believed after it. */
import t from "tap";
import type { CacheLookups } from "../../../src/kinds/endpoint.ts";
import { CountedHits, judged } from "../../../src/router/kv/counted.ts";
import { HitTrust } from "../../../src/router/kv/trust.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";

/** One engine; each `serve` is twenty prompts of 4000 tokens, 3600 of them predicted, and the page behind them. */
function rig() {
  const trust = new HitTrust();
  const outcomes: unknown[] = [];
  const count = (_: string, labels: object = {}): void => void outcomes.push(...(Object.values(labels) as unknown[]));
  const counted = new CountedHits({ trust, metrics: { ...NO_METRICS, count }, pageMs: 100 });
  let [now, page]: [number, CacheLookups] = [0, { queried: 1e6, hit: 5e5, external: 0 }];
  counted.read("e", page, now);
  const send = (tokens: number, told: boolean, handed: boolean): void => {
    const window = counted.begin("e", tokens);
    if (told) judged({ trust, counted }, { endpoint: "e", thought: 3600 }, { cachedTokens: 3600 });
    if (handed) counted.handed({ endpoint: "e", window: 0, tokens });
    counted.computed({ endpoint: "e", window, tokens, thought: 0.9 * tokens }, now);
  };
  const serve = (more: Partial<CacheLookups>, { said = 0, handed = 0, tokens = 4000 } = {}): void => {
    for (let at = 0; at < 20; at++) send(tokens, at < said, at < handed);
    page = plus(page, more);
    counted.read("e", page, (now += 1000));
  };
  const read = (next: CacheLookups | undefined): void => counted.read("e", next, (now += 1000));
  const wait = (ms: number): number => (now += ms);
  return { trust, outcomes, counted, serve, read, wait, page: () => page };
}

const plus = (page: CacheLookups, { queried = 0, hit = 0, external = 0 }: Partial<CacheLookups>): CacheLookups => ({
  queried: page.queried + queried,
  hit: page.hit + hit,
  external: page.external + external,
});

t.test("what one window teaches", (t) => {
  const table: [string, Parameters<ReturnType<typeof rig>["serve"]>, [low: number, high: number], string[]][] = [
    ["all hit", [{ queried: 80_000, hit: 72_000 }], [1, 1], ["judged"]],
    ["none hit", [{ queried: 80_000, hit: 0 }], [0.2, 0.35], ["judged"]],
    ["half hit", [{ queried: 80_000, hit: 36_000 }], [0.6, 0.7], ["judged"]],
    [
      "what an offloading connector brought in counts",
      [{ queried: 80_000, hit: 0, external: 72_000 }],
      [1, 1],
      ["judged"],
    ],
    [
      "what came from a prefill engine does not",
      [{ queried: 80_000, hit: 0, external: 72_000 }, { handed: 1 }],
      [0.2, 0.35],
      ["judged"],
    ],
    ["answers told: nothing is said twice", [{ queried: 80_000, hit: 0 }, { said: 10 }], [1, 1], ["told"]],
    ["few answers told", [{ queried: 80_000, hit: 0 }, { said: 2 }], [0.2, 0.35], ["judged"]],
    ["half of the traffic is foreign, and hits", [{ queried: 160_000, hit: 80_000 }], [1, 1], ["foreign"]],
    ["half of the traffic is foreign, and nothing hits", [{ queried: 160_000, hit: 0 }], [0.2, 0.35], ["judged"]],
    ["nothing was looked up at all", [{ queried: 0, hit: 0 }], [1, 1], ["idle"]],
    ["prompts estimated twice as long as they are", [{ queried: 40_000, hit: 36_000 }, {}], [1, 1], ["judged"]],
    ["too few tokens", [{ queried: 8000, hit: 0 }, { tokens: 400 }], [1, 1], []],
  ];
  for (const [name, args, [low, high], outcomes] of table) {
    const { trust, serve, outcomes: seen } = rig();
    serve(...args);
    t.ok(trust.of("e") >= low && trust.of("e") <= high, `${name}: ${trust.of("e")}`);
    t.same(seen, outcomes, name);
  }
  t.end();
});

t.test("a window goes on while much of our own is at its edges, and ends some time", (t) => {
  const { trust, outcomes, serve, counted, wait } = rig();
  counted.begin("e", 1e6);
  serve({ queried: 80_000, hit: 0 });
  t.same([outcomes, trust.of("e")], [[], 1], "a prompt of a million tokens is on its way");
  wait(300_000);
  serve({ queried: 80_000, hit: 0 });
  t.same(outcomes, ["judged"]);
  t.ok(trust.of("e") < 0.1, "forty prompts");
  t.end();
});

t.test("an engine that begins anew, and one that counts no more", (t) => {
  const { trust, outcomes, serve, read, counted, page } = rig();
  serve({ queried: 80_000, hit: 72_000 });
  const window = counted.begin("e", 0);
  read({ queried: 10, hit: 0, external: 0 });
  t.same(outcomes, ["judged", "reset"]);
  counted.computed({ endpoint: "e", window, tokens: 1e6, thought: 1e6 }, 0);
  t.equal(trust.of("e"), 1, "prompts of the former engine are not looked for in the new one");
  read({ ...page(), queried: 100_000 });
  t.equal(trust.of("e"), 1);
  read(undefined);
  t.equal(counted.begin("e", 0), 0);
  t.end();
});

t.test("a prompt whose page is not here yet belongs to no window that ended before", (t) => {
  const { trust, outcomes, counted, serve, read, page } = rig();
  const late = counted.begin("e", 0);
  serve({ queried: 80_000, hit: 72_000 });
  for (let at = 0; at < 50; at++) counted.computed({ endpoint: "e", window: late, tokens: 4000, thought: 3600 }, 0);
  read({ ...page(), queried: page().queried + 20_000 });
  t.same(outcomes, ["judged"]);
  t.equal(trust.of("e"), 1);
  counted.keep(new Set());
  t.equal(counted.begin("e", 0), 0);
  t.end();
});
