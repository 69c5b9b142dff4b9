/** Metrics: prom-client behind the Metrics port, one registry for each instance, every name declared in `kinds/metric-names.ts`. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { METRICS, type MetricSpec } from "../kinds/metric-names.ts";
import type { MetricLabels, Metrics, MetricSeries } from "../ports.ts";

export interface MetricsRegistry extends MetricSeries {
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
  const counts = new Pending<Counter>(
    (counter, labels, sum) => counter.inc(labels, sum),
    (old, by) => old + by,
  );
  const gauges = new Pending<Gauge>(
    (gauge, labels, value) => gauge.set(labels, value),
    (_, value) => value,
  );
  return {
    count: (name: string, labels: MetricLabels = NO_LABELS, by = 1) => counts.add(find(name, Counter), labels, by),
    gauge: (name: string, value: number, labels: MetricLabels = NO_LABELS) =>
      gauges.add(find(name, Gauge), labels, value),
    observe: (name: string, value: number, labels: MetricLabels = NO_LABELS) =>
      find(name, Histogram).observe(labels, value),
    drop: (name: string, labels: MetricLabels) => {
      const instrument = instruments.get(name);
      if (instrument instanceof Counter) counts.drop(instrument, labels);
      if (instrument instanceof Gauge) gauges.drop(instrument, labels);
      instrument?.remove(labels);
    },
    page: () => {
      counts.settle();
      gauges.settle();
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

const NO_LABELS: MetricLabels = {};

interface Child {
  readonly labels: MetricLabels;
  /** Not told yet. */
  value: number | undefined;
}

type Tell<I> = (instrument: I, labels: MetricLabels, value: number) => void;

/**
 * What is told between two readings of the page, added up here: a request counts eight things, and each costs the library
 * half a microsecond. The first of each labels goes there at once: it throws for labels that are not declared.
 */
class Pending<I extends Counter | Gauge> {
  readonly #tell: Tell<I>;
  readonly #add: (old: number, value: number) => number;
  readonly #children = new Map<I, Map<string, Child>>();

  constructor(tell: Tell<I>, add: (old: number, value: number) => number) {
    this.#tell = tell;
    this.#add = add;
  }

  add(instrument: I, labels: MetricLabels, value: number): void {
    const children = this.#children.get(instrument) ?? new Map<string, Child>();
    if (children.size === 0) this.#children.set(instrument, children);
    const child = children.get(keyOf(labels));
    if (child !== undefined) child.value = child.value === undefined ? value : this.#add(child.value, value);
    else {
      this.#tell(instrument, labels, value);
      children.set(keyOf(labels), { labels: { ...labels }, value: undefined });
    }
  }

  drop(instrument: I, labels: MetricLabels): void {
    this.#children.get(instrument)?.delete(keyOf(labels));
  }

  settle(): void {
    for (const [instrument, children] of this.#children)
      for (const child of children.values()) {
        if (child.value !== undefined) this.#tell(instrument, child.labels, child.value);
        child.value = undefined;
      }
  }
}

/** The same labels in another order are another key: they are added up twice, into one. */
function keyOf(labels: MetricLabels): string {
  let key = "";
  for (const name in labels) key += `${name}\0${labels[name] ?? ""}\0`;
  return key;
}

/** Metrics that go nowhere. */
export const NO_METRICS: Metrics = { count: () => undefined, gauge: () => undefined, observe: () => undefined };
