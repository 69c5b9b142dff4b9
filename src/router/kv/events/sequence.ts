/**
 * The order of one engine's messages: which are believed, what is missing, and how much is known.
 *
 * Decides from sequence numbers and the engine's own times; knows no socket. A gap is asked for again, and what comes
 * meanwhile waits; what cannot be had any more means that removals may have been missed: all is forgotten, and the cache is
 * known again once it was cleared or has turned over. Of a publisher that began anew all is forgotten at once: each replay
 * begins with the message that was applied last, which another publisher has not, or has with another time.
 *
 * live: what the events say is what the engine holds. replaying: it soon will be. blind: it may not be.
 */
import type { Message, StreamCause, StreamCounts, StreamEffects, StreamLimits, StreamState } from "./stream-state.ts";

const LIMITS: StreamLimits = { waiting: 10_000, waitingBytes: 8 * 2 ** 20, attempts: 3 };

/** `missing`: something is, or may be. `confirm`: nothing may be. `anew`: nothing of what was applied counts. */
type Why = "missing" | "confirm" | "anew";

export class StreamSequence {
  readonly counts: StreamCounts = { gaps: 0, lost: 0, restarts: 0, duplicates: 0, garbage: 0 };
  readonly #effects: StreamEffects;
  readonly #replays: boolean;
  readonly #limits: StreamLimits;
  #state: StreamState = "blind";
  #cause: StreamCause = "unreachable";
  /** The number that comes next; undefined where none was heard that it could follow. */
  #next: number | undefined;
  /** The time of the message before it. */
  #time = -Infinity;
  /** All that is cached was heard of. */
  #whole = false;
  #lostAs: "lost" | "garbage" = "lost";
  /** Why it was asked, and whether an answer came. */
  #asked: { why: Why; answered: boolean } | undefined;
  /** It gave no answer, so that nobody knows what it would have been. */
  #unanswered = false;
  #attempts = 0;
  #waiting: Message[] = [];
  #waitingBytes = 0;

  /** @param replays whether the engine answers for what it sent before */
  constructor(effects: StreamEffects, replays: boolean, limits: StreamLimits = LIMITS) {
    this.#effects = effects;
    this.#replays = replays;
    this.#limits = limits;
  }

  get state(): StreamState {
    return this.#state;
  }

  get cause(): StreamCause {
    return this.#cause;
  }

