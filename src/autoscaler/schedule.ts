/** Declared times of the week: by the wall clock of a time zone, so that eight o'clock stays eight o'clock in summer. */
import type { ScalingSpec, ScheduleWindow } from "../workload/scaling.ts";

export interface Bounds {
  readonly least: number;
  readonly most: number;
}

/** Minimum and maximum of the workload now, in its replicas: of windows that overlap the greatest floor and the lowest ceiling. */
export function boundsAt({ minReplicas, maxReplicas, schedule }: ScalingSpec, wallClock: number): Bounds {
  const open = schedule.filter((window) => isOpen(window, wallClock));
  const most = Math.min(maxReplicas, ...open.map(({ max }) => max ?? Infinity));
  const least = Math.max(minReplicas, ...open.map(({ min }) => min ?? 0));
  return { least: Math.min(least, most), most };
}

const DAY = 1440;

/** A window that reaches over midnight belongs to the day on which it begins. */
export function isOpen({ days, from, to, timeZone }: ScheduleWindow, wallClock: number): boolean {
  const { day, minute } = localTime(wallClock, timeZone);
  const until = to > from ? to : to + DAY;
  const inside = (began: number, now: number): boolean => days.includes(began) && now >= from && now < until;
  return inside(day, minute) || inside((day + 6) % 7, minute + DAY);
}

const WEEK = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const formats = new Map<string, Intl.DateTimeFormat>();

function localTime(wallClock: number, timeZone: string): { readonly day: number; readonly minute: number } {
  const parts = new Map(
    formatOf(timeZone)
      .formatToParts(wallClock)
      .map(({ type, value }) => [type, value]),
  );
  const [hour, minute] = [Number(parts.get("hour")), Number(parts.get("minute"))];
  return { day: WEEK.indexOf(parts.get("weekday") ?? ""), minute: 60 * hour + minute };
}

/** Making one costs 50 us, and there are few time zones. */
function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone);
  if (known !== undefined) return known;
  const options = { timeZone, weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
  const format = new Intl.DateTimeFormat("en-US", options);
  if (formats.size < 600) formats.set(timeZone, format);
  return format;
}
