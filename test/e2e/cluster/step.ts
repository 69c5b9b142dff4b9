/** Commands that take long, and say so: a line at the start, one every 15 seconds, one at the end. */
import { spawn, spawnSync } from "node:child_process";

const PROGRESS_MS = 15_000;
const TAIL_BYTES = 8_000;

/** Something the end-to-end tests need is not on this machine; the message says what, and how to get it. */
export class MissingTool extends Error {}

export interface StepOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a command with progress on stderr. Fails with the end of its output. Resolves to its standard output. */
export async function step(
  title: string,
  [command, ...args]: readonly [string, ...string[]],
  options: StepOptions = {},
): Promise<string> {
  const begun = performance.now();
  const elapsed = (): string => `${Math.round((performance.now() - begun) / 1000)} s`;
  console.error(`${title} ...`);
  const timer = setInterval(() => console.error(`${title} ... ${elapsed()}`), PROGRESS_MS);
  try {
    const output = await run(command, args, options);
    console.error(`${title}: done in ${elapsed()}`);
    return output;
  } catch (error) {
    throw new Error(`${title} failed after ${elapsed()}: ${(error as Error).message}`, { cause: error });
  } finally {
    clearInterval(timer);
  }
}

async function run(command: string, args: readonly string[], options: StepOptions): Promise<string> {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
  });
  const out: string[] = [];
  let tail = "";
  const watch = (chunk: string): void => {
    tail = (tail + chunk).slice(-TAIL_BYTES);
  };
  child.stdout
    .setEncoding("utf8")
    .on("data", watch)
    .on("data", (chunk: string) => out.push(chunk));
  child.stderr.setEncoding("utf8").on("data", watch);
  const code = await new Promise<number | null>((resolve, reject) =>
    child.once("error", reject).once("close", resolve),
  );
  if (code !== 0) throw new Error(`${command} ended with ${code ?? "a signal"}\n${tail}`);
  return out.join("");
}

/** First line that `command` prints, or undefined where it cannot be run. */
export function versionOf(command: string, args: readonly string[]): string | undefined {
  const result = spawnSync(command, args, { encoding: "utf8", timeout: 30_000 });
  return result.status === 0 ? (result.stdout.trim().split("\n")[0] ?? "") : undefined;
}
