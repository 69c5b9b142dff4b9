/**
 * HTTP towards the API server: JSON in, JSON out, lines of a watch. Every answer is bounded, every failure is a
 * KubeError. It knows paths and bytes only; what they mean is said in `client.ts` and `reflector.ts`.
 */
import { request as httpRequest, type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import type { Socket } from "node:net";
import { KubeError } from "../kinds/kube-error.ts";
import { isObject } from "../kinds/kube.ts";

export interface Call {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** As `/api/v1/namespaces/default/pods`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
  /** Told the beginning of a good answer before all of it is decoded: what is asked for then is on its way meanwhile. */
  readonly early?: (beginning: string) => void;
  /**
   * Asked once a connection stands, as the last thing before the first byte leaves; false: nothing is sent, and the call
   * fails with `Withheld`. Whatever was asked before may be seconds old: a connection had to be made, a token to be read.
   */
  readonly mayLeave?: () => boolean;
}

export interface Transport {
  /** The decoded answer. Throws a KubeError for a status of 400 and above, and where no whole answer came in time. */
  call(call: Call): Promise<unknown>;
  /**
   * The lines of an answer that has no end of its own; `opened` is called when its head has come. Ends when the server
   * ends it; throws a KubeError otherwise.
   */
  lines(call: Call, opened?: () => void): AsyncIterable<string>;
  close(): void;
}

/** Where to, and with which credentials; asked for every call, since tokens and certificates are renewed. */
export interface Connection {
  readonly server: URL;
  readonly options: Omit<RequestOptions, "headers"> & { headers?: OutgoingHttpHeaders };
}

export interface TransportOptions {
  readonly connect: () => Promise<Connection>;
  readonly close?: () => void;
  /** Deadline of `call`, in milliseconds. */
  readonly timeoutMs: number;
  /** Told the server's own time with every answer to `call`, in milliseconds since the Unix epoch. */
  readonly onDate?: (serverMs: number) => void;
}

/** A page of 500 objects is some 10 MiB; etcd allows 1.5 MiB for one. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;
/** Of a list its metadata come first, where the server writes fields in the order of its types. */
const EARLY_BYTES = 1024;

export function createTransport(options: TransportOptions): Transport {
  return {
    call: (call) => timed(call, options),
    lines: (call, opened) => streamLines(call, options, opened),
    close: () => options.close?.(),
  };
}

async function timed(call: Call, options: TransportOptions): Promise<unknown> {
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const signal = call.signal === undefined ? deadline : AbortSignal.any([deadline, call.signal]);
  try {
    const answer = await open({ ...call, signal }, options);
    tellDate(answer, options);
    const body = await readAll(answer);
    if (isFailure(answer)) throw failureOf(answer, body);
    if (call.early !== undefined) await tellEarly(body, call.early);
    return parse(body);
  } catch (error) {
    throw named(error, call, deadline.aborted ? "Timeout" : "Unreachable");
  }
}

/** Decoding holds the thread: what is asked for now leaves in the turn before it. */
function tellEarly(body: Buffer, early: (beginning: string) => void): Promise<void> {
  early(body.toString("latin1", 0, EARLY_BYTES));
  return new Promise((resolve) => setImmediate(resolve));
}

/** Header `Date`, to the second (RFC 9110, 6.6.1). */
function tellDate({ headers }: IncomingMessage, { onDate }: TransportOptions): void {
  const serverMs = Date.parse(headers.date ?? "");
  if (!Number.isNaN(serverMs)) onDate?.(serverMs);
}

async function* streamLines(
  call: Call,
  options: TransportOptions,
  opened: () => void = () => undefined,
): AsyncGenerator<string, void> {
  try {
    const answer = await open(call, options);
    if (isFailure(answer)) throw failureOf(answer, await readAll(answer));
    opened();
    yield* splitLines(answer);
  } catch (error) {
    throw named(error, call, "Unreachable");
  }
}

const isFailure = (answer: IncomingMessage): boolean => (answer.statusCode ?? 0) >= 300;

async function open(call: Call, options: TransportOptions): Promise<IncomingMessage> {
  const connection = await options.connect();
  try {
    return await send(call, connection);
  } catch (error) {
    // The server may close a kept-alive connection just as we use it; nothing is lost by reading again.
    if (call.method === "GET" && (error as Stale).stale === true) return send(call, connection);
    throw error;
  }
}

interface Stale extends Error {
  stale?: boolean;
}

function send(call: Call, { server, options }: Connection): Promise<IncomingMessage> {
  const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
  const start = server.protocol === "http:" ? httpRequest : httpsRequest;
  return new Promise((resolve, reject) => {
    const request = start(urlOf(server, call), {
      ...options,
      method: call.method,
      headers: { ...options.headers, ...headersOf(call, body) },
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    request.once("response", resolve);
    request.once("error", (error: Stale) => {
      error.stale = request.reusedSocket && (error as NodeJS.ErrnoException).code === "ECONNRESET";
      reject(error);
    });
    if (call.mayLeave === undefined) request.end(body);
    else onConnection(request, () => (call.mayLeave?.() === true ? request.end(body) : request.destroy(withheld())));
  });
}

/** Of Node's TLS sockets: true until the handshake is over. */
type Connecting = Socket & { readonly secureConnecting?: boolean };

/** Once the connection stands; a request that fails before is told so by its own error. */
function onConnection(request: ClientRequest, go: () => void): void {
  request.once("socket", (socket: Connecting) => {
    if (socket.secureConnecting === true) socket.once("secureConnect", go);
    else if (socket.connecting) socket.once("connect", go);
    else go();
  });
}

const withheld = (): KubeError =>
  new KubeError({ status: 0, reason: "Withheld", message: "not sent: who writes it leads no more" });

const headersOf = (call: Call, body: Buffer | undefined): Record<string, string | number> => ({
  accept: "application/json",
  "user-agent": "tandem",
  ...(body === undefined
    ? {}
    : { "content-type": call.contentType ?? "application/json", "content-length": body.length }),
});

function urlOf(server: URL, call: Call): URL {
  const url = new URL(server);
  url.pathname = server.pathname.replace(/\/$/, "") + call.path;
  for (const [key, value] of Object.entries(call.query ?? {}))
    if (value !== undefined) url.searchParams.set(key, value);
  return url;
}

async function readAll(answer: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw malformed(`answer longer than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Splits at newline bytes, so that a character cut by a chunk stays whole. A cut last line is dropped. */
async function* splitLines(answer: IncomingMessage): AsyncGenerator<string, void> {
  let rest: Buffer[] = [];
  let held = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
      const line = Buffer.concat([...rest, chunk.subarray(from, at)]).toString("utf8");
      [rest, held, from] = [[], 0, at + 1];
      if (line !== "") yield line;
    }
    held += chunk.length - from;
    if (held > MAX_LINE_BYTES) throw malformed(`watch line longer than ${MAX_LINE_BYTES} bytes`);
    if (from < chunk.length) rest.push(chunk.subarray(from));
  }
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8")) as unknown;
  } catch {
    throw malformed("the answer is not JSON");
  }
}

export const malformed = (message: string): KubeError => new KubeError({ status: 0, reason: "Malformed", message });

/** A `Status` object where the server sent one; else the status line with the beginning of the text. */
function failureOf(answer: IncomingMessage, body: Buffer): KubeError {
  const status = answer.statusCode ?? 0;
  const text = body.toString("utf8");
  const decoded = statusObject(text);
  return new KubeError({
    status,
    reason: decoded.reason ?? answer.statusMessage ?? "",
    message: decoded.message ?? `${status} ${text.slice(0, 200).trim()}`,
    ...retryAfter(answer),
  });
}

/** Seconds, as the API server writes it; never a date (RFC 9110, 10.2.3). */
function retryAfter({ headers }: IncomingMessage): { retryAfterMs?: number } {
  const seconds = Number(headers["retry-after"]);
  return Number.isFinite(seconds) && seconds > 0 ? { retryAfterMs: seconds * 1000 } : {};
}

function statusObject(text: string): { reason?: string; message?: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (!isObject(value)) return {};
    const { reason, message } = value;
    return {
      ...(typeof reason === "string" && reason !== "" ? { reason } : {}),
      ...(typeof message === "string" && message !== "" ? { message } : {}),
    };
  } catch {
    return {};
  }
}

function named(error: unknown, call: Call, reason: string): KubeError {
  const prefix = `${call.method} ${call.path}`;
  if (error instanceof KubeError) {
    const { status, reason, retryAfterMs } = error;
    const message = `${prefix}: ${error.message}`;
    return new KubeError({ status, reason, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
  }
  const aborted = call.signal?.aborted === true;
  const message = `${prefix}: ${aborted ? "aborted" : (error as Error).message}`;
  return new KubeError({ status: 0, reason: aborted ? "Aborted" : reason, message });
}
