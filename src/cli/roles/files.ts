/**
 * Files that the configuration names: certificates, keys, tokens. What cannot be read or holds not what it should is a
 * UsageError that names key and file, never what stands in it. Files are read again, so that a rotated Secret needs no
 * restart; what cannot be read then leaves the last that could.
 */
import { readFileSync } from "node:fs";
import type { Cancel } from "../../ports.ts";
import { UsageError } from "../input.ts";
import type { RolePorts } from "./ports.ts";

/** Kubelet renews a mounted Secret within a minute or two; four small files cost less than a millisecond. */
export const REREAD_MS = 10_000;

/** `key` is the configuration's name of `file`; `check` throws where the text is not what it should be. */
export function fileOf<T = string>(key: string, file: string, check?: (text: string) => T): T {
  return named(key, file, () => {
    const text = readFileSync(file, "utf8");
    return check === undefined ? (text as T) : check(text);
  });
}

/** Whatever `read` throws, under the name of the key and its file. */
export function named<T>(key: string, file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(`${key} ${file}: ${(error as Error).message}`);
  }
}

export interface Reread<T> {
  readonly current: () => T;
  readonly onChange: (listener: (value: T) => void) => Cancel;
}

/** What `read` gives now, and again every ten seconds; `what` is its name in the log. Throws what `read` throws now. */
export function reread<T>(what: string, read: () => T, { timers, log }: RolePorts): Reread<T> {
  let value = read();
  const again = (listener: (value: T) => void): void => {
    try {
      const next = read();
      if (JSON.stringify(next) === JSON.stringify(value)) return;
      value = next;
      listener(next);
      log.info(`${what} renewed`);
    } catch (error) {
      log.error(`${what} not renewed`, { error: (error as Error).message });
    }
  };
  return { current: () => value, onChange: (listener) => timers.every(REREAD_MS, () => again(listener)) };
}
