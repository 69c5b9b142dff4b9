/** What a request costs the router as endpoints, index and bodies grow: in this process, without the protocol. */
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";
import type { Timers } from "../../../src/ports.ts";
import { median } from "./compare.ts";
import { BLOCK_BYTES, MODEL, type ContentSpec } from "./content.ts";
import { createWorld, type World } from "./world.ts";
import { rounded } from "../../support/usage.ts";

export interface GrowthRow {
  readonly axis: "endpoints" | "blocks" | "bodyBytes";
  readonly endpoints: number;
  readonly blocks: number;
  readonly bodyBytes: number;
  /** Processor time from the whole body to the destination, and the end of the request. */
  readonly requestMicros: number;
  /** Of it: who holds how much of the prompt. */
  readonly matchMicros: number;
  /** The rest: reading the body, its block keys, the choice among the endpoints. */
  readonly restMicros: number;
  /** Size to that of the row before, and requestMicros to that of the row before, over it: at most 1 is linear or better. */
  readonly sizeTimes: number | null;
  readonly costToSize: number | null;
}

const BASE = { endpoints: 100, blocks: 1_000_000, bodyBytes: 16_384 };
const AXES = {
  endpoints: [10, 100, 1000],
  blocks: [10_000, 100_000, 1_000_000, 10_000_000],
  bodyBytes: [1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
} as const;

const BATCHES = 9;
const WARM_BATCHES = 3;
/** Bytes of bodies in a batch, which are made before the clock runs. */
const BATCH_BYTES = 4 * 2 ** 20;

const NO_TIMERS: Timers = { after: () => () => undefined, every: () => () => undefined };

export async function growth(seed: number, tell: (line: string) => void): Promise<GrowthRow[]> {
  const rows: GrowthRow[] = [];
  // The setting that all axes share is measured once.
  const known = new Map<string, Costs>();
  for (const axis of ["endpoints", "blocks", "bodyBytes"] as const) {
    let before: GrowthRow | undefined;
    for (const size of AXES[axis]) {
      tell(`${axis} ${size}`);
      const spec = { ...BASE, [axis]: size, seed };
      const costs = known.get(JSON.stringify(spec)) ?? (await costOf(spec));
      known.set(JSON.stringify(spec), costs);
      before = rowOf(axis, spec, { costs, before });
      rows.push(before);
    }
  }
  return rows;
}

type Costs = Pick<GrowthRow, "requestMicros" | "matchMicros">;

function rowOf(
  axis: GrowthRow["axis"],
  { endpoints, blocks, bodyBytes }: ContentSpec,
  { costs, before }: { costs: Costs; before: GrowthRow | undefined },
): GrowthRow {
  const size = { endpoints, blocks, bodyBytes };
  const times = before === undefined ? null : size[axis] / before[axis];
  return {
    ...{ axis, ...size, ...costs },
    restMicros: rounded(costs.requestMicros - costs.matchMicros, 2),
    sizeTimes: times && rounded(times, 2),
    costToSize: before && times ? rounded(costs.requestMicros / before.requestMicros / times, 3) : null,
  };
}

async function costOf(spec: ContentSpec): Promise<Costs> {
  const count = Math.min(500, Math.max(4, Math.floor(BATCH_BYTES / spec.bodyBytes)));
  const ports = { timers: NO_TIMERS, metrics: NO_METRICS, log: SILENT_LOG };
  const world = createWorld(spec, ports, (WARM_BATCHES + BATCHES) * count);
  const requests: number[] = [];
  const matches: number[] = [];
  for (let batch = 0; batch < WARM_BATCHES + BATCHES; batch++) {
    const numbers = Array.from({ length: count }, (_, index) => batch * count + index);
    const [request, match] = [await requestTime(world, numbers), matchTime(world, numbers)];
    if (batch < WARM_BATCHES) continue;
    requests.push(request);
    matches.push(match);
  }
  const micros = (times: readonly number[]): number => rounded(median(times) / count, 2);
  return { requestMicros: micros(requests), matchMicros: micros(matches) };
}

/** Of this thread, since then: others on the machine do not count. */
function cpuMicros(since: NodeJS.CpuUsage): number {
  const { user, system } = process.threadCpuUsage(since);
  return user + system;
}

async function requestTime({ router, content }: World, numbers: readonly number[]): Promise<number> {
  const bodies = numbers.map((number) => content.body(number));
  const began = process.threadCpuUsage();
  for (const body of bodies) {
    const { ticket, routed } = router.begin({ method: "POST", path: "/v1/chat/completions", headers: [], body });
    const { kind } = await routed;
    if (kind !== "forward") throw new Error("a request of the benchmark was refused");
    ticket.finish();
  }
  return cpuMicros(began);
}

function matchTime({ index, hasher, content }: World, numbers: readonly number[]): number {
  const keys = numbers.map((number) => hasher.keys([content.prompt(number)], BLOCK_BYTES, MODEL));
  const began = process.threadCpuUsage();
  for (const each of keys) index.match(each);
  return cpuMicros(began);
}
