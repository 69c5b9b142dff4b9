/** Listens for HTTP/2 connections, over plain TCP or TLS, and carries bytes between sockets and `Connection`s. */
import { createServer as createPlain, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createSecure, type SecureContextOptions, type TLSSocket, type TlsOptions } from "node:tls";
import type { Cancel, Clock, Log, Timers } from "../../ports.ts";
import type { HeaderList } from "../headers.ts";
import { Connection } from "./connection.ts";
import { CODE, ConnectionError } from "./frames.ts";
import type { Limits } from "./limits.ts";
import type { OpenStream } from "./stream.ts";

/** PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface Tls {
  readonly pair: KeyPair;
  /** Authorities of client certificates; without them any client is taken. */
  readonly clientCa?: string;
}

export interface Http2Options {
  readonly limits: Limits;
  readonly maxConnections: number;
  readonly tls?: Tls;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly opened: (stream: OpenStream, headers: HeaderList) => void;
}

export interface Http2Server {
  /** `host:port` it really listens on. */
  readonly address: string;
  /** A new key pair or authority, for the connections to come. */
  secure(tls: Tls): void;
  /** No new streams (GOAWAY); resolves when running ones are done, or after `graceMs` cuts them. */
  stop(graceMs: number): Promise<void>;
}

/** How often a connection is looked at. Until the first time it must have sent its preface and its SETTINGS. */
const WATCH_MS = 10_000;
/** A connection that was silent so many times is asked for a sign of life; after so many more it is ended. */
const SILENT_TIMES = 3;
/** A read this long may have more behind it; of TLS it is a whole record. */
const READ_BYTES = 16_384;
/** To pause after each of them costs 0.2 ms of processor time a request, and tens of milliseconds at p90. */
const MOST_FULL_READS = 8;
/** A TLS handshake takes no longer. */
const HANDSHAKE_MS = 10_000;
/** What was said last gets so long to reach the peer; then the socket is closed whether the peer ends its side or not. */
const LINGER_MS = 1000;

/** Of every context that is set: whether certificates are asked for belongs to the server, and stays. */
const secureOptions = ({ pair, clientCa }: Tls): SecureContextOptions => ({
  cert: pair.certificate,
  key: pair.key,
  minVersion: "TLSv1.2",
  ...(clientCa === undefined ? {} : { ca: clientCa }),
});

export async function startHttp2Server(
  listen: { readonly host: string; readonly port: number },
  options: Http2Options,
): Promise<Http2Server> {
  const { tls, log } = options;
  const sockets = new Set<Socket>();
  const links = new Set<Link>();
  const accept = (socket: Socket): void => {
    const link = new Link(socket, options);
    links.add(link);
    socket.once("close", () => links.delete(link));
    // A handshake that was under way when the server was told to stop.
    if (!server.listening) link.drain();
  };
  const secure = tls === undefined ? undefined : createSecure(handshakeOptions(tls));
  const server: Server = secure ?? createPlain();
  server.maxConnections = options.maxConnections;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket.setNoDelay(true));
    socket.once("close", () => sockets.delete(socket));
    if (secure === undefined) accept(socket);
  });
  secure?.on("secureConnection", (socket: TLSSocket) => {
    socket.on("error", () => undefined);
    if (socket.alpnProtocol === "h2") accept(socket);
    else socket.destroy();
  });
  secure?.on("tlsClientError", (error: Error) => log.debug("TLS handshake", { error: error.message }));
  server.on("drop", () => log.debug("connection refused: too many", { most: options.maxConnections }));
  await listening(server, listen);
  const { address, port } = server.address() as AddressInfo;
  return {
    address: `${address.includes(":") ? `[${address}]` : address}:${port}`,
    secure: (next) => secure?.setSecureContext(secureOptions(next)),
    stop: (graceMs) => stop({ server, links, sockets, timers: options.timers }, graceMs),
  };
}

const handshakeOptions = (tls: Tls): TlsOptions => ({
  ...secureOptions(tls),
  ALPNProtocols: ["h2"],
  handshakeTimeout: HANDSHAKE_MS,
  ...(tls.clientCa === undefined ? {} : { requestCert: true, rejectUnauthorized: true }),
});

const listening = (server: Server, listen: { host: string; port: number }): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, () => {
      server.off("error", reject);
      resolve();
    });
  });

