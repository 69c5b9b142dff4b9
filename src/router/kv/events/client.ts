/**
 * One connection to a socket of an engine. Edge: dials, shakes hands, hands on messages, and closes for good when anything
 * is wrong; whoever wants it again makes a new one.
 */
import { connect, type Socket } from "node:net";
import type { Cancel, Timers } from "../../../ports.ts";
import { greeting, ready, SUBSCRIBE_ALL, ZmtpReader, type SocketType } from "./zmtp.ts";

export interface Dialled {
  readonly host: string;
  readonly port: number;
  readonly type: SocketType;
}

export interface ConnectionEvents {
  readonly ready: () => void;
  readonly message: (bytes: Uint8Array, frames: Int32Array, count: number) => void;
  /** Told once, unless it was closed from here. `wrong`: it is there, but no such socket. */
  readonly closed: (why: "refused" | "lost" | "late" | "wrong") => void;
  /** Called after each piece that was read: milliseconds until more is read of it. */
  readonly pace: (bytes: number) => number;
}

/** From the first packet to the end of the handshake. */
const HANDSHAKE_MS = 5000;
/** A peer that went without a word is noticed by the kernel. */
const KEEPALIVE_MS = 10_000;
/** What a peer must be. */
const PEERS: Readonly<Record<SocketType, readonly string[]>> = { SUB: ["PUB", "XPUB"], DEALER: ["ROUTER", "REP"] };

/** One for all connections of the thread: what is read is dealt with before more is read. */
const BUFFER = new Uint8Array(256 * 1024);

export class Connection {
  readonly #events: ConnectionEvents;
  readonly #socket: Socket;
  readonly #type: SocketType;
  readonly #timers: Timers;
  #cancelDeadline: Cancel;
  #cancelRest: Cancel = () => undefined;
  #isOpen = false;
  #isOver = false;

  constructor({ host, port, type }: Dialled, timers: Timers, events: ConnectionEvents) {
    this.#events = events;
    this.#type = type;
    this.#timers = timers;
    const reader = new ZmtpReader({
      greeted: () => void this.#socket.write(ready(type)),
      readied: (peer) => this.#readied(peer),
      message: (bytes, frames, count) => this.#message(bytes, frames, count),
    });
    this.#cancelDeadline = timers.after(HANDSHAKE_MS, () => this.#end("late"));
    this.#socket = connect({
      ...{ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS },
      onread: { buffer: BUFFER, callback: (count, bytes) => this.#read(reader, bytes.subarray(0, count)) },
    });
    this.#socket.on("connect", () => void this.#socket.write(greeting()));
    this.#socket.on("error", () => this.#end(this.#isOpen ? "lost" : "refused"));
    this.#socket.on("close", () => this.#end(this.#isOpen ? "lost" : "refused"));
  }

  send(bytes: Uint8Array): void {
    if (!this.#isOver) this.#socket.write(bytes);
  }

  /** Nothing more is told of it. */
  close(): void {
    this.#isOver = true;
    this.#cancelDeadline();
    this.#cancelRest();
    this.#socket.destroy();
  }

  #read(reader: ZmtpReader, bytes: Uint8Array): boolean {
    if (this.#isOver) return false;
    if (reader.push(bytes) !== undefined) this.#end("wrong");
    const restMs = this.#events.pace(bytes.length);
    if (restMs <= 0) return true;
    this.#cancelRest = this.#timers.after(restMs, () => this.#socket.resume());
    return false;
  }

  #message(bytes: Uint8Array, frames: Int32Array, count: number): void {
    if (this.#isOpen && !this.#isOver) this.#events.message(bytes, frames, count);
  }

  #readied(peer: string): void {
    if (!PEERS[this.#type].includes(peer)) {
      this.#end("wrong");
      return;
    }
    this.#cancelDeadline();
    this.#isOpen = true;
    if (this.#type === "SUB") this.#socket.write(SUBSCRIBE_ALL);
    this.#events.ready();
  }

  #end(why: "refused" | "lost" | "late" | "wrong"): void {
    if (this.#isOver) return;
    this.close();
    this.#events.closed(why);
  }
}
