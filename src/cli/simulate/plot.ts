/**
 * What `tandem simulate -o svg` draws: for each scene and fleet a bar for each policy and load, side by side for what
 * people compare; the line on a bar goes from the lowest of its seeds to the highest.
 */
import type { Row } from "../../simulator/routing/cells.ts";
import { BOLD, COLOURS, svg, text } from "../svg.ts";

/** A row of any policy: benchmarks have variants beside the named ones. */
export type Drawn = Omit<Row, "policy"> & { readonly policy: string };

interface Panel {
  readonly title: string;
  readonly of: (row: Drawn) => number;
  readonly digits: number;
}

const PANELS: readonly Panel[] = [
  { title: "mean TTFT, ms", of: ({ ttftMs }) => ttftMs.mean, digits: 0 },
  { title: "p99 TTFT, ms", of: ({ ttftMs }) => ttftMs.p99, digits: 0 },
  { title: "mean TPOT, ms", of: ({ tpotMs }) => tpotMs.mean, digits: 1 },
  { title: "good requests/s", of: ({ goodputRps }) => goodputRps, digits: 2 },
  { title: "cached prompt tokens", of: ({ hitRate }) => hitRate, digits: 3 },
];

const NAMES = 110;
const PANEL = 190;
const BAR = 12;
const GAP = 8;
const TOP = 64;
/** Of a panel's width, so that the figure beside the longest bar has room. */
const LONGEST = 0.66;
const WIDTH = NAMES + PANELS.length * PANEL;

/** One picture of all rows; policies and loads in the order in which they come. */
export function plot(rows: readonly Drawn[]): string {
  const lines: string[] = [];
  let height = 0;
  for (const group of Map.groupBy(rows, ({ scene, topology }) => JSON.stringify([scene, topology])).values()) {
    const picture = pictureOf(group);
    lines.push(`<g transform="translate(0 ${height})">`, ...picture.lines, "</g>");
    height += picture.height;
  }
  return svg({ width: WIDTH, height }, lines);
}

function pictureOf(rows: readonly Drawn[]): { lines: string[]; height: number } {
  const policies = [...new Set(rows.map(({ policy }) => policy))];
  const loads = [...new Set(rows.map(({ load }) => load))];
  const step = loads.length * BAR + GAP;
  const names = policies.map((policy, at) =>
    text([NAMES - 8, TOP + at * step + (step - GAP) / 2 + 4], policy, `text-anchor="end" ${weightOf(policy)}`),
  );
  const bars = policies.flatMap((policy, row) =>
    loads.map((load, bar) => ({
      rows: rows.filter((each) => each.policy === policy && each.load === load),
      y: TOP + row * step + bar * BAR,
      colour: COLOURS[bar % COLOURS.length] ?? "",
    })),
  );
  const panels = PANELS.flatMap((panel, at) => panelOf(panel, NAMES + at * PANEL, bars));
  const [first] = rows;
  const heading = text([8, 18], `${first?.scene ?? ""} on ${first?.topology ?? ""} engines`, BOLD);
  return { lines: [heading, ...legendOf(loads), ...names, ...panels], height: TOP + policies.length * step + GAP };
}

const weightOf = (policy: string): string => (policy.startsWith("tandem") ? BOLD : "");

interface Bar {
  /** One a seed. */
  readonly rows: readonly Drawn[];
  readonly y: number;
  readonly colour: string;
}

function panelOf({ title, of, digits }: Panel, x: number, bars: readonly Bar[]): string[] {
  const most = Math.max(...bars.flatMap(({ rows }) => rows.map(of)), Number.MIN_VALUE);
  const length = (value: number): number => Math.round((LONGEST * PANEL * value) / most);
  const lines = bars.flatMap(({ rows, y, colour }) => {
    if (rows.length === 0) return [];
    const values = rows.map(of);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const [low, high] = [length(Math.min(...values)), length(Math.max(...values))];
    return [
      `<rect x="${x}" y="${y + 1}" width="${length(mean)}" height="${BAR - 2}" fill="${colour}"/>`,
      `<path d="M${x + low} ${y + BAR / 2}H${x + high}" stroke="black"/>`,
      text([x + high + 4, y + BAR / 2 + 4], mean.toFixed(digits)),
    ];
  });
  return [text([x, TOP - 10], title, BOLD), ...lines];
}

/** Scenes have one load, their own. */
const legendOf = (loads: readonly (number | null)[]): string[] =>
  loads.flatMap((load, at) => {
    if (load === null) return [];
    const x = NAMES + at * 130;
    const square = `<rect x="${x}" y="28" width="10" height="10" fill="${COLOURS[at % COLOURS.length] ?? ""}"/>`;
    return [square, text([x + 14, 37], `${Math.round(load * 100)} % of capacity`)];
  });