interface Running {
  readonly server: Server;
  readonly links: ReadonlySet<Link>;
  /** Of all connections, those in a TLS handshake among them. */
  readonly sockets: ReadonlySet<Socket>;
  readonly timers: Timers;
}

function stop({ server, links, sockets, timers }: Running, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const cancel = timers.after(graceMs, () => {
      for (const link of links) link.cut();
      for (const socket of sockets) socket.destroy();
    });
    server.close(() => {
      cancel();
      resolve();
    });
    for (const link of links) link.drain();
  });
}

/** One socket and its connection. */
class Link {
  readonly #socket: Socket;
  readonly #connection: Connection;
  readonly #timers: Timers;
  readonly #log: Log;
  readonly #unwatch: Cancel;
  /** Times that nothing was heard since the last word. */
  #silent = 0;
  #heard = false;
  #unlinger: Cancel | undefined;
  /** The connection wants no bytes. */
  #held = false;
  #yielding = false;
  /** Full reads since the last one that was not. */
  #full = 0;

  constructor(socket: Socket, { limits, clock, timers, log, opened }: Http2Options) {
    this.#socket = socket;
    this.#timers = timers;
    this.#log = log;
    this.#connection = new Connection({
      ...{ limits, clock, timers, opened },
      wire: {
        write: (parts) => this.#write(parts),
        pause: () => this.#hold(true),
        resume: () => this.#hold(false),
        end: () => this.#end(),
      },
      // Behind what was promised in this turn: replies of many streams then leave in one write.
      defer: (task) => queueMicrotask(() => process.nextTick(task)),
      refused: ({ code, message }) => log.warn("HTTP/2 connection ended", { code, why: message }),
    });
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("drain", () => this.#connection.writable());
    socket.on("error", (error) => log.debug("HTTP/2 connection", { error: error.message }));
    socket.once("close", () => this.#gone());
    // A peer that has ended its side will send no requests, and takes no answers.
    socket.once("end", () => {
      this.#connection.gone();
      this.#end();
    });
    this.#unwatch = timers.every(WATCH_MS, () => this.#watch());
  }

  drain(): void {
    this.#connection.drain();
  }

  /** At once: whoever waits for the server to stop finds nothing running. */
  cut(): void {
    this.#connection.gone();
    this.#socket.destroy();
  }

  /** A bug met by one peer is not the end of the others. */
  #receive(chunk: Buffer): void {
    this.#heard = true;
    try {
      this.#connection.receive(chunk);
    } catch (error) {
      this.#log.error("HTTP/2 stream failed", { error: error instanceof Error ? error.stack : String(error) });
      this.#connection.refuse(new ConnectionError(CODE.internal, "a bug"));
    }
    this.#turn(chunk.length);
  }

  #hold(held: boolean): void {
    this.#held = held;
    if (held) this.#socket.pause();
    else if (!this.#yielding) this.#socket.resume();
  }

  /** Full reads come one behind another in a turn, up to 32 of them: 2 MiB of requests before anybody else's. */
  #turn(bytes: number): void {
    this.#full = bytes >= READ_BYTES ? this.#full + 1 : 0;
    if (this.#full < MOST_FULL_READS) return;
    this.#full = 0;
    this.#yield();
  }

  /** The other connections come first. */
  #yield(): void {
    if (this.#yielding) return;
    this.#yielding = true;
    this.#socket.pause();
    setImmediate(() => {
      this.#yielding = false;
      if (!this.#held) this.#socket.resume();
    });
  }

  #write(parts: readonly Uint8Array[]): boolean {
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) return this.#socket.write(first);
    this.#socket.cork();
    let room = true;
    for (const part of parts) room = this.#socket.write(part);
    this.#socket.uncork();
    return room;
  }

  /** What still comes is read and dropped: a close with unread bytes would take back what we said last. */
  #end(): void {
    if (this.#unlinger !== undefined) return;
    this.#socket.end();
    this.#hold(false);
    this.#unlinger = this.#timers.after(LINGER_MS, () => this.#socket.destroy());
  }

  #watch(): void {
    this.#silent = this.#heard ? 0 : this.#silent + 1;
    this.#heard = false;
    if (!this.#connection.greeted || this.#silent >= 2 * SILENT_TIMES) this.#socket.destroy();
    else if (this.#silent === SILENT_TIMES) this.#connection.ping();
    if (this.#silent > 0) this.#connection.rest();
  }

  #gone(): void {
    this.#unwatch();
    this.#unlinger?.();
    this.#connection.gone();
  }
}
