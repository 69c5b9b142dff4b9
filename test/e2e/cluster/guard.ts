/**
 * Reads lines until its input ends, which is when the test process does; then ends the programs (`+PID`) and removes
 * the folders (`+/PATH`) that were not taken off the list (`-...`).
 */
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const TERM_MS = 3_000;
const left = new Set<string>();

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    left.delete(String(pid));
  }
}

const pids = (): number[] => [...left].filter((entry) => /^\d+$/.test(entry)).map(Number);

for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => undefined);
for await (const line of createInterface({ input: process.stdin })) {
  if (line.startsWith("+")) left.add(line.slice(1));
  else left.delete(line.slice(1));
}
for (const pid of pids()) signal(pid, "SIGTERM");
if (pids().length > 0) await sleep(TERM_MS);
for (const pid of pids()) signal(pid, "SIGKILL");
for (const entry of left) if (entry.startsWith("/")) rmSync(entry, { recursive: true, force: true });
