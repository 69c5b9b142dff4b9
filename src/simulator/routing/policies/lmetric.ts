/**
 * LMetric: prefill tokens that would wait or run there with this request, times the requests there; the lowest product
 * wins. It has no parameter.
 *
 * Source: arXiv 2603.15202. Load tracked by the router, cached blocks by events. With prefill engines: those by it, decode
 * engines by least request.
 */
import type { Chooser, View } from "../policy.ts";
import type { SimulatedRequest } from "../workload.ts";
import type { ToldPrefixes } from "./prefixes.ts";
import { least } from "./simple.ts";
import { Tracked } from "./tracked.ts";

export function lmetric({ fleet, random }: View, told: ToldPrefixes): Chooser {
  const tracked = new Tracked(fleet.engines.length);
  const queued = fleet.engines.map(() => 0);
  const { blockTokens } = fleet.model;
  const fresh = (engine: number, { blocks, promptTokens }: SimulatedRequest): number =>
    promptTokens - told.matched(engine, blocks) * blockTokens;
  const product = (engine: number, request: SimulatedRequest): number =>
    ((queued[engine] ?? 0) + fresh(engine, request)) * (tracked.inflight(engine) + 1);
  const byProduct = (engines: readonly number[], request: SimulatedRequest): number =>
    least(engines, (engine) => product(engine, request), random.next());
  const split = fleet.prefillers.length > 0;
  return {
    choose: (request) =>
      split
        ? {
            engine: least(fleet.decoders, (engine) => tracked.inflight(engine), random.next()),
            prefill: byProduct(fleet.prefillers, request),
          }
        : { engine: byProduct(fleet.decoders, request) },
    sent: (request, engine) => {
      const tokens = !split || fleet.prefillers.includes(engine) ? fresh(engine, request) : 0;
      queued[engine] = (queued[engine] ?? 0) + tokens;
      const { over } = tracked.sent(engine);
      return {
        firstToken: () => (queued[engine] = (queued[engine] ?? 0) - tokens),
        ...(over === undefined ? {} : { over }),
      };
    },
  };
}
