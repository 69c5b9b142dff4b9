/** Reads `+PID` and `-PID` lines until its input ends, which is when the test process does; then ends what is left. */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const TERM_MS = 3_000;
const pids = new Set<number>();

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    pids.delete(pid);
  }
}

for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => undefined);
for await (const line of createInterface({ input: process.stdin })) {
  const pid = Number(line.slice(1));
  if (line.startsWith("+")) pids.add(pid);
  else pids.delete(pid);
}
for (const pid of pids) signal(pid, "SIGTERM");
if (pids.size > 0) await sleep(TERM_MS);
for (const pid of pids) signal(pid, "SIGKILL");
