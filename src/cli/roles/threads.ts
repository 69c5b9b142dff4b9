/**
 * Threads beside the serving one: started, listened to, and started again when they crash or fall silent. A failure is
 * told once and counted; the pause before the next start doubles until the thread has run well for a minute.
 */
import { parentPort, Worker } from "node:worker_threads";
import type { Cancel, Clock, Log, Metrics, Thread, ThreadPort, Timers } from "../../ports.ts";

export interface ThreadJob {
  /** In metrics and logs. */
  readonly name: string;
  readonly entry: URL;
  /** What the thread is born with. */
  readonly data: () => unknown;
  readonly heard: (message: unknown) => void;
  /** It was started again, and knows what it was born with alone. */
  readonly restarted: () => void;
  readonly limits?: ThreadLimits;
}

export interface ThreadLimits {
  /** Milliseconds of silence after which it hangs; it must speak more often, and within so long after its start. */
  readonly silentMs: number;
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
  /** After so long without failure the next one is a first one. */
  readonly steadyMs: number;
}

/** Its own garbage collection and a page of 4 MiB are a tenth of a second; starting it on a busy node is seconds. */
const LIMITS: ThreadLimits = { silentMs: 10_000, firstPauseMs: 500, longestPauseMs: 30_000, steadyMs: 60_000 };

export interface ThreadPorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly metrics: Metrics;
}

export const startThread = (job: ThreadJob, ports: ThreadPorts): Thread => new Supervised(job, ports);

class Supervised implements Thread {
  readonly #job: ThreadJob;
  readonly #ports: ThreadPorts;
  readonly #limits: ThreadLimits;
  readonly #cancelCheck: Cancel;
  #cancelPause: Cancel = () => undefined;
  #worker: Worker | undefined;
  #failures = 0;
  #startedAt = 0;
  #heardAt = 0;
  #checkedAt = 0;

  constructor(job: ThreadJob, ports: ThreadPorts) {
    this.#job = job;
    this.#ports = ports;
    this.#limits = job.limits ?? LIMITS;
    this.#start();
    this.#checkedAt = ports.clock.monotonic();
    this.#cancelCheck = ports.timers.every(this.#limits.silentMs / 4, () => this.#check());
  }

  readonly post = (message: unknown): void => {
    this.#worker?.postMessage(message);
  };

  readonly stop = (): void => {
    this.#cancelCheck();
    this.#cancelPause();
    this.#end();
  };

  #start(): void {
    const worker = new Worker(this.#job.entry, { workerData: this.#job.data(), name: this.#job.name });
    // What serves keeps the process alive, not what helps it.
    worker.unref();
    worker.on("message", (message) => {
      if (worker !== this.#worker) return;
      this.#hear();
      this.#job.heard(message);
    });
    worker.on("error", (error: unknown) => this.#failed(worker, "crashed", String(error)));
    worker.on("exit", (code) => this.#failed(worker, "crashed", `it ended with ${code}`));
    this.#worker = worker;
    this.#startedAt = this.#heardAt = this.#ports.clock.monotonic();
  }

  #hear(): void {
    const now = this.#ports.clock.monotonic();
    this.#heardAt = now;
    if (this.#failures === 0 || now - this.#startedAt < this.#limits.steadyMs) return;
    this.#failures = 0;
    this.#ports.log.info("thread runs well again", { thread: this.#job.name });
  }

  /** A check that comes late itself says that we hung: what the thread said is still to be read. */
  #check(): void {
    const now = this.#ports.clock.monotonic();
    const { silentMs } = this.#limits;
    const onTime = now - this.#checkedAt < silentMs / 2;
    this.#checkedAt = now;
    if (onTime && this.#worker !== undefined && now - this.#heardAt > silentMs)
      this.#failed(this.#worker, "hung", `silent for ${Math.round(now - this.#heardAt)} ms`);
  }

  #failed(worker: Worker, cause: "crashed" | "hung", detail: string): void {
    if (worker !== this.#worker) return;
    const { log, metrics, timers } = this.#ports;
    const { firstPauseMs, longestPauseMs } = this.#limits;
    const thread = this.#job.name;
    this.#end();
    metrics.count("tandem_thread_restarts_total", { thread, cause });
    if (this.#failures === 0) log.error("thread failed, and is started again", { thread, cause, detail });
    const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(this.#failures, 20));
    this.#failures += 1;
    this.#cancelPause = timers.after(pauseMs, () => {
      this.#start();
      this.#job.restarted();
    });
  }

  #end(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
  }
}

/** The thread's own side. Throws where it is called on the main thread. */
export function threadPort(): ThreadPort {
  const port = parentPort;
  if (port === null) throw new Error("this runs on a thread beside the program, not by itself");
  return {
    post: (message, transfer = []) => port.postMessage(message, [...transfer]),
    onMessage: (listener) => void port.on("message", listener),
  };
}
