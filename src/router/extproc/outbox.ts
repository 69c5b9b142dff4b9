/**
 * What is to be written to a peer that may not read. While something waits, nothing is read from the peer either, so
 * memory stays bounded by what it sent already; a peer that takes nothing for long is given up.
 */
import type { Cancel, Timers } from "../../ports.ts";

/** A peer that took nothing of what was written for so long is gone. */
export const STALLED_MS = 60_000;

/** What it needs of a stream. */
export interface Outlet {
  /** Bytes that wait for the peer. */
  readonly unsent: number;
  write(part: Uint8Array): void;
  end(trailers: Buffer): void;
  pause(): void;
  resume(): void;
}

/** Whose stream it is. */
export interface Owner {
  /** The peer takes nothing. */
  giveUp(): void;
}

export class Outbox {
  readonly #stream: Outlet;
  readonly #timers: Timers;
  readonly #owner: Owner;
  #unwatch: Cancel | undefined;

  constructor(stream: Outlet, timers: Timers, owner: Owner) {
    this.#stream = stream;
    this.#timers = timers;
    this.#owner = owner;
  }

  /** Bytes that wait for the peer. */
  get unsent(): number {
    return this.#stream.unsent;
  }

  send(parts: readonly Uint8Array[]): void {
    for (const part of parts) this.#stream.write(part);
    if (this.unsent > 0 && this.#unwatch === undefined) this.#hold();
  }

  /** Nothing more will be sent. */
  end(trailers: Buffer): void {
    this.#stream.end(trailers);
  }

  /** Everything is with the peer, or on its way. */
  drained(): void {
    this.closed();
    this.#stream.resume();
  }

  closed(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
  }

  #hold(): void {
    this.#stream.pause();
    this.#watch(this.unsent);
  }

  #watch(unsent: number): void {
    this.#unwatch = this.#timers.after(STALLED_MS, () => {
      if (this.unsent < unsent) this.#watch(this.unsent);
      else this.#owner.giveUp();
    });
  }
}
