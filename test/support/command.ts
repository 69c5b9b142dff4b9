/** Runs `tandem` as people do: its own process, whose streams carry nothing of the test's own output. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const CACHE = fileURLToPath(new URL("../../node_modules/.cache/compile", import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Exit code and what stood on both streams. Environment: `PATH` alone, and no home folder with a kubeconfig, but what is given. */
export async function tandem(args: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    // Compiled once for all runs: 1.3 s a start without it, 0.8 s with it.
    env: { NODE_COMPILE_CACHE: CACHE, PATH: process.env["PATH"], HOME: "/nonexistent", ...environment },
  });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out, err };
}
