/**
 * One program of the harness: started with its output in a log file, ready by polling, ended by its own pid.
 *
 * A guard process ends them when the test process dies without ending them itself.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HARNESS } from "./paths.ts";

const POLL_MS = 50;
const TERM_MS = 5_000;
const TAIL_LINES = 40;

export interface ProcessSpec {
  /** Name in messages and of the log file. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Folder of the log file. */
  readonly folder: string;
  /** Beside the environment of this process. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface Running {
  readonly name: string;
  readonly pid: number;
  readonly log: string;
  /** False once the program has ended. */
  alive(): boolean;
  /** The last lines of its log. */
  tail(lines?: number): string;
  /** SIGTERM, and SIGKILL after `withinMs`, five seconds by default. Calling it twice is harmless. */
  stop(withinMs?: number): Promise<void>;
  /** SIGKILL; resolves when it has ended. */
  kill(): Promise<void>;
}

export function startProcess(spec: ProcessSpec): Running {
  const log = join(spec.folder, `${spec.name}.log`);
  const output = openSync(log, "a");
  const env = { ...process.env, ...spec.environment };
  const child = spawn(spec.command, spec.args, { stdio: ["ignore", output, output], env });
  closeSync(output);
  const { pid } = child;
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()));
  if (pid === undefined) throw new Error(`${spec.command} cannot be started`);
  tellGuard(`+${pid}`);
  void exited.then(() => tellGuard(`-${pid}`));
  const alive = (): boolean => child.exitCode === null && child.signalCode === null;
  const tail = (lines = TAIL_LINES): string => readFileSync(log, "utf8").split("\n").slice(-lines).join("\n");
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  return { name: spec.name, pid, log, alive, tail, kill, stop: (within) => end(child, exited, within) };
}

async function end(child: ChildProcess, exited: Promise<void>, withinMs = TERM_MS): Promise<void> {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), withinMs);
  await exited;
  clearTimeout(timer);
}

/** Polls until `probe` is true. Fails, with the end of the log, when the program ends or the time is over. */
export async function ready(process: Running, probe: () => Promise<boolean>, timeoutMs = 60_000): Promise<Running> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if (!process.alive()) throw new Error(`${process.name} ended before it was ready\n${process.tail()}`);
    if (await probe().catch(() => false)) return process;
    if (performance.now() > deadline)
      throw new Error(`${process.name} is not ready after ${timeoutMs / 1000} s\n${process.tail()}`);
    await sleep(POLL_MS);
  }
}

/** Polls until `check` gives something other than undefined; fails naming what it waited for, and what it last saw. */
export async function eventually<T>(what: string, check: () => Promise<T | undefined>, timeoutMs = 30_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last = "nothing";
  for (;;) {
    try {
      const value = await check();
      if (value !== undefined) return value;
    } catch (error) {
      last = (error as Error).message;
    }
    if (performance.now() > deadline) throw new Error(`${what}: not after ${timeoutMs / 1000} s; last: ${last}`);
    await sleep(2 * POLL_MS);
  }
}

let guard: ChildProcess | undefined;

/** The guard holds the other end of a pipe; when this process is gone, it ends and removes what is still on its list. */
function tellGuard(line: string): void {
  if (guard === undefined) {
    guard = spawn(process.execPath, [join(HARNESS, "guard.ts")], {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true,
    });
    guard.stdin?.on("error", () => undefined);
    guard.unref();
    (guard.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }
  guard.stdin?.write(`${line}\n`);
}

/** A folder of its own for one run, and its removal; the guard removes it when this process cannot. */
export function temporaryFolder(prefix: string): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  tellGuard(`+${folder}`);
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    tellGuard(`-${folder}`);
  };
  return { folder, remove };
}
