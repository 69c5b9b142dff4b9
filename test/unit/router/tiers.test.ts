/** Cached prefixes of nearer and farther memory, and waiting for room: tables by hand. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { fitCost } from "../../../src/router/pick/cost.ts";
import { fetchMs, usableTokens } from "../../../src/router/pick/tiers.ts";

/** A token computed takes 0.1 ms, fetched from the host 0.01, from a pool 0.05. */
const constants = {
  ...loadConfig({}).router.cost,
  ...{ prefillMsPerToken: 0.1, prefillMsPerTokenSquared: 0, offloadedMsPerToken: 0.01, sharedMsPerToken: 0.05 },
};
const SLOW_POOL = { ...constants, sharedMsPerToken: 0.2 };

t.test("what is fetched, and how long that takes", (t) => {
  for (const [what, cachedTokens, hostTokens, sharedTokens, usable, ms, of] of [
    ["nothing but the accelerator's", 500, 0, 0, 500, 0, constants],
    ["the host knows no more", 500, 400, 500, 500, 0, constants],
    ["from the host", 500, 800, 800, 800, 3, constants],
    ["from both", 500, 800, 900, 900, 8, constants],
    ["from the pool alone", 0, 0, 600, 600, 30, constants],
    ["never the last token", 0, 1000, 1000, 999, 9.99, constants],
    ["a pool that is slower than to compute", 0, 300, 900, 300, 3, SLOW_POOL],
  ] as const) {
    const tiers = { cachedTokens, hostTokens, sharedTokens };
    t.equal(usableTokens(1000, tiers, of), usable, what);
    t.equal(Number(fetchMs(usable, tiers, of).toFixed(6)), ms, what);
  }
  t.equal(usableTokens(1000, { cachedTokens: 7 }, constants), 7, "nobody tells of tiers");
  t.end();
});

t.test("room for a prompt and its answer", (t) => {
  const cache = { kvTokens: 80_000, capacityTokens: 100_000 };
  t.equal(fitCost(20_000, cache, 4000), 0, "it just fits");
  t.equal(fitCost(40_000, cache, 4000), 1000, "a quarter of what is there has to go");
  t.equal(fitCost(40_000, { ...cache, capacityTokens: 0 }, 4000), 0, "nothing is known of the cache");
  t.equal(fitCost(200_000, { ...cache, kvTokens: 0 }, 4000), 0, "nothing is there that could go");
  t.end();
});
