/** The keys of autoscaling, `autoscaling.tandem.sh/`: part of the one table of keys. What they come to is a ScalingSpec. */
import { AUTOSCALING } from "../kinds/names.ts";
import { integerKey, oneOf, texts, type Key, type Texts } from "./key.ts";
import type { Objective, VariantOrder, ScalingMode, ScalingSpec } from "./scaling.ts";
import { parseDecimal, parseDuration, parseFallback, parsePace, parseRatio, parseSchedule } from "./scaling-values.ts";

/** Most replicas that any key may name. */
const MOST_REPLICAS = 10_000;

type Parsed<T> = Pick<Key<T>, "accepts" | "parse">;

const annotation = <T>(key: string, { accepts, parse }: Parsed<T>, words: Texts): Key<T> => ({
  key,
  where: "annotation",
  ...words,
  accepts,
  parse,
});

/** `undefined` outside the range. */
const within = (value: number | undefined, [least, most]: readonly [number, number]): number | undefined =>
  value !== undefined && value >= least && value <= most ? value : undefined;

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** A range of durations as a user would write them. */
const asText = (ms: number): string => {
  if (ms % HOUR === 0 && ms > 0) return `${ms / HOUR}h`;
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
};

const durationKey = (key: string, range: readonly [leastMs: number, mostMs: number], words: Texts): Key<number> =>
  annotation(
    key,
    {
      accepts: `a duration from \`${asText(range[0])}\` to \`${asText(range[1])}\`, written as \`500ms\`, \`30s\`, \`10m\` or \`1h\``,
      parse: (text) => within(parseDuration(text), range),
    },
    words,
  );

const decimalKey = (key: string, range: readonly [number, number], words: Texts): Key<number> =>
  annotation(
    key,
    {
      accepts: `a number from ${range[0]} to ${range[1]}, as \`${range[1] > 1 ? "1.5" : "0.75"}\``,
      parse: (text) => within(parseDecimal(text), range),
    },
    words,
  );

const paceKey = (key: string, mostPercent: number, words: Texts): Key<ScalingSpec["maxScaleOut"]> =>
  annotation(
    key,
    {
      accepts: `a share in a period, \`1%\` to \`${mostPercent}%\` and \`1s\` to \`1h\`, as \`25%/60s\``,
      parse: (text) => parsePace(text, mostPercent),
    },
    words,
  );

const flagKey = (key: string, words: Texts): Key<boolean> =>
  annotation(
    key,
    {
      accepts: "`true`, `false`",
      parse: (text) => (text === "true" ? true : text === "false" ? false : undefined),
    },
    words,
  );

/** Who acts: the mode first, then what may hold it back. */
const WHO = {
  scalingMode: oneOf(
    AUTOSCALING.mode,
    ["off", "recommend", "scale-up-only", "auto"] satisfies ScalingMode[],
    texts(
      "workload",
      "`off`",
      "`recommend`: the number is told and nothing is written; `scale-up-only`: replicas are never taken; `auto`: replicas come and go. Under `tandem.sh/mode: observe` at most `recommend`.",
    ),
  ),
  actuator: oneOf(
    AUTOSCALING.actuator,
    ["scale", "keda", "none"] satisfies ScalingSpec["actuator"][],
    texts(
      "workload",
      "`scale`",
      "Who writes replicas: `scale`: Tandem, through the scale subresource; `keda`: KEDA, which asks Tandem; `none`: whoever reads the metric.",
    ),
  ),
  paused: flagKey(AUTOSCALING.paused, texts("workload", "`false`", "Replicas stay as they are, in both directions.")),
  pausedScaleIn: flagKey(AUTOSCALING.pausedScaleIn, texts("workload", "`false`", "No replica is taken.")),
  pausedScaleOut: flagKey(AUTOSCALING.pausedScaleOut, texts("workload", "`false`", "No replica is added.")),
  forceReplicas: flagKey(
    AUTOSCALING.forceReplicas,
    texts(
      "workload",
      "`false`: an update keeps the live replicas while mode is `auto` or `scale-up-only`",
      "`true`: `spec.replicas` of an applied manifest is written as it stands.",
    ),
  ),
} as const;

const BOUNDS = {
  minReplicas: integerKey(
    AUTOSCALING.minReplicas,
    [0, MOST_REPLICAS],
    texts("workload", "one instance, or one `step` of them", "Fewest replicas; 0 on both roles allows scale to zero."),
  ),
  maxReplicas: integerKey(
    AUTOSCALING.maxReplicas,
    [1, MOST_REPLICAS],
    texts("workload", "10 instances", "Most replicas."),
  ),
  step: integerKey(
    AUTOSCALING.step,
    [1, 1000],
    texts("workload", "`1`", "Instances that come and go together; the other numbers of replicas are multiples of it."),
  ),
  activationReplicas: integerKey(
    AUTOSCALING.activationReplicas,
    [1, MOST_REPLICAS],
    texts("workload", "one instance, or one `step` of them", "Replicas with which it comes back from zero."),
  ),
  schedule: annotation(
    AUTOSCALING.schedule,
    {
      accepts:
        "windows as `Mon-Fri 08:00-20:00 Europe/Berlin min=4 max=8` with `;` between them: days, times, IANA time zone, `min`, `max` or both",
      parse: (text) => parseSchedule(text, MOST_REPLICAS),
    },
    texts("workload", "none", "Other bounds at certain times of the week; a window may end on the next day."),
  ),
  fallback: annotation(
    AUTOSCALING.fallback,
    {
      accepts: `\`hold\`, or replicas as an integer from 0 to ${MOST_REPLICAS}`,
      parse: (text) => parseFallback(text, MOST_REPLICAS),
    },
    texts("workload", "`hold`", "Where all metrics have been lost for five minutes."),
  ),
} as const;

