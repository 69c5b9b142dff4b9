/**
 * What is to be written to a peer that may not read. While something waits, nothing is read from the peer either, so
 * memory stays bounded by what it sent already; a peer that takes nothing for long is given up.
 *
 * Parts go out one by one: written all at once they would count as unsent until the last byte of all of them left.
 */
import type { Cancel, Timers } from "../../ports.ts";

/** A peer that took nothing of what was written for so long is gone. */
export const STALLED_MS = 60_000;

const EMPTY = new Uint8Array(0);

/** What it needs of a stream. */
export interface Outlet {
  readonly destroyed: boolean;
  readonly writableEnded: boolean;
  readonly writableNeedDrain: boolean;
  readonly writableLength: number;
  write(part: Uint8Array): unknown;
  end(): unknown;
  pause(): unknown;
  resume(): unknown;
  isPaused(): boolean;
  on(event: "drain" | "close", listener: () => void): unknown;
}

export class Outbox {
  readonly #stream: Outlet;
  readonly #timers: Timers;
  readonly #giveUp: () => void;
  #waiting: Uint8Array[] = [];
  #next = 0;
  #bytes = 0;
  #ending = false;
  #unwatch: Cancel | undefined;

  constructor(stream: Outlet, timers: Timers, giveUp: () => void) {
    this.#stream = stream;
    this.#timers = timers;
    this.#giveUp = giveUp;
    stream.on("drain", () => this.#pump());
    stream.on("close", () => this.#unwatch?.());
  }

  /** Bytes that wait for the peer. */
  get unsent(): number {
    return this.#bytes + (this.#stream.writableNeedDrain ? this.#stream.writableLength : 0);
  }

  send(parts: readonly Uint8Array[]): void {
    if (this.#ending || this.#stream.destroyed) return;
    for (const part of parts) {
      this.#waiting.push(part);
      this.#bytes += part.length;
    }
    this.#pump();
  }

  /** Nothing more will be sent. */
  end(): void {
    this.#ending = true;
    this.#pump();
  }

  #pump(): void {
    if (this.#stream.destroyed || this.#stream.writableEnded) return;
    while (this.#next < this.#waiting.length && !this.#stream.writableNeedDrain) {
      const part = this.#waiting[this.#next++] ?? EMPTY;
      this.#bytes -= part.length;
      this.#stream.write(part);
    }
    if (this.#next < this.#waiting.length || this.#stream.writableNeedDrain) this.#hold();
    else this.#flow();
  }

  /** Everything is with the peer, or on its way. */
  #flow(): void {
    this.#waiting = [];
    this.#next = 0;
    this.#unwatch?.();
    this.#unwatch = undefined;
    if (this.#ending) this.#stream.end();
    if (this.#stream.isPaused()) this.#stream.resume();
  }

  #hold(): void {
    this.#stream.pause();
    if (this.#unwatch === undefined) this.#watch(this.unsent);
  }

  #watch(unsent: number): void {
    this.#unwatch = this.#timers.after(STALLED_MS, () => {
      if (this.unsent < unsent) this.#watch(this.unsent);
      else this.#giveUp();
    });
  }
}
