/** Numbers and names that flags are given. Each throws a UsageError that names the flag and what is accepted. */
import { UsageError } from "./input.ts";

export function integerOf(flag: string, text: string, least: number, most: number): number {
  const value = numberOf(flag, text, least, most);
  if (!Number.isInteger(value)) throw new UsageError(`${flag} ${text}: accepted are integers`);
  return value;
}

export function numberOf(flag: string, text: string, least: number, most: number): number {
  const value = text.trim() === "" ? NaN : Number(text);
  if (!(value >= least && value <= most))
    throw new UsageError(`${flag} ${text}: accepted are numbers from ${least} to ${most}`);
  return value;
}

/** Comma list of names, or `all`. Named twice is run once: the same run again is no other seed. */
export function namesOf<const N extends string>(flag: string, text: string, known: readonly N[]): readonly N[] {
  if (text === "all") return known;
  const found = text.split(",").map((name) => {
    const each = known.find((one) => one === name.trim());
    if (each === undefined) throw new UsageError(`${flag} ${text}: accepted are ${known.join(", ")}, all`);
    return each;
  });
  return [...new Set(found)];
}
