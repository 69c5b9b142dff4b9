/** Whatever annotations say of scaling: it is decoded or denied, and what is decoded says the same once more. */
import fc from "fast-check";
import { isDeepStrictEqual } from "node:util";
import t from "tap";
import { AUTOSCALING } from "../../src/kinds/names.ts";
import { isDenied } from "../../src/kinds/verdict.ts";
import { groupScaling } from "../../src/workload/group-scaling.ts";
import { scalingOf, type DecodedScaling, type ScaledSpec } from "../../src/workload/scaling-decode.ts";
import type { GroupScaling, ScalingSpec, ScheduleWindow } from "../../src/workload/scaling.ts";
import { annotationsOf, SCALED, scaledObject } from "../support/scaling.ts";

const replicas = fc.integer({ min: 0, max: 24 });
const percent = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most }).map((value) => value / 100);
const milliseconds = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });
const pace = (most: number): fc.Arbitrary<ScalingSpec["maxScaleIn"]> =>
  fc.record({ share: percent(most), periodMs: milliseconds(1000, 3_600_000) });

const window: fc.Arbitrary<ScheduleWindow> = fc
  .record({
    days: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1 }).map((days) => days.sort()),
    hours: fc.uniqueArray(fc.integer({ min: 0, max: 1439 }), { minLength: 2, maxLength: 2 }),
    timeZone: fc.constantFrom("UTC", "Europe/Berlin", "Asia/Shanghai", "America/Argentina/Buenos_Aires"),
    bounds: fc.oneof(
      fc.record({ min: replicas }),
      fc.record({ max: replicas }),
      fc.record({ min: replicas, max: replicas }),
    ),
  })
  .map(({ days, hours: [from = 0, to = 0], timeZone, bounds }) => ({ days, from, to, timeZone, ...bounds }));

const group: fc.Arbitrary<Partial<GroupScaling>> = fc.record(
  {
    ttftSloMs: milliseconds(1, 3_600_000),
    tpotSloMs: milliseconds(1, 60_000),
    objective: fc.constantFrom("cost", "balanced", "latency"),
    maxAccelerators: fc.integer({ min: 1, max: 1000 }),
    prefillPerDecode: fc.constantFrom([0.5, 2] as const, [1, 1] as const),
    variants: fc.constantFrom("measured" as const, "kthena" as const),
    idleAfterMs: milliseconds(10_000, 604_800_000),
  },
  { requiredKeys: [] },
);

const spec: fc.Arbitrary<ScalingSpec> = fc.record(
  {
    mode: fc.constantFrom("off", "recommend", "scale-up-only", "auto"),
    minReplicas: replicas,
    maxReplicas: fc.integer({ min: 1, max: 48 }),
    step: fc.constantFrom(1, 1, 2, 3),
    cost: fc.integer({ min: 1, max: 1000 }).map((value) => value / 8),
    capacityTokensPerSecond: fc.integer({ min: 1, max: 100_000 }),
    kvTarget: percent(100).filter((value) => value >= 0.05),
    stableWindowMs: milliseconds(5000, 3_600_000),
    panicWindowMs: milliseconds(1000, 60_000),
    panicThreshold: fc.integer({ min: 11, max: 100 }).map((value) => value / 10),
    scaleInDelayMs: milliseconds(0, 3_600_000),
    maxScaleOut: pace(1000),
    maxScaleIn: pace(100),
    drainTimeoutMs: milliseconds(0, 86_400_000),
    standbyMs: milliseconds(0, 86_400_000),
    activationReplicas: fc.integer({ min: 1, max: 4 }),
    schedule: fc.array(window, { maxLength: 3 }),
    fallback: fc.oneof(
      fc.constant({ kind: "hold" } as const),
      replicas.map((count) => ({ kind: "replicas", replicas: count }) as const),
    ),
    pausedScaleIn: fc.boolean(),
    pausedScaleOut: fc.boolean(),
    actuator: fc.constantFrom("scale", "keda", "none"),
    forceReplicas: fc.boolean(),
    group,
  },
  {
    requiredKeys: [
      ...([
        "mode",
        "minReplicas",
        "maxReplicas",
        "step",
        "cost",
        "kvTarget",
        "stableWindowMs",
        "panicWindowMs",
      ] as const),
      ...(["panicThreshold", "scaleInDelayMs", "maxScaleOut", "maxScaleIn", "drainTimeoutMs", "standbyMs"] as const),
      ...(["activationReplicas", "schedule", "fallback", "pausedScaleIn", "pausedScaleOut", "actuator"] as const),
      ...(["forceReplicas", "group"] as const),
    ],
  },
);

const contract: fc.Arbitrary<ScaledSpec> = fc.record({
  kind: fc.constantFrom("Deployment", "LeaderWorkerSet"),
  role: fc.constantFrom("prefill", "decode", "both"),
  mode: fc.constantFrom("manage", "route"),
  nodesPerInstance: fc.constantFrom(1, 1, 2),
});

const isWhole = ({ scaling, verdicts }: DecodedScaling): boolean =>
  scaling === undefined ? verdicts.some(isDenied) : !verdicts.some(isDenied);

t.test("a spec, written as annotations, decodes to itself or is denied", (t) => {
  let decoded = 0;
  fc.assert(
    fc.property(spec, contract, (given, about) => {
      const found = scalingOf(scaledObject(annotationsOf(given)), about);
      if (!isWhole(found)) return false;
      if (found.scaling === undefined) return true;
      decoded++;
      return isDeepStrictEqual(found.scaling, structuredClone({ ...given, groupDefaults: {} }));
    }),
    { numRuns: 3000 },
  );
  t.ok(decoded > 200, `${decoded} were decoded`);
  t.end();
});

t.test("whatever text stands there is decoded or denied, and what is decoded says the same again", (t) => {
  const word = fc.constantFrom("auto", "0", "1", "8", "60s", "25%/60s", "0.5-2", "true", "hold", "2", "10m", "Mon", "");
  const text = fc.oneof({ weight: 4, arbitrary: word }, fc.string(), fc.constant(7 as unknown as string));
  const annotations = fc.dictionary(fc.constantFrom(...Object.values(AUTOSCALING)), text, {
    maxKeys: 4,
    noNullPrototype: true,
  });
  let decoded = 0;
  fc.assert(
    fc.property(annotations, annotations, contract, (own, defaults, about) => {
      const found = scalingOf(scaledObject(own), about, { ...scaledObject(defaults), kind: "Namespace" });
      if (!isWhole(found)) return false;
      if (found.scaling === undefined) return true;
      decoded++;
      const { scaling: said } = groupScaling([{ name: "w", role: SCALED.role, scaling: found.scaling }]);
      const again = scalingOf(scaledObject(annotationsOf({ ...found.scaling, group: said })), about);
      return isDeepStrictEqual({ ...again.scaling, group: {} }, { ...found.scaling, group: {}, groupDefaults: {} });
    }),
    { numRuns: 3000 },
  );
  t.ok(decoded > 100, `${decoded} were decoded`);
  t.end();
});
