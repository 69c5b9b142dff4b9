/** Reference pages written from the tables of this folder. */
import type { MetricSpec } from "./metric-names.ts";

export const reasonsReference = (
  reasons: Readonly<Record<string, string>>,
  hints: Readonly<Record<string, string>> = {},
): string =>
  [
    "# Reasons",
    "",
    "Every decision carries one of these codes: in replies, Events, metric labels, log lines and `explain`. Written by `npm run docs`.",
    "",
    "| reason | meaning | what to do |",
    "|---|---|---|",
    ...Object.entries(reasons).map(([code, meaning]) => `| \`${code}\` | ${meaning} | ${hints[code] ?? ""} |`),
    "",
  ].join("\n");

export const metricsReference = (metrics: Readonly<Record<string, MetricSpec>>): string =>
  [
    "# Metrics",
    "",
    "Served at `/metrics` on `metrics.listen`. Written by `npm run docs`.",
    "",
    "| metric | type | labels | meaning |",
    "|---|---|---|---|",
    ...Object.entries(metrics).map(
      ([name, spec]) =>
        `| \`${name}\` | ${spec.type} | ${spec.labels.map((label) => `\`${label}\``).join(", ")} | ${spec.help} |`,
    ),
    "",
  ].join("\n");
