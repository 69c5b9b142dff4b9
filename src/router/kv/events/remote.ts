/** The thread that follows KV events, as the serving one sees it: told which engines there are, and listened to. */
import type { Metrics, Thread } from "../../../ports.ts";
import type { EventIndex } from "./index.ts";
import type { EventTarget, FromEvents, ToEvents } from "./messages.ts";

export interface EventFeedOptions {
  readonly index: EventIndex;
  readonly metrics: Metrics;
  /** Metrics of the thread go into the registry. */
  readonly retell: (told: never, metrics: Metrics) => void;
  /** `restarted`: it knows nothing, and `index` was given its new memory. */
  readonly thread: (listener: { readonly restarted: () => void; readonly heard: (message: unknown) => void }) => Thread;
}

export class EventFeed {
  readonly #options: EventFeedOptions;
  readonly #thread: Thread;
  #targets: readonly EventTarget[] = [];
  /** What was told last, to tell nothing twice. */
  #told = "[]";
  #version = 0;

  constructor(options: EventFeedOptions) {
    this.#options = options;
    this.#thread = options.thread({
      restarted: () => this.#tell(),
      heard: (message) => this.#heard(message as FromEvents),
    });
  }

  /** These engines are followed from now on. */
  follow(targets: readonly EventTarget[]): void {
    const told = JSON.stringify(targets);
    if (told === this.#told) return;
    this.#told = told;
    this.#targets = targets;
    this.#tell();
  }

  readonly stop = (): void => this.#thread.stop();

  #tell(): void {
    this.#version += 1;
    this.#options.index.sent(this.#version, this.#targets);
    const message: ToEvents = { kind: "targets", version: this.#version, targets: this.#targets };
    this.#thread.post(message);
  }

  #heard(message: FromEvents): void {
    this.#options.retell(message.told as never, this.#options.metrics);
    this.#options.index.heard(message);
  }
}
