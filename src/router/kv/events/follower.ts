/**
 * Follows one stream: subscribes, asks again, dials anew when a connection ends. Decides when; the sockets are given.
 *
 * What is dialled and is not there is dialled less and less often: a second, then twice as long each time. An engine of
 * which nobody said that it publishes at all is left alone for longer.
 */
import type { Cancel, Clock, Random, Timers } from "../../../ports.ts";
import { replayRequest } from "./framing.ts";
import type { EventTarget } from "./messages.ts";
import type { EventStream } from "./stream.ts";

/** A connection as a follower uses it; `client.ts` has the real one. */
export interface Wire {
  send(bytes: Uint8Array): void;
  close(): void;
}

export interface WireEvents {
  readonly ready: () => void;
  readonly message: (bytes: Uint8Array, frames: Int32Array, count: number) => void;
  readonly closed: (why: string) => void;
  readonly pace: (bytes: number) => number;
}

export type Dial = (
  place: { readonly host: string; readonly port: number; readonly type: "SUB" | "DEALER" },
  events: WireEvents,
) => Wire;

export interface FollowerPorts {
  readonly dial: Dial;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /** Waits for a turn among the replays that run; what is returned gives it back. */
  readonly turn: (begin: () => void) => Cancel;
  readonly pace: (follower: Follower, bytes: number) => number;
}

const FIRST_PAUSE_MS = 1000;
/** A thousand engines that are away are 200 connections a second, refused; one that is back is followed within seconds. */
const LONGEST_PAUSE_MS = 5000;
const LONGEST_GUESS_MS = 300_000;
const QUIET_LOOKS = 10;
/** An engine sends what it keeps without a pause; it does so between two steps, which take less than a second. */
const REPLAY_SILENCE_MS = 5000;
/** For all that it sends again: 10,000 messages of 512 blocks are 26 s of work. Others wait for their turn meanwhile. */
const REPLAY_MS = 60_000;
/** Before it is asked again after a failure; then four times as long. */
const REPLAY_PAUSE_MS = 250;
const LONGEST_REPLAY_PAUSES = 3;
/** 30 s: who gave no answer is asked once more. */
const RETRY_LOOKS = 150;

export class Follower {
  readonly target: EventTarget;
  readonly rank: number;
  readonly stream: EventStream;
  readonly #ports: FollowerPorts;
  #subscription: Wire | undefined;
  #replay: Wire | undefined;
  #giveTurn: Cancel = () => undefined;
  #cancelSilence: Cancel = () => undefined;
  #cancelReplay: Cancel = () => undefined;
  #cancelPause: Cancel = () => undefined;
  #failures = 0;
  /** Replays in a row that gave no answer, or none to the end. */
  #unanswered = 0;
  #looks = 0;
  /** Messages, and for how many looks there were no more. */
  #heard = 0;
  #quiet = 0;
  /** Blocks that it may still bring now; see `pace.ts`. */
  allowance = 0;
  refilledAt = 0;

  constructor(
    target: EventTarget,
    rank: number,
    make: (ask: (from: number) => void) => EventStream,
    ports: FollowerPorts,
  ) {
    this.target = target;
    this.rank = rank;
    this.#ports = ports;
    this.stream = make((from) => this.#ask(from));
    this.#dial();
  }

  stop(): void {
    this.#cancelPause();
    this.#subscription?.close();
    this.#endReplay();
    this.stream.end();
  }

  /** To be called five times a second: where nothing came for two seconds, it is asked whether all had come before. */
  look(): void {
    const { heard } = this.stream;
    this.#quiet = heard === this.#heard ? this.#quiet + 1 : 0;
    this.#heard = heard;
    if (this.#quiet === QUIET_LOOKS) this.stream.sequence.confirm();
    this.#looks += 1;
    if (this.#looks % RETRY_LOOKS !== 0) return;
    this.#unanswered = 0;
    this.stream.sequence.retry();
  }

  #dial(): void {
    const { host, port } = this.target;
    let open = false;
    this.#subscription = this.#ports.dial(
      { host, port: port + this.rank, type: "SUB" },
      {
        ready: () => {
          open = true;
          this.#failures = this.#unanswered = 0;
          this.stream.sequence.connected();
        },
        message: (bytes, frames, count) => this.stream.live(bytes, frames, count),
        closed: () => this.#closed(open),
        pace: (bytes) => this.#ports.pace(this, bytes),
      },
    );
  }

  #closed(wasOpen: boolean): void {
    this.#endReplay();
    if (wasOpen) this.stream.sequence.disconnected();
    const longest = this.target.guessed ? LONGEST_GUESS_MS : LONGEST_PAUSE_MS;
    const pause = Math.min(longest, FIRST_PAUSE_MS * 2 ** Math.min(20, this.#failures));
    this.#failures += 1;
    // Not all at once after the network was away.
    const ms = pause * (0.5 + this.#ports.random.next());
    this.#cancelPause = this.#ports.timers.after(ms, () => this.#dial());
  }

  /** Of what was asked for before nothing more is heard. */
  #ask(from: number): void {
    this.#endReplay();
    const begin = (): void => void (this.#giveTurn = this.#ports.turn(() => this.#dialReplay(from)));
    if (this.#unanswered === 0) {
      begin();
      return;
    }
    const pauses = Math.min(this.#unanswered, LONGEST_REPLAY_PAUSES);
    this.#cancelReplay = this.#ports.timers.after(REPLAY_PAUSE_MS * 4 ** (pauses - 1), begin);
  }

  #dialReplay(from: number): void {
    const { host, replayPort = 0 } = this.target;
    this.#hush();
    this.#cancelReplay = this.#ports.timers.after(REPLAY_MS, () => this.#replayFailed());
    const wire = this.#ports.dial(
      { host, port: replayPort + this.rank, type: "DEALER" },
      {
        ready: () => wire.send(replayRequest(from)),
        message: (bytes, frames, count) => this.#replayed(wire, bytes, { frames, count }),
        closed: () => this.#replayFailed(),
        pace: (bytes) => {
          this.#hush();
          return this.#ports.pace(this, bytes);
        },
      },
    );
    this.#replay = wire;
  }

  #replayed(wire: Wire, bytes: Uint8Array, { frames, count }: { frames: Int32Array; count: number }): void {
    // The end may have begun another replay.
    if (!this.stream.replayed(bytes, frames, count) || this.#replay !== wire) return;
    this.#unanswered = 0;
    this.#endReplay();
  }

  /** The engine has so long to say the next thing. */
  #hush(): void {
    this.#cancelSilence();
    this.#cancelSilence = this.#ports.timers.after(REPLAY_SILENCE_MS, () => this.#replayFailed());
  }

  #replayFailed(): void {
    this.#endReplay();
    this.#unanswered += 1;
    this.stream.sequence.replayFailed();
  }

  #endReplay(): void {
    this.#cancelSilence();
    this.#cancelReplay();
    this.#replay?.close();
    this.#replay = undefined;
    this.#giveTurn();
    this.#giveTurn = () => undefined;
  }
}
