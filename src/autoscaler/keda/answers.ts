/**
 * What KEDA is told of a workload: how many replicas there should be, and whether there should be any.
 *
 * Decided from what the autoscaler decided last. A workload of which nothing is known is refused and never answered with
 * zero: KEDA then keeps what is there, or takes its own fallback.
 */

/** What the autoscaler decided last. */
export interface Desired {
  /** Replicas of a workload, by its name; undefined for one that is not scaled, or not decided on yet. */
  readonly desired: (namespace: string, name: string) => number | undefined;
  /** Somebody waits for it, or did not long ago. */
  readonly isActive: (namespace: string, name: string) => boolean;
}

/** `ScaledObjectRef`: the ScaledObject, and the metadata of its trigger. */
export interface ScaledObjectRef {
  readonly name: string;
  readonly namespace: string;
  readonly scalerMetadata: Readonly<Record<string, string>>;
}

/** Canonical gRPC codes that are given. */
export const CODE = { ok: 0, invalidArgument: 3, notFound: 5, resourceExhausted: 8 } as const;

export interface Refusal {
  readonly code: number;
  /** For whoever reads KEDA's log. */
  readonly message: string;
}

export type Answer<T> = { readonly reply: T } | { readonly refusal: Refusal };

export const METRIC = "desired-replicas";

/** The old integer fields beside those that replaced them: KEDA falls back on them where the new one is 0. */
export interface MetricSpecs {
  readonly metricSpecs: readonly {
    readonly metricName: string;
    readonly targetSize: number;
    readonly targetSizeFloat: number;
  }[];
}
export interface MetricValues {
  readonly metricValues: readonly {
    readonly metricName: string;
    readonly metricValue: number;
    readonly metricValueFloat: number;
  }[];
}

const refuse = (code: number, message: string): { refusal: Refusal } => ({ refusal: { code, message } });

/** The workload that a trigger means: the one it names, or that of the ScaledObject's own name. */
const workloadOf = ({ name, scalerMetadata }: ScaledObjectRef): string =>
  Object.hasOwn(scalerMetadata, "tandemWorkload") ? (scalerMetadata["tandemWorkload"] ?? name) : name;

const unknown = (ref: ScaledObjectRef): { refusal: Refusal } =>
  refuse(
    CODE.notFound,
    `no number is known for workload ${workloadOf(ref)} of namespace ${ref.namespace}: name one with autoscaling.tandem.sh/actuator keda as tandemWorkload in the trigger's metadata`,
  );

/** One metric whose target is one a replica: its value is the number of replicas. */
export const metricSpecs = (): Answer<MetricSpecs> => ({
  reply: { metricSpecs: [{ metricName: METRIC, targetSize: 1, targetSizeFloat: 1 }] },
});

/** KEDA takes the prefix `s0-` of a metric's name off; its older versions did not. */
const NAMED = new RegExp(`^(s\\d{1,3}-)?${METRIC}$`);

export function metricValues(ref: ScaledObjectRef, metricName: string, { desired }: Desired): Answer<MetricValues> {
  if (!NAMED.test(metricName))
    return refuse(
      CODE.invalidArgument,
      `metric ${JSON.stringify(metricName.slice(0, 60))} is unknown; ask for ${METRIC}`,
    );
  const replicas = desired(ref.namespace, workloadOf(ref));
  if (replicas === undefined) return unknown(ref);
  return { reply: { metricValues: [{ metricName, metricValue: replicas, metricValueFloat: replicas }] } };
}

export function activity(ref: ScaledObjectRef, { desired, isActive }: Desired): Answer<{ readonly result: boolean }> {
  const name = workloadOf(ref);
  if (desired(ref.namespace, name) === undefined) return unknown(ref);
  return { reply: { result: isActive(ref.namespace, name) } };
}
