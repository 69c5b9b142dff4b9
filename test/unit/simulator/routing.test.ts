import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { CAPACITY_TOKENS, RoutingSimulation, type RoutingResult } from "../../../src/simulator/routing/run.ts";
import { conversations } from "../../../src/simulator/routing/workload.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";

const config = loadConfig({ text: JSON.stringify({ router: { index: { capacityTokens: CAPACITY_TOKENS } } }) }).router;
const requests = conversations({ seed: 1, requestsPerSecond: 8, seconds: 20 });

const simulate = (routers: number, index = true): Promise<RoutingResult> =>
  new RoutingSimulation({
    ...{ config, engines: 2, routers, deltaMs: 50, shares: { load: true, index }, seed: 1, requests, fromMs: 0 },
    ...{ log: SILENT_LOG, metrics: NO_METRICS },
  }).result();

t.test("conversations are in order, grow, and are the same for the same seed", (t) => {
  t.same(conversations({ seed: 1, requestsPerSecond: 8, seconds: 20 }), requests);
  t.notSame(conversations({ seed: 2, requestsPerSecond: 8, seconds: 20 }), requests);
  t.ok(requests.every(({ at }, index) => at >= (requests[index - 1]?.at ?? 0)));
  t.ok(requests.every(({ blocks, outputTokens }) => blocks.length > 8 && outputTokens > 0));
  t.end();
});

t.test("every request gets its first token, and a run can be repeated", async (t) => {
  const [one, again] = [await simulate(1), await simulate(1)];
  t.equal(one.ttftMs.length, requests.length);
  t.same(again, one);
  t.ok(one.ttftMs.every((ms) => ms > 0));
});

t.test("a replica that does not know what the other sent where finds less in the caches", async (t) => {
  const [told, alone] = [await simulate(2), await simulate(2, false)];
  t.equal(alone.ttftMs.length, requests.length);
  t.ok(alone.hitRate < told.hitRate, `${alone.hitRate} and ${told.hitRate}`);
});
