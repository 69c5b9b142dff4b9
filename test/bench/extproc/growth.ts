/** What a request costs the router as endpoints, index and bodies grow: in this process, without the protocol. */
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";
import type { Timers } from "../../../src/ports.ts";
import { median } from "./compare.ts";
import { BLOCK_BYTES, MODEL, type ContentSpec } from "./content.ts";
import { createWorld, type World } from "./world.ts";

export interface GrowthRow {
  readonly axis: "endpoints" | "blocks" | "bodyBytes";
  readonly endpoints: number;
  readonly blocks: number;
  readonly bodyBytes: number;
  /** From the whole body to the destination, and the end of the request. */
  readonly requestMicros: number;
  /** Of it: who holds how much of the prompt. */
  readonly matchMicros: number;
  /** d(log requestMicros) / d(log size) from the first row of the axis on: 1 is linear. */
  readonly exponent: number | null;
}

const BASE = { endpoints: 100, blocks: 1_000_000, bodyBytes: 16_384 };
const AXES = {
  endpoints: [10, 32, 100, 316, 1000],
  blocks: [10_000, 100_000, 1_000_000, 10_000_000],
  bodyBytes: [1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
} as const;

const BATCHES = 9;
/** Bytes of bodies in a batch, which are made before the clock runs. */
const BATCH_BYTES = 4 * 2 ** 20;

const NO_TIMERS: Timers = { after: () => () => undefined, every: () => () => undefined };

export async function growth(seed: number, tell: (line: string) => void): Promise<GrowthRow[]> {
  const rows: GrowthRow[] = [];
  for (const axis of ["endpoints", "blocks", "bodyBytes"] as const) {
    const first = rows.length;
    for (const size of AXES[axis]) {
      tell(`${axis} ${size}`);
      const spec = { ...BASE, [axis]: size, seed };
      const costs = await costOf(spec);
      const start = rows[first];
      const steps = start === undefined ? 0 : Math.log(size / start[axis]);
      const exponent = start === undefined ? null : Math.log(costs.requestMicros / start.requestMicros) / steps;
      const { endpoints, blocks, bodyBytes } = spec;
      rows.push({ axis, endpoints, blocks, bodyBytes, ...costs, exponent: exponent && Number(exponent.toFixed(2)) });
    }
  }
  return rows;
}

async function costOf(spec: ContentSpec): Promise<Pick<GrowthRow, "requestMicros" | "matchMicros">> {
  const world = createWorld(spec, { timers: NO_TIMERS, metrics: NO_METRICS, log: SILENT_LOG });
  const count = Math.min(500, Math.max(4, Math.floor(BATCH_BYTES / spec.bodyBytes)));
  const requests: number[] = [];
  const matches: number[] = [];
  // The first three batches warm up.
  for (let batch = -3; batch < BATCHES; batch++) {
    const numbers = Array.from({ length: count }, (_, index) => (batch + 3) * count + index);
    const [request, match] = [await requestTime(world, numbers), matchTime(world, numbers)];
    if (batch < 0) continue;
    requests.push(request);
    matches.push(match);
  }
  const micros = (times: readonly number[]): number => Number(((median(times) * 1000) / count).toFixed(2));
  return { requestMicros: micros(requests), matchMicros: micros(matches) };
}

async function requestTime({ router, content }: World, numbers: readonly number[]): Promise<number> {
  const bodies = numbers.map((number) => content.body(number));
  const began = performance.now();
  for (const body of bodies) {
    const { ticket, routed } = router.begin({ method: "POST", path: "/v1/chat/completions", headers: [], body });
    const { kind } = await routed;
    if (kind !== "forward") throw new Error("a request of the benchmark was refused");
    ticket.finish();
  }
  return performance.now() - began;
}

function matchTime({ index, hasher, content }: World, numbers: readonly number[]): number {
  const keys = numbers.map((number) => hasher.keys([content.prompt(number)], BLOCK_BYTES, MODEL));
  const began = performance.now();
  for (const each of keys) index.match(each);
  return performance.now() - began;
}
