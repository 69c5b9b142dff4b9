/**
 * What the serving thread and the scraping one say to each other. Stats of all engines that were read since the last
 * message are one array of numbers, which changes hands without being copied; names are sent only where they changed.
 */
import type { CacheLookups, EngineStats } from "../kinds/endpoint.ts";
import type { Scraped, Target } from "./scrape.ts";

export type { Target } from "./scrape.ts";

export type ToScraper =
  | { readonly kind: "targets"; readonly version: number; readonly targets: readonly Target[] }
  | { readonly kind: "access"; readonly access: unknown }
  | { readonly kind: "poll"; readonly call: number };

export interface FromScraper {
  /** Of the list of targets that the rows count by. */
  readonly version: number;
  readonly stats: Float64Array;
  readonly models: readonly (readonly [target: number, models: readonly string[]])[];
  /** Where engines say that they publish KV events. */
  readonly events: readonly (readonly [target: number, events: Scraped["events"]])[];
  /** Metrics since the last message, as the relay took them. */
  readonly told: unknown;
  /** Calls of `poll` that are done. */
  readonly polled: readonly number[];
}

/** Numbers of a row: target, then the stats in the order below; what an engine does not tell is NaN. */
const ROW = 14;

const NO_LOOKUPS: CacheLookups = { queried: NaN, hit: NaN, external: NaN };

function rowOf(target: number, stats: EngineStats): readonly number[] {
  const { at, running, waiting, kvUsage, blockSize = NaN, blocks = NaN, caches, lookups = NO_LOOKUPS } = stats;
  const { queried, hit, external } = lookups;
  const { promptTokens = NaN, generatedTokens = NaN, kvTokens = NaN } = stats;
  return [
    ...[target, at, running, waiting, kvUsage, blockSize, blocks],
    ...[caches === undefined ? NaN : Number(caches), queried, hit, external],
    ...[promptTokens, generatedTokens, kvTokens],
  ];
}

export function packStats(changed: readonly (readonly [target: number, stats: EngineStats])[]): Float64Array {
  const rows = new Float64Array(changed.length * ROW);
  changed.forEach(([target, stats], row) => rows.set(rowOf(target, stats), row * ROW));
  return rows;
}

export function unpackStats(rows: Float64Array): [target: number, stats: EngineStats][] {
  return Array.from({ length: Math.floor(rows.length / ROW) }, (_, row) => {
    const [target = 0, at = 0, running = 0, waiting = 0, kvUsage = 0, ...told] = rows.subarray(
      row * ROW,
      (row + 1) * ROW,
    );
    return [target, { at, running, waiting, kvUsage, ...toldOf(told) }];
  });
}

/** What not every engine tells. */
function toldOf([blockSize = NaN, blocks = NaN, caches = NaN, ...counters]: readonly number[]): Partial<EngineStats> {
  return {
    ...(blockSize > 0 ? { blockSize } : {}),
    ...(blocks > 0 ? { blocks } : {}),
    ...(caches >= 0 ? { caches: caches === 1 } : {}),
    ...lookupsOf(counters),
  };
}

function lookupsOf([queried = NaN, hit = NaN, external = NaN, ...work]: readonly number[]): Partial<EngineStats> {
  return { ...(queried >= 0 ? { lookups: { queried, hit, external } } : {}), ...workOf(work) };
}

const workOf = ([
  promptTokens = NaN,
  generatedTokens = NaN,
  kvTokens = NaN,
]: readonly number[]): Partial<EngineStats> => ({
  ...(promptTokens >= 0 ? { promptTokens } : {}),
  ...(generatedTokens >= 0 ? { generatedTokens } : {}),
  ...(kvTokens > 0 ? { kvTokens } : {}),
});

/** What differs from what was sent before; `sent` then holds what is sent now. */
export function changesOf(
  targets: readonly Target[],
  of: (id: string) => Scraped,
  sent: Map<string, Scraped>,
): Pick<FromScraper, "stats" | "models" | "events"> {
  const stats: [number, EngineStats][] = [];
  const models: [number, readonly string[]][] = [];
  const events: [number, Scraped["events"]][] = [];
  targets.forEach(({ id }, target) => {
    const [now, before] = [of(id), sent.get(id)];
    if (now.stats !== undefined && now.stats !== before?.stats) stats.push([target, now.stats]);
    if (before === undefined ? now.models.length > 0 : !isSame(now.models, before.models))
      models.push([target, now.models]);
    if (now.events !== before?.events) events.push([target, now.events]);
    sent.set(id, { stats: now.stats, models: now.models, events: now.events });
  });
  return { stats: packStats(stats), models, events };
}

const isSame = (a: readonly string[], b: readonly string[]): boolean =>
  a === b || (a.length === b.length && a.every((name, at) => name === b[at]));
