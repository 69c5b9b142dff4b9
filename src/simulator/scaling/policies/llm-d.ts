/**
 * llm-d's two guides for KEDA (llm-d/llm-d guides/workload-autoscaling): the SLO law on latencies of each role, and the
 * token-aware one on uncached tokens in flight and KV usage, with the rates of their P/D examples.
 */
import { differenceOf, LatencyWindow } from "../../../autoscaler/latency.ts";
import { WindowMaximum } from "../../../autoscaler/windows.ts";
import type { RouterSeen } from "../../../autoscaler/group.ts";
import { metricsOf, REPLICA_SET, within, type Limits, type ScalingPolicy, type View } from "../policy.ts";
import type { PoolRole } from "../world.ts";

const SYNC_MS = 15_000;
/** Of the HPA that KEDA makes. */
const TOLERANCE = 0.1;
const UP_AT = 0.55;
const DOWN_AT = 0.4;

/** s = mean over 45 s of min(P90 / SLO, 2); up 100 % or 4 a minute after 30 s, down 1 in 2 min after 180 s. */
export function llmDSlo(limits: Limits): ScalingPolicy {
  const scores: Record<PoolRole, { readonly at: number; readonly value: number }[]> = { prefill: [], decode: [] };
  const latencies = { prefill: new LatencyWindow(), decode: new LatencyWindow() };
  const movers = moversOf(SLO_PACE, limits);
  let before: RouterSeen | undefined;
  const size = (view: View, role: PoolRole): number => {
    // Four reads: the answers of a minute.
    const p90 = latencies[role].quantile(view.now - 45_000, 0.9, 1) ?? 0;
    const heard = scores[role];
    heard.push({ at: view.now, value: Math.min(2, p90 / (role === "prefill" ? limits.ttftMs : limits.tpotMs)) });
    while ((heard[0]?.at ?? view.now) <= view.now - 45_000) heard.shift();
    const score = heard.reduce((sum, { value }) => sum + value, 0) / heard.length;
    const asked = view.asked[role];
    const ready = metricsOf(view, role).length;
    const credit = ready > 0 && ready < asked ? ready / asked : 1;
    return movers[role].move(view.now, asked, byLaw(asked, score, credit));
  };
  return {
    ...{ intervalMs: SYNC_MS, scrapeMs: SYNC_MS, shrinking: REPLICA_SET },
    decide: (view) => {
      if (before !== undefined) {
        latencies.prefill.add(view.now, differenceOf(before.ttft, view.router.ttft));
        latencies.decode.add(view.now, differenceOf(before.tpot, view.router.tpot));
      }
      before = view.router;
      return { prefill: size(view, "prefill"), decode: size(view, "decode") };
    },
  };
}

function byLaw(count: number, score: number, credit: number): number {
  if (score > UP_AT) return count + Math.max(0, Math.ceil(count * ((score * credit) / UP_AT - 1)));
  return score < DOWN_AT ? count - Math.floor(count * (1 - score / DOWN_AT)) : count;
}

/** Tokens a second and seconds of the guide (Qwen3-32B on H100); a pod of the simulation is as fast as the truth says. */
const GUIDE = { tokensPerSecond: 15_928, seconds: 1.2, kv: 0.8 } as const;

export function llmDTokens(limits: Limits): ScalingPolicy {
  const movers = moversOf(TOKENS_PACE, limits);
  return {
    ...{ intervalMs: SYNC_MS, scrapeMs: SYNC_MS, shrinking: REPLICA_SET },
    decide: (view) => {
      const prefill = view.router.backlogTokens / GUIDE.tokensPerSecond / GUIDE.seconds;
      const decode = metricsOf(view, "decode").reduce((sum, { kvUsage }) => sum + kvUsage, 0) / GUIDE.kv;
      const move = (role: PoolRole, value: number): number => movers[role].move(view.now, view.asked[role], value);
      return { prefill: move("prefill", prefill), decode: move("decode", decode) };
    },
  };
}

interface MoverPace {
  readonly upWindowMs: number;
  readonly downWindowMs: number;
  readonly up: (count: number) => number;
  readonly upPeriodMs: number;
  readonly downPeriodMs: number;
}

const SLO_PACE: MoverPace = {
  ...{ upWindowMs: 30_000, downWindowMs: 180_000, upPeriodMs: 60_000, downPeriodMs: 120_000 },
  up: (count) => Math.max(2 * count, count + 4),
};
/** Of the P/D guide: up 1 in 3 min, down 1 in 5 min after 300 s. */
const TOKENS_PACE: MoverPace = {
  ...{ upWindowMs: 0, downWindowMs: 300_000, upPeriodMs: 180_000, downPeriodMs: 300_000 },
  up: (count) => count + 1,
};

const moversOf = (pace: MoverPace, limits: Limits): Readonly<Record<PoolRole, Mover>> => ({
  prefill: new Mover(pace, (count) => within(count, "prefill", limits)),
  decode: new Mover(pace, (count) => within(count, "decode", limits)),
});

/**
 * An HPA on an external metric: within the tolerance nothing; the least that was wanted within the up window, the most within
 * the down window; and no further from where a period began than the pace allows.
 */
class Mover {
  readonly #pace: MoverPace;
  readonly #clip: (count: number) => number;
  readonly #wanted: { readonly at: number; readonly count: number }[] = [];
  readonly #most = new WindowMaximum();
  readonly #changes: { readonly at: number; readonly by: number }[] = [];

  constructor(pace: MoverPace, clip: (count: number) => number) {
    this.#pace = pace;
    this.#clip = clip;
  }

  /** @param value of the metric, in pods */
  move(now: number, current: number, value: number): number {
    const { upWindowMs, downWindowMs, up, upPeriodMs, downPeriodMs } = this.#pace;
    // Its first recommendation is what it finds.
    if (this.#wanted.length === 0) this.#note(now, current);
    const isSteady = Math.abs(value / Math.max(1, current) - 1) <= TOLERANCE;
    const wanted = this.#clip(isSteady ? current : Math.ceil(value));
    const past = this.#wanted.filter(({ at }) => at > now - upWindowMs).map(({ count }) => count);
    this.#note(now, wanted);
    const least = Math.min(wanted, ...past);
    const most = this.#most.since(now - downWindowMs + 1) ?? wanted;
    const limits = {
      up: up(this.#began(now - upPeriodMs, current)),
      down: this.#began(now - downPeriodMs, current) - 1,
    };
    if (least > current) return this.#change(now, current, Math.max(current, Math.min(least, limits.up)));
    return this.#change(now, current, Math.min(current, Math.max(most, limits.down)));
  }

  #note(at: number, count: number): void {
    this.#wanted.push({ at, count });
    this.#most.add(at, count);
    if (this.#wanted.length > 20) this.#wanted.shift();
  }

  /** How many there were at the beginning of a period. */
  #began(from: number, current: number): number {
    return this.#changes.reduce((count, { at, by }) => (at > from ? count - by : count), current);
  }

  #change(at: number, current: number, next: number): number {
    if (next !== current) this.#changes.push({ at, by: next - current });
    if (this.#changes.length > 100) this.#changes.shift();
    return next;
  }
}
