/**
 * The threads that tokenize, as the serving thread sees them: a bounded number of prompts with each, and what they say of
 * their models. Prompts that begin alike go to one thread, which keeps their pieces, unless another has far less to do.
 */
import { globMatches } from "../../kinds/glob.ts";
import type { Log, Metrics, Thread } from "../../ports.ts";
import type { Job } from "./job.ts";
import type { FromTokenizer, ModelState, NoTokens, ToTokenizer } from "./messages.ts";

export interface PoolListener {
  readonly restarted: () => void;
  readonly heard: (message: unknown) => void;
}

export interface PoolOptions {
  readonly threads: number;
  /** Prompts that one thread has at most. */
  readonly queue: number;
  /** Names of models, or patterns of them. */
  readonly models: readonly string[];
  readonly start: (index: number, listener: PoolListener) => Thread;
  readonly log: Log;
  readonly metrics: Metrics;
}

export type PoolAnswer = Int32Array | NoTokens;

interface Seat {
  readonly thread: Thread;
  readonly pending: Map<number, (answer: PoolAnswer) => void>;
  models: ReadonlyMap<string, ModelState>;
  pieceBytes: number;
}

/** Another thread is taken where it has so many prompts less. */
const FAR_LESS = 2;

export class TokenizePool {
  readonly #options: PoolOptions;
  readonly #seats: readonly Seat[];
  readonly #told = new Map<string, string>();
  #calls = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#seats = Array.from({ length: options.threads }, (_, index) => this.#seat(index));
  }

  /** The entry of the configuration that is meant by a model's name: its own, else the first pattern that fits. */
  entryOf(model: string): string | undefined {
    const { models } = this.#options;
    return models.find((name) => name === model) ?? models.find((pattern) => globMatches(pattern, model));
  }

  /** Undefined where nobody is ready for the model; `full` where everybody has too much to do. */
  ask(entry: string, job: Job): Promise<PoolAnswer> | "full" | undefined {
    const ready = this.#seats.filter(({ models }) => models.get(entry)?.ready === true);
    if (ready.length === 0) return undefined;
    const seat = seatFor(ready, job);
    if (seat.pending.size >= this.#options.queue) return "full";
    const id = ++this.#calls;
    return new Promise((resolve) => {
      seat.pending.set(id, resolve);
      const message: ToTokenizer = { id, model: entry, job };
      seat.thread.post(message);
    });
  }

  stop(): void {
    for (const seat of this.#seats) {
      seat.thread.stop();
      release(seat);
    }
  }

  #seat(index: number): Seat {
    const seat: Seat = {
      pending: new Map(),
      models: new Map(),
      pieceBytes: 0,
      thread: this.#options.start(index, {
        restarted: () => {
          seat.models = new Map();
          release(seat);
        },
        heard: (message) => this.#heard(seat, message as FromTokenizer),
      }),
    };
    return seat;
  }

  #heard(seat: Seat, message: FromTokenizer): void {
    if (message.kind === "state") {
      this.#states(seat, message.models, message.pieceBytes);
      return;
    }
    const resolve = seat.pending.get(message.id);
    seat.pending.delete(message.id);
    resolve?.(message.kind === "done" ? message.ids : message.why);
  }

  #states(seat: Seat, models: readonly ModelState[], pieceBytes: number): void {
    seat.models = new Map(models.map((model) => [model.name, model]));
    seat.pieceBytes = pieceBytes;
    const { metrics } = this.#options;
    metrics.gauge(
      "tandem_router_tokenizer_cache_bytes",
      this.#seats.reduce((sum, each) => sum + each.pieceBytes, 0),
    );
    for (const model of models) {
      metrics.gauge("tandem_router_tokenizer_ready", model.ready ? 1 : 0, { model: model.name });
      this.#tell(model);
    }
  }

  /** Once for each change. */
  #tell({ name: model, ready, segments, chats, problem = "" }: ModelState): void {
    const state = JSON.stringify([ready, segments, chats, problem]);
    if (this.#told.get(model) === state) return;
    this.#told.set(model, state);
    const { log } = this.#options;
    if (problem !== "") log.error("tokenizer not read", { model, ready, problem });
    else if (ready) log.info("tokenizer ready", { model, chats, piecesKept: segments });
    if (ready && !segments)
      log.warn("this tokenizer's pieces are not those of the whole: every prompt is tokenised whole", { model });
  }
}

function release(seat: Seat): void {
  for (const resolve of seat.pending.values()) resolve("failed");
  seat.pending.clear();
}

/** `ready` has one at least. */
function seatFor(ready: readonly Seat[], job: Job): Seat {
  const own = ready[startOf(job) % ready.length] as Seat;
  const least = ready.reduce((best, seat) => (seat.pending.size < best.pending.size ? seat : best), own);
  return own.pending.size - least.pending.size >= FAR_LESS ? least : own;
}

/** How much of a prompt says which conversation it is of: behind a system prompt that all share, one is as good as another. */
const START_BYTES = 512;

/** FNV-1a over the start of each member. */
function startOf({ members }: Job): number {
  let hash = 0x811c9dc5;
  for (const [, json] of members)
    for (let at = 0; at < Math.min(json.length, START_BYTES); at++)
      hash = Math.imul(hash ^ (json[at] ?? 0), 0x01000193);
  return hash >>> 0;
}
