/** The scaling policies by name; each has its source in its own file. */
import { type Limits, type ScalingPolicy } from "../policy.ts";
import { aibrix } from "./aibrix.ts";
import { kpa } from "./kpa.ts";
import { kthena } from "./kthena.ts";
import { llmDSlo, llmDTokens } from "./llm-d.ts";
import { fixed, hpa, type Targets } from "./simple.ts";
import { tandem } from "./tandem.ts";

/** What their guides and examples set: two waiting requests, 70 % of the KV cache. */
const DEFAULT: Targets = { waiting: 2, kv: 0.7 };

/** Nine pairs, of which `-best` takes the one that did best: a favour that nobody in production has. */
export const TARGET_GRID: readonly Targets[] = grid([0.5, 1, 3], [0.4, 0.6, 0.8]);
/** For all requests of a prefill pod: 1 is one after the other without a pause. */
export const REQUESTS_GRID: readonly Targets[] = grid([0.6, 0.8, 1.5], [0.4, 0.6, 0.8]);

function grid(waiting: readonly number[], kv: readonly number[]): readonly Targets[] {
  return waiting.flatMap((each) => kv.map((share) => ({ waiting: each, kv: share })));
}

/** Requests at once: what a prefill pod works off within the time to first token, and a decode pod's batch. */
const CONCURRENCY = { prefill: 8, decode: 100 } as const;

const POLICY_MAKERS = {
  "tandem-cost": (limits) => tandem("cost", limits),
  "tandem-balanced": (limits) => tandem("balanced", limits),
  "tandem-latency": (limits) => tandem("latency", limits),
  static: fixed,
  hpa: (limits) => hpa({ targets: DEFAULT, limits }),
  kpa: (limits) => kpa(CONCURRENCY, limits),
  kthena: (limits) => kthena(DEFAULT, limits),
  aibrix: (limits) => aibrix(DEFAULT, limits),
  "llm-d-slo": llmDSlo,
  "llm-d-tokens": llmDTokens,
} as const satisfies Record<string, (limits: Limits) => ScalingPolicy>;

const BEST = {
  "hpa-best": (limits) => TARGET_GRID.map((targets) => () => hpa({ targets, limits })),
  "hpa-requests-best": (limits) =>
    REQUESTS_GRID.map((targets) => () => hpa({ targets, limits, prefillMetric: "requests" })),
  "kthena-best": (limits) => TARGET_GRID.map((targets) => () => kthena(targets, limits)),
} as const satisfies Record<string, (limits: Limits) => readonly (() => ScalingPolicy)[]>;

export type ScalingPolicyName = keyof typeof POLICY_MAKERS | keyof typeof BEST;
export const SCALING_POLICIES = [...Object.keys(POLICY_MAKERS), ...Object.keys(BEST)] as readonly ScalingPolicyName[];

/** Of one name the policies to be run: for `-best` one for each pair of targets. */
export const policiesNamed = (name: ScalingPolicyName, limits: Limits): readonly (() => ScalingPolicy)[] =>
  isBest(name) ? BEST[name](limits) : [() => POLICY_MAKERS[name](limits)];

const isBest = (name: ScalingPolicyName): name is keyof typeof BEST => Object.hasOwn(BEST, name);
