/** Asks a page over and over from a thread of its own, so that a busy sender does not count as a late answer. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

export interface Health {
  readonly asked: number;
  /** Answers other than 200, and calls that failed. */
  readonly failed: number;
  readonly worstMs: number;
  /** The same without the time in which the server's thread waited for a core that others had. */
  readonly worstOwnMs: number;
}

export interface Watched {
  readonly url: string;
  /** Of the server. */
  readonly pid: number;
}

/** Time that the main thread of a process was ready to run and did not, in ms (proc(5): schedstat, the second number). */
const stoodInLine = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[1]) / 1e6;

const EVERY_MS = 20;

async function probe({ url, pid }: Watched): Promise<void> {
  let [asked, failed, worstMs, worstOwnMs] = [0, 0, 0, 0];
  const told = new AbortController();
  parentPort?.once("message", () => told.abort());
  while (!told.signal.aborted) {
    const [begun, stood] = [performance.now(), stoodInLine(pid)];
    const ok = await fetch(url).then(
      async (answer) => (await answer.text(), answer.ok),
      () => false,
    );
    asked++;
    if (!ok) failed++;
    const tookMs = performance.now() - begun;
    worstMs = Math.max(worstMs, Math.round(tookMs));
    worstOwnMs = Math.max(worstOwnMs, Math.round(tookMs - (stoodInLine(pid) - stood)));
    await sleep(EVERY_MS);
  }
  parentPort?.postMessage({ asked, failed, worstMs, worstOwnMs } satisfies Health);
}

/** Watches until the function given back is called. */
export function watchHealth(watched: Watched): () => Promise<Health> {
  const worker = new Worker(new URL(import.meta.url), { workerData: watched });
  const answer = new Promise<Health>((resolve, reject) => worker.once("message", resolve).once("error", reject));
  return () => {
    worker.postMessage("over");
    return answer;
  };
}

if (!isMainThread) void probe(workerData as Watched);
