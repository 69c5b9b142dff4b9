/** Decisions as metrics: a series for each workload and each role of a group, gone with them, and bounded in number. */
import type { MetricLabels, MetricSeries } from "../ports.ts";
import type { Decision, RoleFigures, WorkloadDecision } from "./group.ts";
import { reasonOf } from "./reason.ts";

export interface Meter {
  /** Shows a group as it is now. `draining` gives the instances that drain, by workload. */
  show(group: string, decision: Decision, draining: ReadonlyMap<string, number>): void;
  /** Takes the series of all other groups off the page. */
  keep(groups: ReadonlySet<string>): void;
}

/** Groups with series; those beyond are on the pages of decisions alone. */
const MOST_GROUPS = 500;
/** Workloads of one group with series. */
const MOST_WORKLOADS = 50;

interface Series {
  readonly name: string;
  readonly labels: MetricLabels;
  readonly value: number;
}

export function createMeter(metrics: MetricSeries): Meter {
  const shown = new Map<string, ReadonlyMap<string, Series>>();
  const replace = (group: string, series: readonly Series[]): void => {
    const next = new Map(series.map((one) => [JSON.stringify([one.name, one.labels]), one]));
    for (const [key, { name, labels }] of shown.get(group) ?? []) if (!next.has(key)) metrics.drop(name, labels);
    for (const { name, labels, value } of next.values()) metrics.gauge(name, value, labels);
    if (next.size === 0) shown.delete(group);
    else shown.set(group, next);
  };
  return {
    show: (group, decision, draining) => {
      if (!shown.has(group) && shown.size >= MOST_GROUPS) return;
      const workloads = decision.workloads.slice(0, MOST_WORKLOADS);
      replace(group, [
        ...workloads.flatMap((workload) => seriesOf(workload, draining.get(workload.workload) ?? 0)),
        ...decision.roles.flatMap((figures) => figuresOf(group, figures)),
      ]);
    },
    keep: (groups) => {
      for (const group of shown.keys()) if (!groups.has(group)) replace(group, []);
    },
  };
}

function seriesOf(decision: WorkloadDecision, draining: number): Series[] {
  const { workload: id, to, recommended, frozen } = decision;
  const at = id.indexOf("/");
  const labels = { namespace: id.slice(0, at), workload: id.slice(at + 1) };
  const reason = reasonOf(decision) ?? "";
  return [
    { name: "tandem_autoscaler_desired_replicas", labels, value: to },
    { name: "tandem_autoscaler_draining_replicas", labels, value: draining },
    { name: "tandem_autoscaler_recommended_replicas", labels: { ...labels, reason }, value: recommended },
    ...(frozen === undefined
      ? []
      : [{ name: "tandem_autoscaler_frozen", labels: { ...labels, reason: frozen }, value: 1 }]),
  ];
}

function figuresOf(group: string, figures: RoleFigures): Series[] {
  const labels = { group, role: figures.role };
  return [
    { name: "tandem_autoscaler_demand", labels, value: figures.demand },
    { name: "tandem_autoscaler_capacity", labels, value: figures.capacity },
    { name: "tandem_autoscaler_forecast", labels: { ...labels, kind: "trend" }, value: figures.forecast },
    { name: "tandem_autoscaler_forecast", labels: { ...labels, kind: "burst" }, value: figures.burst },
    { name: "tandem_autoscaler_backlog_seconds", labels, value: figures.backlogSeconds },
    { name: "tandem_autoscaler_panicking", labels, value: figures.isPanicking ? 1 : 0 },
  ];
}
