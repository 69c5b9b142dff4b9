/** What `tandem simulate` prints: one line a policy and load, means over the seeds and how far they lie apart. */
import type { Row } from "../../simulator/routing/cells.ts";
import { columns, spread } from "../table.ts";

const HEAD = [
  "policy",
  "scene",
  "engines",
  "load",
  "req/s",
  "hit",
  "TTFT ms",
  "p99",
  "TPOT ms",
  "e2e ms",
  "good req/s",
];

export function summary(rows: readonly Row[]): string {
  const groups = Map.groupBy(rows, ({ policy, scene, topology, load }) =>
    JSON.stringify([policy, scene, topology, load]),
  );
  const lines = [...groups.values()].map((group) => lineOf(group));
  return `${columns([HEAD, ...lines])}\n`;
}

function lineOf(rows: readonly Row[]): readonly string[] {
  const [first] = rows;
  const over = (of: (row: Row) => number, digits = 0): string => spread(rows.map(of), digits);
  return [
    ...[
      first?.policy ?? "",
      first?.scene ?? "",
      first?.topology ?? "",
      first?.load === null ? "-" : String(first?.load),
    ],
    over(({ throughputRps }) => throughputRps, 2),
    over(({ hitRate }) => hitRate, 3),
    over(({ ttftMs }) => ttftMs.mean),
    over(({ ttftMs }) => ttftMs.p99),
    over(({ tpotMs }) => tpotMs.mean, 1),
    over(({ e2eMs }) => e2eMs.mean),
    over(({ goodputRps }) => goodputRps, 2),
  ];
}

/** A line that is written over, on a terminal only. */
export function progressLine(what: string): (done: number, of: number) => void {
  let shown = -1;
  return (done, of) => {
    const percent = Math.floor((100 * done) / of);
    if (!process.stderr.isTTY || percent === shown) return;
    shown = percent;
    process.stderr.write(`\r${what}  ${percent} %${done === of ? "\n" : " "}`);
  };
}
