/**
 * llm-d's two guides for KEDA (llm-d/llm-d guides/workload-autoscaling): the SLO law on latencies of each role, and the
 * token-aware one on uncached tokens in flight and KV usage, with the rates of their P/D examples.
 */
import { differenceOf, LatencyWindow } from "../../../autoscaler/latency.ts";
import { quantile, WindowMaximum } from "../../../autoscaler/windows.ts";
import type { RouterSeen } from "../../../autoscaler/group.ts";
import { metricsOf, REPLICA_SET, within, type Limits, type ScalingPolicy, type View } from "../policy.ts";
import type { PoolRole } from "../world.ts";

const SYNC_MS = 15_000;
const UP_AT = 0.55;
const DOWN_AT = 0.4;

/** s = mean over 45 s of min(P90 / SLO, 2); up 100 % or 4 a minute after 30 s, down 1 in 2 min after 180 s. */
export function llmDSlo(limits: Limits): ScalingPolicy {
  const scores: Record<PoolRole, { readonly at: number; readonly value: number }[]> = { prefill: [], decode: [] };
  const latencies = { prefill: new LatencyWindow(), decode: new LatencyWindow() };
  const movers = { prefill: new Mover(SLO_PACE), decode: new Mover(SLO_PACE) };
  let before: RouterSeen | undefined;
  const size = (view: View, role: PoolRole): number => {
    const p90 = latencies[role].quantile(view.now - 45_000, 0.9, 1) ?? 0;
    const heard = scores[role];
    heard.push({ at: view.now, value: Math.min(2, p90 / (role === "prefill" ? limits.ttftMs : limits.tpotMs)) });
    while ((heard[0]?.at ?? view.now) <= view.now - 45_000) heard.shift();
    const score = heard.reduce((sum, { value }) => sum + value, 0) / heard.length;
    const asked = view.asked[role];
    const credit = metricsOf(view, role).length / Math.max(1, asked);
    return within(movers[role].move(view.now, asked, byLaw(asked, score, credit)), role, limits);
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
  const movers = { prefill: new Mover(TOKENS_PACE), decode: new Mover(TOKENS_PACE) };
  return {
    ...{ intervalMs: SYNC_MS, scrapeMs: SYNC_MS, shrinking: REPLICA_SET },
    decide: (view) => {
      const prefill = Math.ceil(view.router.backlogTokens / GUIDE.tokensPerSecond / GUIDE.seconds);
      const decode = Math.ceil(metricsOf(view, "decode").reduce((sum, { kvUsage }) => sum + kvUsage, 0) / GUIDE.kv);
      const move = (role: PoolRole, wanted: number): number =>
        within(movers[role].move(view.now, view.asked[role], wanted), role, limits);
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

/** An HPA's behaviour: the least that was wanted within the up window, the most within the down window, at a pace. */
class Mover {
  readonly #pace: MoverPace;
  readonly #wanted: { readonly at: number; readonly count: number }[] = [];
  readonly #most = new WindowMaximum();
  #upAt = -Infinity;
  #downAt = -Infinity;

  constructor(pace: MoverPace) {
    this.#pace = pace;
  }

  move(now: number, current: number, wanted: number): number {
    const { upWindowMs, downWindowMs, up, upPeriodMs, downPeriodMs } = this.#pace;
    this.#wanted.push({ at: now, count: wanted });
    while ((this.#wanted[0]?.at ?? now) < now - upWindowMs) this.#wanted.shift();
    this.#most.add(now, wanted);
    const least =
      quantile(
        this.#wanted.map(({ count }) => count),
        0,
      ) ?? wanted;
    if (least > current && now - this.#upAt >= upPeriodMs) {
      this.#upAt = now;
      return Math.min(least, up(current));
    }
    const most = this.#most.since(now - downWindowMs) ?? wanted;
    if (most >= current || now - this.#downAt < downPeriodMs) return current;
    this.#downAt = now;
    return current - 1;
  }
}
