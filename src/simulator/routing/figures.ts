/** Outcomes of a run -> the figures of a row. */
import type { Outcome } from "./drive.ts";

export interface Spread {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

export interface Figures {
  readonly requests: number;
  readonly throughputRps: number;
  /** Cached prompt tokens of all prompt tokens. */
  readonly hitRate: number;
  readonly ttftMs: Spread;
  /** Of requests with more than one token. */
  readonly tpotMs: Spread;
  readonly e2eMs: Spread;
  /** Requests a second whose first token came within 2 s and whose others came within 50 ms each, on average. */
  readonly goodputRps: number;
}

export const GOOD = { ttftMs: 2000, tpotMs: 50 } as const;

const tpotOf = ({ ttftMs, e2eMs, outputTokens }: Outcome): number =>
  outputTokens > 1 ? (e2eMs - ttftMs) / (outputTokens - 1) : 0;

/** The mean of all runs, each by itself. */
export function figuresOf(outcomes: readonly Outcome[]): Figures {
  const runs = [...Map.groupBy(outcomes, ({ run }) => run).values()].map(figuresOfRun);
  const mean = (of: (figures: Figures) => number, digits = 1): number =>
    rounded(runs.reduce((sum, run) => sum + of(run), 0) / Math.max(1, runs.length), digits);
  const spreads = (of: (figures: Figures) => Spread): Spread => ({
    ...{ mean: mean((run) => of(run).mean), p50: mean((run) => of(run).p50) },
    ...{ p90: mean((run) => of(run).p90), p99: mean((run) => of(run).p99) },
  });
  return {
    requests: outcomes.length,
    throughputRps: mean((run) => run.throughputRps, 3),
    hitRate: mean((run) => run.hitRate, 4),
    ttftMs: spreads((run) => run.ttftMs),
    tpotMs: spreads((run) => run.tpotMs),
    e2eMs: spreads((run) => run.e2eMs),
    goodputRps: mean((run) => run.goodputRps, 3),
  };
}

/** From the first request sent to the last one answered. */
function figuresOfRun(outcomes: readonly Outcome[]): Figures {
  const from = outcomes.reduce((first, { at }) => Math.min(first, at), Infinity);
  const to = outcomes.reduce((last, { at, e2eMs }) => Math.max(last, at + e2eMs), 0);
  const seconds = Math.max(1e-3, (to - from) / 1000);
  const good = outcomes.filter((each) => each.ttftMs <= GOOD.ttftMs && tpotOf(each) <= GOOD.tpotMs);
  const sum = (of: (outcome: Outcome) => number): number => outcomes.reduce((total, each) => total + of(each), 0);
  return {
    requests: outcomes.length,
    throughputRps: rounded(outcomes.length / seconds, 3),
    hitRate: rounded(sum(({ cachedTokens }) => cachedTokens) / sum(({ promptTokens }) => promptTokens), 4),
    ttftMs: spread(outcomes.map(({ ttftMs }) => ttftMs)),
    tpotMs: spread(outcomes.filter(({ outputTokens }) => outputTokens > 1).map(tpotOf)),
    e2eMs: spread(outcomes.map(({ e2eMs }) => e2eMs)),
    goodputRps: rounded(good.length / seconds, 3),
  };
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    rounded(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  const mean = rounded(values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length));
  return { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

const rounded = (value: number, digits = 1): number => Number(value.toFixed(digits));
