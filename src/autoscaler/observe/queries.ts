/**
 * Prometheus in the place of a router's page: what it is asked of each group, and what its answers come to.
 *
 * The answers are counters, as a router's are, so that the decision core reads both alike. One answer that is missing
 * leaves the group without any: a counter that is not known is not zero.
 */
import { isObject } from "../../kinds/kube.ts";
import { LATENCY_BOUNDS_MS, type GroupStatistics } from "../../kinds/statistics.ts";
import type { RouterSeen } from "../group.ts";

type Figure = Exclude<keyof GroupStatistics, "heldRequests" | "ttft" | "tpot">;

/** PromQL of each figure; empty: not asked. */
export type Queries = Readonly<Record<Figure, string>>;

export const FIGURES: readonly Figure[] = [
  ...(["requests", "promptTokens", "answers", "generatedTokens"] as const),
  ...(["backlogRequests", "backlogTokens"] as const),
];

/** The roles whose engines do the work that a figure counts, as a pattern. */
const rolesOf = (figure: Figure): string => (figure === "promptTokens" ? "prefill|both" : "decode|both");

/** The figures that are asked for, each with its query for this group. */
export function queriesOf(queries: Queries, group: string): readonly (readonly [Figure, string])[] {
  const at = group.indexOf("/");
  const places: Readonly<Record<string, string>> = { namespace: group.slice(0, at), group: group.slice(at + 1) };
  return FIGURES.filter((figure) => queries[figure] !== "").map((figure) => [
    figure,
    queries[figure].replace(/\$(namespace|group|role)\b/g, (_, name: string) => places[name] ?? rolesOf(figure)),
  ]);
}

/** The sum of an answer of `/api/v1/query`; undefined where it holds no value, or one that is no number. */
export function valueOf(text: string): number | undefined {
  const samples = samplesOf(text);
  const values = samples.map((sample) => (Array.isArray(sample) ? Number(sample[1]) : NaN));
  return values.length > 0 && values.every(Number.isFinite) ? values.reduce((sum, value) => sum + value, 0) : undefined;
}

/** Pairs of time and value, of a vector or of a scalar. */
function samplesOf(text: string): readonly unknown[] {
  try {
    const value = JSON.parse(text) as { data?: { resultType?: unknown; result?: unknown } } | null;
    const { resultType, result } = value?.data ?? {};
    if (resultType === "scalar") return [result];
    return Array.isArray(result) ? result.map((one) => (isObject(one) ? one["value"] : undefined)) : [];
  } catch {
    return [];
  }
}

const NO_TIMES = LATENCY_BOUNDS_MS.map(() => 0).concat(0);

/** As a router's word; undefined where an answer is missing. */
export function seenOf(
  answers: readonly (readonly [Figure, number | undefined])[],
  at: number,
): RouterSeen | undefined {
  if (answers.length === 0 || answers.some(([, value]) => value === undefined)) return undefined;
  const figures = Object.fromEntries(FIGURES.map((figure) => [figure, 0])) as Record<Figure, number>;
  for (const [figure, value = 0] of answers) figures[figure] = value;
  return { id: "prometheus", at, ...figures, heldRequests: 0, ttft: NO_TIMES, tpot: NO_TIMES };
}

/** A router that was not heard for three polls is not heard. */
const HEARD_MS = 15_000;

export const isHeard = (routers: readonly RouterSeen[], now: number): boolean =>
  routers.some(({ at }) => now - at <= HEARD_MS);
