/**
 * HTTP towards engines: undici behind the EngineClient port. Keep-alive connections, a deadline on every call, answers
 * bounded; every ending is told apart by whether the engine may have begun. TLS and credentials may change while it runs.
 */
import { Agent, errors, type Dispatcher } from "undici";
import type { EngineClient, EngineReply, EngineRequest } from "../../ports.ts";

/** kv_transfer_params of a 128 k prompt in 16-token blocks are about 100 KB; this is room for ten times that. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
const CONNECT_TIMEOUT_MS = 1000;

/** Nothing of the request can have reached the engine. */
const NOTHING_SENT = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "EADDRNOTAVAIL",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** No handshake: the certificate does not hold (OpenSSL's X509_V_ERR names), or one side closed with an alert. */
const NO_HANDSHAKE =
  /^(ERR_SSL_|ERR_TLS_|EPROTO$|CERT_|SELF_SIGNED_CERT|DEPTH_ZERO_SELF|UNABLE_TO_|INVALID_CA$|INVALID_PURPOSE$|HOSTNAME_MISMATCH$)/;

/** How engines are reached, and what the router shows them. */
export interface EngineAccess {
  readonly tls?: EngineTls;
  /** Name, in lower case, and value; it takes the place of a client's of the same name. */
  readonly credential?: readonly [name: string, value: string];
}

/** PEM. What is absent is the system's, the address of each engine, or nothing. */
export interface EngineTls {
  readonly ca?: string;
  readonly serverName?: string;
  readonly certificate?: string;
  readonly key?: string;
}

const PLAIN: EngineAccess = {};

export interface ClosableEngineClient extends EngineClient {
  /** Of the calls to come; those under way end as they began. */
  use(access: EngineAccess): void;
  close(): Promise<void>;
}

/** What calls go through now. */
interface Way {
  readonly access: EngineAccess;
  readonly agent: Agent;
  readonly told: Dispatcher;
}

export function createEngineClient(access: EngineAccess = {}): ClosableEngineClient {
  let way = wayOf(access);
  const ending = new Set<Agent>();
  return {
    send: (request) => send(way, request),
    use: (next) => {
      const { agent } = way;
      way = wayOf(next);
      ending.add(agent);
      void agent.close().finally(() => ending.delete(agent));
    },
    close: async () => {
      await Promise.all([way.agent, ...ending].map((agent) => agent.destroy()));
    },
  };
}

const agentOf = ({ tls = {} }: EngineAccess): Agent =>
  new Agent({
    connect: {
      timeout: CONNECT_TIMEOUT_MS,
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
      ...(tls.serverName === undefined ? {} : { servername: tls.serverName }),
      ...(tls.certificate === undefined ? {} : { cert: tls.certificate }),
      ...(tls.key === undefined ? {} : { key: tls.key }),
    },
    // A connection for each call, so that what is lost with one is one call.
    allowH2: false,
    connections: 512,
    pipelining: 1,
    keepAliveTimeout: 4000,
    headersTimeout: 0,
    bodyTimeout: 0,
  });

function wayOf(access: EngineAccess): Way {
  const agent = agentOf(access);
  return { access, agent, told: agent.compose(tellSent) };
}

interface Told {
  readonly onSent?: (() => void) | undefined;
}

/** undici starts a request when it writes it to a socket that is connected. */
const telling = (handler: Dispatcher.DispatchHandler, onSent: () => void): Dispatcher.DispatchHandler => ({
  onRequestStart: (...given) => {
    handler.onRequestStart?.(...given);
    onSent();
  },
  onRequestUpgrade: (...given) => handler.onRequestUpgrade?.(...given),
  onResponseStart: (...given) => handler.onResponseStart?.(...given),
  onResponseData: (...given) => handler.onResponseData?.(...given),
  onResponseEnd: (...given) => handler.onResponseEnd?.(...given),
  onResponseError: (...given) => handler.onResponseError?.(...given),
});

const tellSent: Dispatcher.DispatcherComposeInterceptor = (dispatch) => (options, handler) => {
  const { onSent } = options as Told;
  return dispatch(options, onSent === undefined ? handler : telling(handler, onSent));
};

async function send({ told, access }: Way, request: EngineRequest): Promise<EngineReply> {
  const deadline = AbortSignal.timeout(request.timeoutMs);
  const signal = request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal]);
  const { tls, credential } = request.plain === true ? PLAIN : access;
  try {
    const options: Parameters<Dispatcher["request"]>[0] & Told = {
      onSent: request.onSent,
      origin: `${tls === undefined ? "http" : "https"}://${request.address}`,
      method: request.method,
      path: request.path,
      headers: { ...request.headers, ...(credential === undefined ? {} : { [credential[0]]: credential[1] }) },
      body:
        request.body === undefined
          ? null
          : Buffer.from(request.body.buffer, request.body.byteOffset, request.body.byteLength),
      signal,
    };
    const response = await told.request(options);
    if (response.statusCode === 401 && credential !== undefined) {
      await response.body.dump();
      return { kind: "refused", detail: `${request.address}: the engine does not take the router's credential` };
    }
    return {
      kind: "answer",
      status: response.statusCode,
      headers: flat(response.headers),
      body: await collect(response.body),
    };
  } catch (error) {
    return ending(error, request, deadline);
  }
}

function ending(error: unknown, request: EngineRequest, deadline: AbortSignal): EngineReply {
  const detail = `${request.address}: ${error instanceof Error ? error.message : String(error)}`;
  if (request.signal?.aborted === true) return { kind: "aborted", detail };
  if (deadline.aborted) return { kind: "late", detail: `${request.address}: no answer within ${request.timeoutMs} ms` };
  return { kind: isRefused(error) ? "refused" : "lost", detail };
}

function isRefused(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.every(isRefused);
  const code = error instanceof errors.UndiciError ? error.code : (error as NodeJS.ErrnoException).code;
  return code !== undefined && (NOTHING_SENT.has(code) || NO_HANDSHAKE.test(code));
}

async function collect(body: Dispatcher.ResponseData["body"]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) {
      body.destroy();
      throw new Error(`answer larger than ${MAX_ANSWER_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const flat = (headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : (value ?? "")]),
  );