/** Of the group: on any of its workloads. */
const OF_GROUP = {
  ttftSlo: durationKey(
    AUTOSCALING.ttftSlo,
    [1, HOUR],
    texts("group", "`2s`", "Wanted time to first token, 90th percentile."),
  ),
  tpotSlo: durationKey(
    AUTOSCALING.tpotSlo,
    [1, MINUTE],
    texts("group", "`50ms`", "Wanted time between tokens, 90th percentile."),
  ),
  objective: oneOf(
    AUTOSCALING.objective,
    ["cost", "balanced", "latency"] satisfies Objective[],
    texts("group", "`balanced`", "How much room is kept for bursts: none, that of most of them, that of nearly all."),
  ),
  variants: oneOf(
    AUTOSCALING.variants,
    ["measured", "kthena"] satisfies VariantOrder[],
    texts(
      "group",
      "`measured`",
      "Which of several workloads of a role grows first: where work is cheapest by measured speed, or in Kthena's order, by cost alone in blocks of 1, 2, 4.",
    ),
  ),
  maxAccelerators: integerKey(
    AUTOSCALING.maxAccelerators,
    [1, 1_000_000],
    texts("group", "no limit", "Devices of all workloads of the group together; both roles shrink where it binds."),
  ),
  prefillPerDecode: annotation(
    AUTOSCALING.prefillPerDecode,
    { accepts: "least and most, as `0.5-2`", parse: parseRatio },
    texts("group", "no limit", "Prefill instances for each decode instance."),
  ),
  idleAfter: durationKey(
    AUTOSCALING.idleAfter,
    [10_000, 168 * HOUR],
    texts("group", "`10m`", "So long without a request it goes to zero, where `min-replicas` of both roles is 0."),
  ),
} as const;

const SIZING = {
  cost: decimalKey(
    AUTOSCALING.cost,
    [0.000001, 1_000_000],
    texts(
      "workload",
      "`1`",
      "Of one replica, in a unit that the workloads of the group share: the cheapest grows first.",
    ),
  ),
  capacity: integerKey(
    AUTOSCALING.capacity,
    [1, 100_000_000],
    texts("workload", "learned", "Prompt tokens (prefill) or generated tokens (decode) a second of one instance."),
  ),
  kvTarget: decimalKey(
    AUTOSCALING.kvTarget,
    [0.05, 1],
    texts("workload", "`0.75`", "Share of the KV cache that may be in use."),
  ),
  stableWindow: durationKey(
    AUTOSCALING.stableWindow,
    [5000, HOUR],
    texts("workload", "`60s`", "Over which demand is averaged."),
  ),
  panicWindow: durationKey(
    AUTOSCALING.panicWindow,
    [1000, HOUR],
    texts("workload", "`15s`", "Over which bursts are seen; at most `stable-window`."),
  ),
  panicThreshold: decimalKey(
    AUTOSCALING.panicThreshold,
    [1.1, 10],
    texts("workload", "`1.5`", "Panic begins where bursts need so many times what is ready."),
  ),
} as const;

const PACE = {
  maxScaleOut: paceKey(
    AUTOSCALING.maxScaleOut,
    1000,
    texts("workload", "`100%/60s`", "Share of the replicas that may come in each period; at least one step."),
  ),
  maxScaleIn: paceKey(
    AUTOSCALING.maxScaleIn,
    100,
    texts("workload", "`25%/60s`", "Share of the replicas that may go in each period; at least one step."),
  ),
  scaleInDelay: durationKey(
    AUTOSCALING.scaleInDelay,
    [0, HOUR],
    texts("workload", "`180s` for prefill, else `300s`", "The highest need of so long is kept."),
  ),
  drainTimeout: durationKey(
    AUTOSCALING.drainTimeout,
    [0, 24 * HOUR],
    texts("workload", "`60s` for prefill, else `300s`", "Longest wait for running requests before an instance goes."),
  ),
  standby: durationKey(
    AUTOSCALING.standby,
    [0, 24 * HOUR],
    texts("workload", "`0s`", "So long a drained instance stays, to be taken back at once."),
  ),
} as const;

export const SCALING_KEYS = { ...WHO, ...BOUNDS, ...OF_GROUP, ...SIZING, ...PACE } as const;