  connected(): void {
    this.#attempts = 0;
    this.#unanswered = false;
    if (this.#replays) {
      this.#replay("connected");
      return;
    }
    // Nobody says what was missed, nor whether it is the same publisher.
    if (this.#next !== undefined) this.#forget();
    this.#become("blind", "unheard");
  }

  disconnected(): void {
    this.#asked = undefined;
    this.#unanswered = false;
    this.#forgetWaiting();
    this.#become("blind", "unreachable");
  }

  /**
   * It has been quiet: the last messages may have been lost, and none comes that shows it. Asks for them once more, and
   * stays as it is meanwhile.
   */
  confirm(): void {
    if (this.#replays && this.#asked === undefined && this.#next !== undefined && this.#state === "live")
      this.#ask("confirm");
  }

  /** To be called now and then: who gave no answer is asked once more, for all that it keeps. */
  retry(): void {
    if (this.#unanswered && this.#asked === undefined) this.#ask("anew");
  }

  /** A message as it was published; its payload is valid in this call alone. */
  live(message: Message): void {
    // In order it shows that nothing was missing, and else that something is: no answer is needed any more.
    if (this.#asked?.why === "confirm") this.#asked = undefined;
    if (this.#asked === undefined) this.#inOrder(message);
    else this.#wait(message);
  }

  /** A message that was asked for. */
  replayed(message: Message): void {
    const asked = this.#asked;
    if (asked === undefined) return;
    if (!asked.answered && !this.#answers(asked, message)) {
      this.#beginAnew();
      return;
    }
    const next = this.#next ?? 0;
    if (message.sequence < next) return;
    // What lies between is gone from the engine's memory as well.
    if (message.sequence > next) this.#lose("lost");
    else if (this.#next === undefined) this.#whole = true;
    this.#take(message, true);
  }

  /** The first answer. False where it comes from another publisher. */
  #answers(asked: { why: Why; answered: boolean }, message: Message): boolean {
    asked.answered = true;
    this.#unanswered = false;
    if (asked.why === "anew") this.#forget();
    asked.why = "missing";
    return this.#isSame(message);
  }

  /** The engine has sent all that it kept. */
  replayEnded(): void {
    const asked = this.#asked;
    if (asked === undefined) return;
    // Not even the message that was applied last: this is another publisher, and has sent less.
    if (!asked.answered && (this.#next ?? 0) > 0 && asked.why !== "anew") {
      this.#beginAnew();
      return;
    }
    this.#asked = undefined;
    this.#unanswered = false;
    // It has published nothing yet, so nothing is cached.
    if (this.#next === undefined) [this.#next, this.#whole] = [0, true];
    this.#settle();
    this.#drain();
  }

  /** It did not answer, or not to the end. */
  replayFailed(): void {
    const asked = this.#asked;
    if (asked === undefined) return;
    if (asked.why !== "missing") {
      // Nothing is known to be missing, or to have come.
      this.#asked = undefined;
      this.#drain();
      return;
    }
    this.#attempts += 1;
    if (this.#attempts < this.#limits.attempts) {
      this.#ask("missing");
      return;
    }
    this.#asked = undefined;
    this.#unanswered = true;
    this.#forgetWaiting();
    // Neither what waits nor what comes can be joined to what was heard.
    this.#lose("lost");
    this.#next = undefined;
  }

  /** As many blocks were stored since the loss as the cache holds: nothing of before is left. */
  turnedOver(): void {
    this.#whole = true;
    if (this.#asked === undefined && this.#next !== undefined) this.#settle();
  }

  #inOrder(message: Message): void {
    const next = this.#next;
    if (next === undefined) {
      this.#begin(message);
      return;
    }
    if (message.sequence === next) {
      this.#take(message, false);
      return;
    }
    if (message.sequence < next) {
      this.#backwards(message);
      return;
    }
    this.counts.gaps += 1;
    if (this.#mayAsk()) {
      this.#wait(message);
      this.#replay("gap");
      return;
    }
    this.#lose("lost");
    this.#take(message, false);
  }

  /** The first message that is heard, with none before it to be had. */
  #begin(message: Message): void {
    if (message.sequence === 0) this.#whole = true;
    else this.#lose("lost");
    this.#take(message, false);
  }

  /** A repetition was published when it was; one that is newer comes from a publisher that began anew. */
  #backwards(message: Message): void {
    if (message.time <= this.#time) return void (this.counts.duplicates += 1);
    this.#restarted();
    if (message.sequence === 0 || !this.#mayAsk()) {
      this.#begin(message);
      return;
    }
    this.#wait(message);
    this.#replay("gap");
  }

  /** @param again it was asked for: there is no better copy */
  #take(message: Message, again: boolean): void {
    const { ok, whole } = this.#effects.apply(message.payload);
    if (!ok) {
      this.#unreadable(message, again);
      return;
    }
    this.#next = message.sequence + 1;
    this.#time = message.time;
    if (whole) this.#whole = true;
    if (this.#asked === undefined) this.#settle();
  }

  /** It may have been hurt on the way: the engine's own copy is asked for. */
  #unreadable(message: Message, again: boolean): void {
    this.counts.garbage += 1;
    if (!again && this.#next !== undefined && this.#mayAsk()) {
      this.#replay("gap");
      return;
    }
    this.#lose("garbage");
    this.#next = message.sequence + 1;
    this.#time = message.time;
  }

  /** The first answer is the message that was applied last, if it comes from the same publisher and is still kept. */
  #isSame({ sequence, time }: Message): boolean {
    const last = (this.#next ?? 0) - 1;
    return last < 0 || sequence !== last || time === this.#time;
  }

  #beginAnew(): void {
    this.#restarted();
    this.#replay("connected");
  }

  #restarted(): void {
    this.counts.restarts += 1;
    this.#forget();
  }

  #mayAsk(): boolean {
    return this.#replays && this.#attempts < this.#limits.attempts;
  }

  #replay(cause: "gap" | "connected"): void {
    if (cause === "gap") this.#attempts += 1;
    this.#become("replaying", cause);
    this.#ask("missing");
  }

  /** From the message that was applied last, which shows whether it is the same publisher. */
  #ask(why: Why): void {
    this.#asked = { why, answered: false };
    this.#effects.replay(why === "anew" ? 0 : Math.max(0, (this.#next ?? 0) - 1));
  }

  /** Beyond the bound it is let go: one more gap, to be asked for later. */
  #wait({ sequence, time, payload }: Message): void {
    if (this.#waiting.length >= this.#limits.waiting || this.#waitingBytes >= this.#limits.waitingBytes) return;
    this.#waiting.push({ sequence, time, payload: payload.slice() });
    this.#waitingBytes += payload.length;
  }

  /** What came meanwhile; most of it was in the replay too. */
  #drain(): void {
    const waiting = this.#waiting;
    this.#forgetWaiting();
    for (const message of waiting)
      if (this.#asked !== undefined) this.#wait(message);
      else if (message.sequence >= (this.#next ?? 0)) this.#inOrder(message);
    if (this.#asked === undefined) this.#attempts = 0;
  }

  #forgetWaiting(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #lose(cause: "lost" | "garbage"): void {
    this.counts.lost += 1;
    this.#lostAs = cause;
    this.#forget();
    if (this.#asked !== undefined) return;
    this.#attempts = 0;
    this.#become("blind", cause);
  }

  #forget(): void {
    this.#whole = false;
    this.#next = undefined;
    this.#time = -Infinity;
    this.#effects.clear();
  }

  #settle(): void {
    if (this.#whole) this.#become("live", "complete");
    else this.#become("blind", this.#lostAs);
  }

  #become(state: StreamState, cause: StreamCause): void {
    this.#state = state;
    this.#cause = cause;
  }
}
