/** Listens for HTTP/2 connections, over plain TCP or TLS, and carries bytes between sockets and `Connection`s. */
import { createServer as createPlain, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createSecure, type TLSSocket } from "node:tls";
import type { Cancel, Clock, Log, Timers } from "../../ports.ts";
import { Connection, type Limits } from "./connection.ts";
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
  readonly opened: (stream: OpenStream) => void;
}

export interface Http2Server {
  /** `host:port` it really listens on. */
  readonly address: string;
  /** A new key pair or authority, for the connections to come. */
  secure(tls: Tls): void;
  /** No new streams (GOAWAY); resolves when running ones are done, or after `graceMs` cuts them. */
  stop(graceMs: number): Promise<void>;
}

/** A silent connection is asked for a sign of life this often; one that gives none until the next time is ended. */
const KEEPALIVE_MS = 30_000;

const secureOptions = ({ pair, clientCa }: Tls): object => ({
  cert: pair.certificate,
  key: pair.key,
  minVersion: "TLSv1.2",
  ...(clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
});

export async function startHttp2Server(
  listen: { readonly host: string; readonly port: number },
  options: Http2Options,
): Promise<Http2Server> {
  const links = new Set<Link>();
  const accept = (socket: Socket): void => {
    const link = new Link(socket, options);
    links.add(link);
    socket.once("close", () => links.delete(link));
  };
  const { tls, log } = options;
  const secure = tls === undefined ? undefined : createSecure({ ...secureOptions(tls), ALPNProtocols: ["h2"] });
  const server: Server = secure ?? createPlain({ noDelay: true });
  server.maxConnections = options.maxConnections;
  server.on(secure === undefined ? "connection" : "secureConnection", (socket: Socket) => {
    if (secure !== undefined && (socket as TLSSocket).alpnProtocol !== "h2") socket.destroy();
    else accept(socket.setNoDelay(true));
  });
  server.on("tlsClientError", (error: Error) => log.debug("TLS handshake", { error: error.message }));
  await listening(server, listen);
  const { address, port } = server.address() as AddressInfo;
  return {
    address: `${address.includes(":") ? `[${address}]` : address}:${port}`,
    secure: (next) => secure?.setSecureContext(secureOptions(next)),
    stop: (graceMs) => stop(server, links, options.timers, graceMs),
  };
}

const listening = (server: Server, listen: { host: string; port: number }): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, () => {
      server.off("error", reject);
      resolve();
    });
  });

function stop(server: Server, links: ReadonlySet<Link>, timers: Timers, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const cancel = timers.after(graceMs, () => {
      for (const link of links) link.cut();
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
  #heard = false;
  readonly #unwatch: Cancel;

  constructor(socket: Socket, { limits, clock, timers, log, opened }: Http2Options) {
    this.#socket = socket;
    this.#connection = new Connection({
      ...{ limits, clock, timers, opened },
      wire: {
        write: (parts) => this.#write(parts),
        pause: () => void socket.pause(),
        resume: () => void socket.resume(),
        end: () => void socket.end(),
      },
      // Behind what was promised in this turn: replies of many streams then leave in one write.
      defer: (task) => queueMicrotask(() => process.nextTick(task)),
      refused: ({ code, message }) => log.warn("ext_proc connection ended", { code, why: message }),
    });
    socket.on("data", (chunk: Buffer) => {
      this.#heard = true;
      this.#connection.receive(chunk);
    });
    socket.on("drain", () => this.#connection.writable());
    socket.on("error", (error) => log.debug("ext_proc connection", { error: error.message }));
    socket.once("close", () => this.#gone());
    // A peer that has ended will not hear the answers.
    socket.once("end", () => void socket.end());
    this.#unwatch = timers.every(KEEPALIVE_MS, () => this.#watch());
  }

  drain(): void {
    this.#connection.drain();
  }

  cut(): void {
    this.#socket.destroy();
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

  /** Whoever was asked and has said nothing since is gone, or was never there. */
  #asked = false;

  #watch(): void {
    if (!this.#heard && this.#asked) this.#socket.destroy();
    else if (!this.#heard) this.#connection.ping();
    this.#asked = !this.#heard;
    this.#heard = false;
  }

  #gone(): void {
    this.#unwatch();
    this.#connection.gone();
  }
}
