/**
 * Dynamo's KV router: prefill blocks to compute, with those already sent there, plus blocks of active sequences; the
 * lowest sum wins (temperature 0).
 *
 * Source: ai-dynamo/dynamo, lib/kv-router, with its defaults: overlap weight 1, load tracked by the router, cached blocks
 * by events. With prefill engines: both by the same cost, decode without the prefill term (its decode router).
 */
import type { Chooser, Sent, View } from "../policy.ts";
import type { SimulatedRequest } from "../workload.ts";
import type { ToldPrefixes } from "./prefixes.ts";
import { least } from "./simple.ts";

export function dynamo({ fleet, random }: View, told: ToldPrefixes): Chooser {
  const prefillBlocks = fleet.engines.map(() => 0);
  /** Blocks of active sequences by engine, each with how many have it. */
  const active = fleet.engines.map(() => new Map<number, number>());
  const fresh = (engine: number, { blocks }: SimulatedRequest): number => blocks.length - told.matched(engine, blocks);
  const decodeBlocks = (engine: number, { blocks }: SimulatedRequest): number => {
    const held = active[engine];
    return (held?.size ?? 0) + blocks.filter((block) => held?.has(block) !== true).length;
  };
  const prefills = (engine: number, request: SimulatedRequest): number =>
    (prefillBlocks[engine] ?? 0) + fresh(engine, request);
  const best = (engines: readonly number[], cost: (engine: number) => number): number =>
    least(engines, cost, random.next());
  const sent = (request: SimulatedRequest, engine: number, prefill: boolean): Sent => {
    const blocks = prefill ? fresh(engine, request) : 0;
    prefillBlocks[engine] = (prefillBlocks[engine] ?? 0) + blocks;
    const held = active[engine] ?? new Map<number, number>();
    for (const block of request.blocks) held.set(block, (held.get(block) ?? 0) + 1);
    return {
      firstToken: () => (prefillBlocks[engine] = (prefillBlocks[engine] ?? 0) - blocks),
      over: () => release(held, request.blocks),
    };
  };
  const split = fleet.prefillers.length > 0;
  return {
    choose: (request) => {
      const whole = (engine: number): number => prefills(engine, request) + decodeBlocks(engine, request);
      if (!split) return { engine: best(fleet.decoders, whole) };
      const engine = best(fleet.decoders, (each) => decodeBlocks(each, request));
      return { engine, prefill: best(fleet.prefillers, whole) };
    },
    sent: (request, engine) => sent(request, engine, !split || fleet.prefillers.includes(engine)),
  };
}

function release(held: Map<number, number>, blocks: readonly number[]): void {
  for (const block of blocks) {
    const count = (held.get(block) ?? 0) - 1;
    if (count > 0) held.set(block, count);
    else held.delete(block);
  }
}
