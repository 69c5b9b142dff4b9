/** What a process of this machine uses, from proc(5). */
import { readFileSync } from "node:fs";

export interface Memory {
  readonly rssMb: number;
  /** The most it ever held. */
  readonly peakMb: number;
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string): number =>
    Math.round(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) / 1024);
  return { rssMb: field("VmRSS"), peakMb: field("VmHWM") };
}

/** Clock ticks of 10 ms on every Linux that Node runs on. */
const TICK_MS = 10;

/** Processor time of all its threads, in milliseconds. */
export function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is the name in brackets, which may hold anything; times are the 14th and 15th.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** The value below which this share of the values lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

export const rounded = (value: number, digits = 1): number => Number(value.toFixed(digits));
