/**
 * Tokenizing on a thread of its own: prompts in, ids out; reads the files of its models, and again when they change.
 *
 * The newest prompt first: under load the fresh ones are in time, and those that wait too long anyway fill what is kept.
 * Says how it stands every two seconds, but not while one prompt takes longer than that: then it is taken for dead, and
 * replaced.
 */
import type { Clock, ThreadPort, Timers } from "../../ports.ts";
import { Untold } from "./chat.ts";
import type { FromTokenizer, ModelState, ToTokenizer } from "./messages.ts";
import { ModelTokenizer, type ModelFiles } from "./model.ts";
import { createPieceCache, type PieceCache } from "./segments.ts";

export interface TokenizeWorkerOptions {
  /** Name -> folder, or file. */
  readonly models: Readonly<Record<string, string>>;
  readonly cacheBytes: number;
  /** What the files are now, by their times and sizes. Throws where there are none. */
  readonly versionOf: (path: string) => string;
  readonly load: (path: string) => ModelFiles;
  readonly clock: Clock;
  readonly timers: Timers;
}

const STATE_MS = 2000;
const REREAD_MS = 10_000;
/** A prompt of a million tokens takes three seconds. */
const LONGEST_MS = 10_000;

interface Model {
  readonly name: string;
  readonly path: string;
  version: string;
  tokenizer: ModelTokenizer | undefined;
  problem: string | undefined;
}

/** Serves until the thread ends. */
export function serveTokens(port: ThreadPort, options: TokenizeWorkerOptions): void {
  new Worker(port, options).start();
}

class Worker {
  readonly #port: ThreadPort;
  readonly #options: TokenizeWorkerOptions;
  readonly #cache: PieceCache;
  readonly #models: ReadonlyMap<string, Model>;
  readonly #waiting: ToTokenizer[] = [];
  #busySince: number | undefined;

  constructor(port: ThreadPort, options: TokenizeWorkerOptions) {
    this.#port = port;
    this.#options = options;
    this.#cache = createPieceCache(options.cacheBytes);
    this.#models = new Map(
      Object.entries(options.models).map(([name, path]) => [
        name,
        { name, path, version: "", tokenizer: undefined, problem: undefined },
      ]),
    );
  }

  start(): void {
    this.#port.onMessage((message) => {
      this.#waiting.push(message as ToTokenizer);
      void this.#work();
    });
    void this.#reread();
    this.#options.timers.every(REREAD_MS, () => void this.#reread());
    this.#options.timers.every(STATE_MS, () => this.#tellState());
  }

  /** One prompt at a time: the library has threads of its own, and this thread is one core of the operator's. */
  async #work(): Promise<void> {
    if (this.#busySince !== undefined) return;
    for (let next = this.#waiting.pop(); next !== undefined; next = this.#waiting.pop()) {
      this.#busySince = this.#options.clock.monotonic();
      await this.#answer(next);
    }
    this.#busySince = undefined;
  }

  async #answer({ id, model, job }: ToTokenizer): Promise<void> {
    const tokenizer = this.#models.get(model)?.tokenizer;
    if (tokenizer === undefined) {
      this.#post({ kind: "none", id, why: "failed" });
      return;
    }
    try {
      // A copy: the ids of a single piece are those that are kept.
      const ids = (await tokenizer.tokens(job)).slice();
      this.#post({ kind: "done", id, ids }, [ids.buffer]);
    } catch (error) {
      this.#post({ kind: "none", id, why: error instanceof Untold ? "untold" : "failed" });
    }
  }

  #post(message: FromTokenizer, transfer: readonly ArrayBuffer[] = []): void {
    this.#port.post(message, transfer);
  }

  async #reread(): Promise<void> {
    for (const model of this.#models.values()) await this.#readModel(model);
    this.#tellState();
  }

  /** What cannot be read leaves the last that could. */
  async #readModel(model: Model): Promise<void> {
    const { versionOf, load } = this.#options;
    try {
      const version = versionOf(model.path);
      if (version === model.version) return;
      const files = load(model.path);
      model.tokenizer = await ModelTokenizer.of(model.name, files, this.#cache);
      model.version = version;
      model.problem = undefined;
    } catch (error) {
      model.problem = (error as Error).message;
    }
  }

  #tellState(): void {
    const { clock } = this.#options;
    if (this.#busySince !== undefined && clock.monotonic() - this.#busySince > LONGEST_MS) return;
    const models = [...this.#models.values()].map(stateOf);
    this.#post({ kind: "state", models, pieceBytes: this.#cache.calculatedSize });
  }
}

const stateOf = ({ name, tokenizer, problem }: Model): ModelState => ({
  name,
  ready: tokenizer !== undefined,
  segments: tokenizer?.segments === true,
  chats: tokenizer?.chats === true,
  ...(problem === undefined ? {} : { problem }),
});
