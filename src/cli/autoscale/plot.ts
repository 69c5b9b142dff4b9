/**
 * What `tandem autoscale simulate -o svg` draws: for each policy, over time, the load behind and the pods of each role that
 * are ready; a thin line is what was asked for. One seed and one start-up time each.
 */
import type { ScalingOutcome } from "../../simulator/scaling/cells.ts";
import type { Moment } from "../../simulator/scaling/run.ts";
import { POOL_ROLES, type PoolRole } from "../../simulator/scaling/world.ts";
import { BOLD, COLOURS, svg, text } from "../svg.ts";

const WIDTH = 860;
const LEFT = 40;
const RIGHT = 50;
const TOP = 44;
const HEIGHT = 120;
const PANEL = TOP + HEIGHT + 34;
const LOAD = "#dddddd";
const ROLE_COLOURS: Readonly<Record<PoolRole, string>> = { prefill: COLOURS[1], decode: COLOURS[3] };

/** One panel for each policy and start-up time, the first seed. */
export function coursePlot(outcomes: readonly ScalingOutcome[]): string {
  const groups = Map.groupBy(outcomes, ({ row }) => JSON.stringify([row.policy, row.trace, row.startupSeconds]));
  const panels = [...groups.values()].flatMap(([first], index) =>
    first === undefined ? [] : [`<g transform="translate(0 ${index * PANEL})">`, ...panelOf(first), "</g>"],
  );
  return svg({ width: WIDTH, height: groups.size * PANEL }, panels);
}

function panelOf({ row, course }: ScalingOutcome): readonly string[] {
  const most = {
    at: greatest(course, ({ at }) => at),
    pods: greatest(course, ({ ready, asked }) => Math.max(...POOL_ROLES.flatMap((role) => [ready[role], asked[role]]))),
    load: greatest(course, ({ requestsPerSecond }) => requestsPerSecond),
  };
  const x = ({ at }: Moment): number => LEFT + Math.round(((WIDTH - LEFT - RIGHT) * at) / most.at);
  const y = (share: number): number => TOP + Math.round(HEIGHT * (1 - share));
  const lines = POOL_ROLES.flatMap((role) => [
    stepLine(course, x, ({ ready }) => y(ready[role] / most.pods), `stroke="${ROLE_COLOURS[role]}" stroke-width="2"`),
    stepLine(course, x, ({ asked }) => y(asked[role] / most.pods), `stroke="${ROLE_COLOURS[role]}" stroke-width="0.6"`),
  ]);
  const title = `${row.policy} on ${row.trace}, start-up ${row.startupSeconds} s: ${(100 * row.sloAttainment).toFixed(1)} % in time, ${row.gpuHours.toFixed(1)} GPU-h`;
  return [
    text([8, 18], title, BOLD),
    text([LEFT, 34], "prefill pods", `fill="${ROLE_COLOURS.prefill}"`),
    text([LEFT + 90, 34], "decode pods", `fill="${ROLE_COLOURS.decode}"`),
    text([LEFT + 180, 34], "requests/s", `fill="#888888"`),
    area(course, x, ({ requestsPerSecond }) => y(requestsPerSecond / most.load)),
    ...lines,
    text([8, TOP + 8], String(most.pods)),
    text([8, TOP + HEIGHT], "0"),
    text([WIDTH - RIGHT + 6, TOP + 8], most.load.toFixed(0), `fill="#888888"`),
    text([WIDTH - RIGHT - 20, TOP + HEIGHT + 16], `${(most.at / 3_600_000).toFixed(1)} h`),
  ];
}

/** Of each moment, 1 or more; a trace of days has more moments than a call may have arguments. */
const greatest = (course: readonly Moment[], of: (moment: Moment) => number): number =>
  course.reduce((most, moment) => Math.max(most, of(moment)), 1);

type Place = (moment: Moment) => number;

const stepLine = (course: readonly Moment[], x: Place, y: Place, attributes: string): string =>
  `<path d="${course.map((moment, index) => (index === 0 ? `M${x(moment)} ${y(moment)}` : `H${x(moment)}V${y(moment)}`)).join("")}" fill="none" ${attributes}/>`;

function area(course: readonly Moment[], x: Place, y: Place): string {
  const [first, last] = [course[0], course.at(-1)];
  if (first === undefined || last === undefined) return "";
  const top = course.map((moment) => `L${x(moment)} ${y(moment)}`).join("");
  return `<path d="M${x(first)} ${TOP + HEIGHT}${top}L${x(last)} ${TOP + HEIGHT}Z" fill="${LOAD}"/>`;
}
