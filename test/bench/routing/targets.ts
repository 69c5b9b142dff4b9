/** What the rows are to show, and whether they do. */
import type { BenchRow } from "./worker.ts";

export interface Target {
  readonly section: string;
  readonly what: string;
  readonly seen: number;
  readonly wanted: string;
  /** Undefined: nothing is asked for, the figure stands beside a published one. */
  readonly met?: boolean;
}

type Of = (row: BenchRow) => number;
const RPS: Of = ({ throughputRps }) => throughputRps;
const TTFT: Of = ({ ttftMs }) => ttftMs.mean;
const P99: Of = ({ ttftMs }) => ttftMs.p99;
const E2E: Of = ({ e2eMs }) => e2eMs.mean;
const GOOD: Of = ({ goodputRps }) => goodputRps;

export function targetsOf(rows: readonly BenchRow[]): readonly Target[] {
  const sections = new Set(rows.map(({ section }) => section));
  const all = [...sections].flatMap((section) => SECTIONS[section](rows.filter((row) => row.section === section)));
  // Of policies that were not run nothing can be said.
  return all.filter(({ seen }) => Number.isFinite(seen));
}

const SECTIONS: Readonly<Record<BenchRow["section"], (rows: readonly BenchRow[]) => readonly Target[]>> = {
  a: (rows) => [
    ...calibration(rows),
    ...besides(rows),
    least("a", "throughput to random", ratio(rows, RPS, "tandem", "random"), 2.73),
    least("a", "throughput to least request + prefix", ratio(rows, RPS, "tandem", "kthena-prefix"), 1.35),
    most("a", "TTFT to random", ratio(rows, TTFT, "tandem", "random"), 0.265),
    most("a", "end to end to random", ratio(rows, E2E, "tandem", "random"), 0.4),
  ],
  b: (rows) => [
    most("b", "TTFT to random", ratio(rows, TTFT, "tandem", "random"), 1),
    least("b", "throughput to least request + prefix", ratio(rows, RPS, "tandem", "kthena-prefix"), 1),
    least("b", "throughput to least request + KV", ratio(rows, RPS, "tandem", "kthena-kv"), 1),
  ],
  c: (rows) =>
    loadsOf(rows).flatMap((load) =>
      atLoad(
        rows.filter((row) => row.load === load),
        load,
      ),
    ),
  d: (rows) =>
    loadsOf(rows).flatMap((load) =>
      split(
        rows.filter((row) => row.load === load),
        load,
      ),
    ),
};

const calibration = (rows: readonly BenchRow[]): readonly Target[] =>
  (
    [
      ["random", 11.81],
      ["kthena-prefix", 23.87],
    ] as const
  ).flatMap(([policy, published]) => {
    const to = mean(rows, RPS, policy) / published;
    return [
      least("a", `${policy} to the published ${published}`, to, 0.9),
      most("a", `${policy} to the published ${published}`, to, 1.1),
    ];
  });

/** Published rows that nothing was calibrated on. */
const besides = (rows: readonly BenchRow[]): readonly Target[] =>
  (
    [
      ["kthena-kv", 32.22],
      ["least-request", 9.86],
    ] as const
  ).map(([policy, published]) => {
    const seen = rounded(mean(rows, RPS, policy) / published);
    return { section: "a", what: `${policy} to the published ${published}`, seen, wanted: "none" };
  });

/** Against the better of Kthena's and llm-d's, and against whoever is best. */
function atLoad(rows: readonly BenchRow[], load: number): readonly Target[] {
  const rivals = ["kthena-prefix", "kthena-kv", "kthena-default", "llm-d"];
  const toBest = (of: Of, names: readonly string[]): number =>
    mean(rows, of, "tandem") / Math.min(...names.map((name) => mean(rows, of, name)));
  const others = [...new Set(rows.map(({ policy }) => policy))].filter((name) => name !== "tandem");
  const at = `at ${load} of capacity`;
  return [
    most("c", `TTFT to the better of Kthena and llm-d ${at}`, toBest(TTFT, rivals), load > 0.6 ? 0.75 : 1.05),
    ...(load > 0.6 ? [most("c", `p99 TTFT to the better of Kthena and llm-d ${at}`, toBest(P99, rivals), 0.85)] : []),
    most("c", `TTFT to the best of all ${at}`, toBest(TTFT, others), 1.1),
  ];
}

/** No figure is asked for beyond: joint choice is to win. */
const split = (rows: readonly BenchRow[], load: number): readonly Target[] =>
  ["tandem-always", "kthena-prefix", "kthena-kv", "llm-d"].map((name) =>
    least("d", `goodput to ${name} at ${load} of capacity`, ratio(rows, GOOD, "tandem", name), 1),
  );

const loadsOf = (rows: readonly BenchRow[]): readonly number[] => [...new Set(rows.map(({ load }) => load ?? 0))];

function mean(rows: readonly BenchRow[], of: Of, policy: string): number {
  const values = rows.filter((row) => row.policy === policy).map(of);
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

const ratio = (rows: readonly BenchRow[], of: Of, one: string, other: string): number =>
  mean(rows, of, one) / mean(rows, of, other);

const least = (section: string, what: string, value: number, wanted: number): Target => ({
  section,
  what,
  seen: rounded(value),
  wanted: `>= ${wanted}`,
  met: value >= wanted,
});
const most = (section: string, what: string, value: number, wanted: number): Target => ({
  section,
  what,
  seen: rounded(value),
  wanted: `<= ${wanted}`,
  met: value <= wanted,
});
const rounded = (value: number): number => Number(value.toFixed(3));
