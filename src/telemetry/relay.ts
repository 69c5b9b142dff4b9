/**
 * Metrics of a thread on their way to the registry, which lives on the serving one: counts are added up and gauges kept
 * until they are taken, so that a message carries one number for each series.
 */
import type { MetricLabels, Metrics } from "../ports.ts";

/** One series: `[kind, name, value, labels]`. */
export type Told = readonly ["count" | "gauge" | "observe", string, number, MetricLabels];

export interface MetricsRelay extends Metrics {
  /** What was told since the last call. */
  take(): Told[];
}

export function createRelay(): MetricsRelay {
  let told = new Map<string, Told>();
  const keyOf = (kind: string, name: string, labels: MetricLabels): string => JSON.stringify([kind, name, labels]);
  return {
    count: (name: string, labels: MetricLabels = {}, by = 1) => {
      const key = keyOf("count", name, labels);
      told.set(key, ["count", name, (told.get(key)?.[2] ?? 0) + by, labels]);
    },
    gauge: (name: string, value: number, labels: MetricLabels = {}) => {
      told.set(keyOf("gauge", name, labels), ["gauge", name, value, labels]);
    },
    observe: (name: string, value: number, labels: MetricLabels = {}) => {
      // Each observation counts: a key of its own.
      told.set(`${told.size} ${keyOf("observe", name, labels)}`, ["observe", name, value, labels]);
    },
    take: () => {
      const taken = [...told.values()];
      told = new Map();
      return taken;
    },
  };
}

/** Into the registry. */
export function retell(told: readonly Told[], metrics: Metrics): void {
  for (const [kind, name, value, labels] of told)
    if (kind === "count") metrics.count(name, labels, value);
    else metrics[kind](name, value, labels);
}
