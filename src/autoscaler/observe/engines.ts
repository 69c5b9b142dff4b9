/** What the metrics pages of one instance's API servers come to: one engine, as the decision core reads it. */
import type { EngineStats } from "../../kinds/endpoint.ts";
import type { EngineSeen } from "../group.ts";

/**
 * Several servers are data-parallel ranks of one engine: work is summed, the use of the KV cache is weighed by its size.
 * A counter that one of them does not tell is not told: a part of a sum would look like less work. The oldest page dates it.
 */
export function engineSeen(pages: readonly EngineStats[], maxSequences?: number): EngineSeen | undefined {
  if (pages.length === 0) return undefined;
  const sum = (read: (page: EngineStats) => number): number => pages.reduce((total, page) => total + read(page), 0);
  const isSized = pages.every(({ kvTokens }) => kvTokens !== undefined);
  const weight = ({ kvTokens = 1 }: EngineStats): number => (isSized ? kvTokens : 1);
  return {
    at: Math.min(...pages.map(({ at }) => at)),
    running: sum(({ running }) => running),
    waiting: sum(({ waiting }) => waiting),
    kvUsage: sum((page) => page.kvUsage * weight(page)) / sum(weight),
    ...told("kvCapacityTokens", pages, ({ kvTokens }) => kvTokens),
    ...told("promptTokens", pages, ({ promptTokens }) => promptTokens),
    ...told("generatedTokens", pages, ({ generatedTokens }) => generatedTokens),
    ...(maxSequences === undefined ? {} : { maxSequences }),
  };
}

function told<K extends string>(
  key: K,
  pages: readonly EngineStats[],
  read: (page: EngineStats) => number | undefined,
): { readonly [P in K]?: number } {
  const values = pages.map(read);
  if (values.includes(undefined)) return {};
  const total = values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
  return { [key]: total } as { readonly [P in K]: number };
}
