/** Values of the keys of autoscaling: durations, paces, ratios, windows of the week. Each parser gives undefined for what it does not accept. */
import { integer } from "./key.ts";
import type { Fallback, Pace, ScheduleWindow } from "./scaling.ts";

const MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** Milliseconds of `500ms`, `30s`, `10m`, `1h`. */
export function parseDuration(text: string): number | undefined {
  const [, digits, unit] = /^(\d{1,9})(ms|s|m|h)$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * MS[unit as keyof typeof MS];
}

/** A number without sign or exponent: `2`, `0.75`. */
export const parseDecimal = (text: string): number | undefined =>
  /^\d{1,9}(\.\d{1,6})?$/.test(text) ? Number(text) : undefined;

/** Longest period of a pace. */
const LONGEST_PERIOD_MS = 3_600_000;

/** `100%/60s`: at most this share in each period. */
export function parsePace(text: string, mostPercent: number): Pace | undefined {
  const [, digits = "", period = ""] = /^(\d{1,4})%\/(\w+)$/.exec(text) ?? [];
  const percent = integer(digits, 1, mostPercent);
  const periodMs = parseDuration(period);
  if (percent === undefined || periodMs === undefined || periodMs < 1000 || periodMs > LONGEST_PERIOD_MS)
    return undefined;
  return { share: percent / 100, periodMs };
}

/** `0.5-2`: least and most, both above zero. */
export function parseRatio(text: string): readonly [least: number, most: number] | undefined {
  const [least, most, ...rest] = text.split("-").map(parseDecimal);
  if (least === undefined || most === undefined || rest.length > 0) return undefined;
  return least > 0 && least <= most ? [least, most] : undefined;
}

/** `hold`, or replicas. */
export function parseFallback(text: string, most: number): Fallback | undefined {
  if (text === "hold") return { kind: "hold" };
  const replicas = integer(text, 0, most);
  return replicas === undefined ? undefined : { kind: "replicas", replicas };
}

export const DAYS: readonly string[] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** `Mon`, or `Fri-Mon` over the end of the week. */
function parseDayRange(text: string): readonly number[] | undefined {
  const [first = -1, last = first, ...rest] = text.split("-").map((day) => DAYS.indexOf(day));
  if (first === -1 || last === -1 || rest.length > 0) return undefined;
  const count = ((last - first + DAYS.length) % DAYS.length) + 1;
  return Array.from({ length: count }, (_, index) => (first + index) % DAYS.length);
}

/** `Mon-Fri`, `Sat,Sun`: each day once, from Sunday on. */
function parseDays(text: string): readonly number[] | undefined {
  const ranges = text.split(",").map(parseDayRange);
  if (!ranges.every((range) => range !== undefined)) return undefined;
  return [...new Set(ranges.flat())].sort();
}

const DAY_MINUTES = 1440;

/** Minutes since midnight; `24:00` is the end of the day. */
function parseTime(text: string): number | undefined {
  const [, hours = "", minutes = ""] = /^(\d{2}):(\d{2})$/.exec(text) ?? [];
  const [hour, minute] = [integer(hours, 0, 24), integer(minutes, 0, 59)];
  if (hour === undefined || minute === undefined || (hour === 24 && minute > 0)) return undefined;
  return hour * 60 + minute;
}

const ZONE = /^[A-Za-z][A-Za-z0-9_+/-]{1,63}$/;

/** True for a name of the IANA database, as `Europe/Berlin` or `UTC`. */
function isTimeZone(text: string): boolean {
  try {
    return ZONE.test(text) && new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}

type Bounds = Pick<ScheduleWindow, "min" | "max">;

/** `min=4`, `max=8` or both, each once. */
function parseBounds(words: readonly string[], most: number): Bounds | undefined {
  const bounds: { min?: number; max?: number } = {};
  for (const word of words) {
    const [, name, digits = ""] = /^(min|max)=(\d+)$/.exec(word) ?? [];
    const value = integer(digits, 0, most);
    if (value === undefined || bounds[name as "min" | "max"] !== undefined) return undefined;
    bounds[name as "min" | "max"] = value;
  }
  return words.length === 0 ? undefined : bounds;
}

/** `08:00-20:00`; a second one below the first is on the next day. */
function parseHours(text: string): Pick<ScheduleWindow, "from" | "to"> | undefined {
  const [from, to, ...more] = text.split("-").map(parseTime);
  if (from === undefined || to === undefined || more.length > 0) return undefined;
  return from === to || from === DAY_MINUTES ? undefined : { from, to };
}

function parseWindow(text: string, most: number): ScheduleWindow | undefined {
  const [dayText = "", hourText = "", timeZone = "", ...rest] = text.trim().split(/\s+/);
  const days = parseDays(dayText);
  const hours = parseHours(hourText);
  const bounds = parseBounds(rest, most);
  if (days === undefined || hours === undefined || bounds === undefined || !isTimeZone(timeZone)) return undefined;
  return { days, ...hours, timeZone, ...bounds };
}

const MOST_WINDOWS = 32;
const LONGEST_SCHEDULE = 4096;

/** Windows after one another, each `Mon-Fri 08:00-20:00 Europe/Berlin min=4 max=8`, with `;` between them. */
export function parseSchedule(text: string, most: number): readonly ScheduleWindow[] | undefined {
  if (text.length > LONGEST_SCHEDULE) return undefined;
  const parts = text.split(";").filter((part) => part.trim() !== "");
  const windows = parts.map((part) => parseWindow(part, most));
  if (windows.length === 0 || windows.length > MOST_WINDOWS) return undefined;
  return windows.every((window) => window !== undefined) ? windows : undefined;
}
