/** Metrics: prom-client behind the Metrics port, one registry for each instance, every name declared in `kinds/names.ts`. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { METRICS, type MetricSpec } from "../kinds/names.ts";
import type { MetricLabels, Metrics } from "../ports.ts";

export interface MetricsRegistry extends Metrics {
  /** The page in Prometheus' text format. */
  page(): Promise<string>;
  readonly contentType: string;
}

function instrument(name: string, spec: MetricSpec, registers: Registry[]): Counter | Gauge | Histogram {
  const options = { name, help: spec.help, labelNames: [...spec.labels], registers };
  if (spec.type === "counter") return new Counter(options);
  if (spec.type === "gauge") return new Gauge(options);
  return new Histogram({ ...options, buckets: [...(spec.buckets ?? [])] });
}

export function createMetrics(): MetricsRegistry {
  const registry = new Registry();
  const instruments = new Map(
    Object.entries(METRICS).map(([name, spec]) => [name, instrument(name, spec, [registry])] as const),
  );
  const find = <T>(name: string, kind: new (...args: never[]) => T): T => {
    const found = instruments.get(name);
    if (!(found instanceof kind)) throw new Error(`metric ${name} is not declared as ${kind.name}`);
    return found;
  };
  return {
    count: (name: string, labels: MetricLabels = {}, by = 1) => find(name, Counter).inc(labels, by),
    gauge: (name: string, value: number, labels: MetricLabels = {}) => find(name, Gauge).set(labels, value),
    observe: (name: string, value: number, labels: MetricLabels = {}) => find(name, Histogram).observe(labels, value),
    page: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

/** Metrics that go nowhere. */
export const NO_METRICS: Metrics = { count: () => undefined, gauge: () => undefined, observe: () => undefined };
