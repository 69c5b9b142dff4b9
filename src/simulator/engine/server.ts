/**
 * An engine on the wire: vLLM's HTTP API over one instance. Listening happens only here.
 *
 * What it never does: run a model. Texts are filler and times are the profile's; batching, caching, transfers, errors
 * and metrics behave as vLLM's do.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { PIN_PATHS } from "./client.ts";
import type { EngineFacts } from "./facts.ts";
import { newInstance, type EngineInstance, type EngineOptions, type HostPorts } from "./instance.ts";
import { parseBody, WireError, type Body } from "./fields.ts";
import { publishEvents, type EventSockets } from "./publisher.ts";
import { readGeneration, readTokenize, type GenerationKind } from "./requests.ts";
import { serve, type Reply } from "./serving.ts";
import { readIntent } from "./intents.ts";
import type { TransferIntent } from "./transfer.ts";

export type { EngineFacts } from "./facts.ts";
export type { EngineOptions, HostPorts } from "./instance.ts";

export interface RunningEngine {
  /** `ip:port` */
  readonly address: string;
  readonly engineId: string;
  /** Of the bootstrap server; 0 where there is none. */
  readonly bootstrapPort: number;
  /** Where it publishes what it caches; absent where it does not. */
  readonly events?: Omit<EventSockets, "stop">;
  /** Refuses connections at once, cuts the open ones, forgets everything. Calling it twice is harmless. */
  stop(): Promise<void>;
  facts(): EngineFacts;
}

/** Bodies are bounded far above any prompt that fits; vLLM itself has no bound. */
const MAX_BODY_BYTES = 64 * 2 ** 20;
/** Longest request id taken from a header. */
const MAX_ID_LENGTH = 256;
/** Above uvicorn's 5 s, so that a pooled connection is not cut just as a client takes it again. */
const KEEP_ALIVE_MS = 65_000;

/** Starts an engine and waits until it listens. Rejects where the address cannot be bound. */
export async function startEngine(options: EngineOptions, ports: HostPorts): Promise<RunningEngine> {
  const address = { port: options.port };
  const instance = newInstance(options, ports, () => address.port);
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    void answer(instance, request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(options.port, options.host, resolve);
  });
  address.port = (server.address() as AddressInfo).port;
  const bootstrap = await startBootstrap(instance);
  const sockets = await startEvents(instance, ports);
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
      bootstrap?.close();
      bootstrap?.closeAllConnections();
      sockets?.stop();
      instance.core.stop();
      instance.remote.stop();
      instance.pins.stop();
    });
  const { engineId } = instance.settings;
  const bootstrapPort = bootstrap === undefined ? 0 : (bootstrap.address() as AddressInfo).port;
  const events = sockets === undefined ? {} : { events: { port: sockets.port, replayPort: sockets.replayPort } };
  return {
    address: `${options.host}:${address.port}`,
    engineId,
    bootstrapPort,
    ...events,
    stop,
    facts: instance.facts,
  };
}

async function startEvents({ events, settings }: EngineInstance, ports: HostPorts): Promise<EventSockets | undefined> {
  if (events === undefined || settings.events === undefined) return undefined;
  const { port = 0, replayPort = 0 } = settings.events;
  return publishEvents(events, { ...ports, host: settings.host, port, replayPort });
}

const WITH_BOOTSTRAP: readonly string[] = ["sglang", "mooncake-bootstrap"];

/** Where decode engines, and routers, ask for the ranks of a prefill engine and find its blocks. */
async function startBootstrap(instance: EngineInstance): Promise<Server | undefined> {
  const { connector, role, host, bootstrapPort } = instance.settings;
  if (!WITH_BOOTSTRAP.includes(connector) || role === "decode") return undefined;
  const server = createServer((request, response) => void answer(instance, request, response));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(bootstrapPort, host, resolve);
  });
  return server;
}

/** One exchange; `body` reads and parses the request's body when the route wants one. */
interface Exchange {
  readonly instance: EngineInstance;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

type Handler = (exchange: Exchange) => Promise<void> | void;

const ROUTES: Readonly<Record<string, Handler>> = {
  "POST /v1/completions": (exchange) => generate("completion", exchange),
  "POST /v1/chat/completions": (exchange) => generate("chat", exchange),
  "POST /tokenize": tokenizePrompt,
  "POST /reset_prefix_cache": ({ instance, response }) => {
    instance.core.resetCache();
    response.writeHead(200).end();
  },
  "GET /v1/models": ({ instance, response }) => sendJson(response, 200, modelList(instance)),
  "GET /version": ({ response }) => sendJson(response, 200, { version: "0.26.0" }),
  "GET /health": ({ response }) => void response.writeHead(200).end(),
  "GET /ping": ({ response }) => void response.writeHead(200).end(),
  "GET /metrics": async ({ instance, response }) => {
    const page = await instance.metrics.page();
    response.writeHead(200, { "content-type": instance.metrics.contentType }).end(page);
  },
  "GET /query": ({ instance, response }) => sendJson(response, 200, rankList(instance)),
  [`POST ${PIN_PATHS.pull}`]: pullPin,
  [`POST ${PIN_PATHS.push}`]: takePush,
  [`POST ${PIN_PATHS.renew}`]: (exchange) => touchPin(exchange, (id) => exchange.instance.pins.renew(id)),
  [`POST ${PIN_PATHS.drop}`]: (exchange) => touchPin(exchange, (id) => exchange.instance.pins.drop(id)),
};

const PATHS = new Set(Object.keys(ROUTES).map((route) => route.split(" ")[1]));

async function answer(instance: EngineInstance, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    await routeOf(request)({ instance, request, response });
  } catch (error) {
    const known = error instanceof WireError ? error : new WireError(500, "InternalServerError", String(error));
    // What is left of an unread body would be taken for the next request.
    if (!request.complete) response.setHeader("connection", "close");
    sendJson(response, known.status, known.body);
  }
}

function routeOf(request: IncomingMessage): Handler {
  const path = (request.url ?? "/").split("?")[0] ?? "/";
  const handler = ROUTES[`${request.method ?? "GET"} ${path}`];
  if (handler !== undefined) return handler;
  if (PATHS.has(path)) throw new WireError(405, "Method Not Allowed", "Method Not Allowed");
  throw new WireError(404, "Not Found", "Not Found");
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  const text = JSON.stringify(value);
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
  response.writeHead(status, headers).end(text);
}

async function readBody(request: IncomingMessage): Promise<Body> {
  const type = (request.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json")
    throw new WireError(400, "Bad Request", "Unsupported Media Type: Only 'application/json' is allowed");
  const chunks: Buffer[] = [];
  let size = 0;
  // Leaving the loop must not cut the connection: the refusal still has to reach the client.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new WireError(413, "Request Entity Too Large", "The request body is too large.");
    chunks.push(chunk);
  }
  return parseBody(Buffer.concat(chunks).toString("utf8"));
}

async function generate(kind: GenerationKind, { instance, request, response }: Exchange): Promise<void> {
  const body = await readBody(request);
  const { connector, role } = instance.settings;
  const given = body["request_id"];
  const id = requestId(request) ?? (typeof given === "string" ? given : instance.serving.random.id());
  const transfer = onRank(instance, readIntent(body, { connector, role, id }), request);
  try {
    const decoded = readGeneration(kind, body, instance.settings, transfer);
    if (transfer.kind === "broken") instance.counts.transferFailures.broken += 1;
    instance.counts.requests += 1;
    const abort = serve(instance.serving, decoded, id, replyOver(response));
    response.once("close", abort);
    if (response.destroyed) abort();
  } catch (error) {
    // A refused decode leg must not leave the other engine's blocks pinned until their lease ends.
    if (transfer.kind === "decode" && transfer.source.waits !== true) instance.remote.drop(transfer.source);
    throw error;
  }
}

/** Blocks of several ranks are told apart by the rank's engine id. */
function onRank({ settings }: EngineInstance, transfer: TransferIntent, request: IncomingMessage): TransferIntent {
  if (transfer.kind !== "prefill" || transfer.meeting === undefined || settings.ranks === 1) return transfer;
  const rank = Number(request.headers["x-data-parallel-rank"] ?? 0);
  return { ...transfer, meeting: { ...transfer.meeting, id: `${rankId(settings, rank)}|${transfer.meeting.id}` } };
}

const rankId = ({ engineId, ranks }: EngineInstance["settings"], rank: number): string =>
  ranks === 1 ? engineId : `${engineId}_dp${rank}`;

/** The bootstrap server of vLLM's MooncakeConnector. */
const rankList = ({ settings }: EngineInstance): unknown =>
  Object.fromEntries(
    Array.from({ length: settings.ranks }, (_, rank) => [
      String(rank),
      { engine_id: rankId(settings, rank), worker_addr: { 0: { 0: `tcp://${settings.host}:0` } } },
    ]),
  );

function requestId(request: IncomingMessage): string | undefined {
  const header = request.headers["x-request-id"];
  return typeof header === "string" && header !== "" ? header.slice(0, MAX_ID_LENGTH) : undefined;
}

const replyOver = (response: ServerResponse): Reply => ({
  json: (status, body) => sendJson(response, status, body),
  open: () => {
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    response.flushHeaders();
  },
  event: (data) => void response.write(`data: ${JSON.stringify(data)}\n\n`),
  close: () => void response.end("data: [DONE]\n\n"),
});

async function tokenizePrompt({ instance, request, response }: Exchange): Promise<void> {
  const tokens = readTokenize(await readBody(request), instance.settings);
  const { maxModelLen } = instance.settings;
  sendJson(response, 200, { count: tokens.length, max_model_len: maxModelLen, tokens, token_strs: null });
}

function modelList({ settings, serving }: EngineInstance): unknown {
  const created = Math.floor(serving.clock.now() / 1000);
  const data = settings.models.map((id) => ({
    id,
    object: "model",
    created,
    owned_by: "vllm",
    root: settings.models[0],
    parent: null,
    max_model_len: settings.maxModelLen,
  }));
  return { object: "list", data };
}

const NO_PIN = new WireError(404, "NotFoundError", "Nothing is pinned under this engine and request.");

/** The request whose pin is meant, if this is the engine that is meant. */
function pinnedRequest(instance: EngineInstance, body: Body): string {
  const { engine_id, request_id } = body;
  const { engineId, connector, ranks } = instance.settings;
  if (typeof engine_id !== "string" || typeof request_id !== "string") throw NO_PIN;
  if (ranks > 1 && connector !== "sglang") return `${engine_id}|${request_id}`;
  // SGLang's rooms are known by their number alone.
  if (connector !== "sglang" && engine_id !== engineId) throw NO_PIN;
  return request_id;
}

async function pullPin({ instance, request, response }: Exchange): Promise<void> {
  const body = await readBody(request);
  const id = pinnedRequest(instance, body);
  const pin = instance.pins.claim(id, typeof body["transfer_ms"] === "number" ? body["transfer_ms"] : 0);
  if (pin === undefined) throw NO_PIN;
  sendJson(response, 200, { tokens: pin.tokens, digest: pin.digest });
}

async function takePush({ instance, request, response }: Exchange): Promise<void> {
  const { request_id, tokens, digest } = await readBody(request);
  if (typeof request_id !== "string" || typeof tokens !== "number" || typeof digest !== "number") throw NO_PIN;
  instance.arrivals.put(request_id, { tokens, digest });
  sendJson(response, 200, {});
}

async function touchPin({ instance, request, response }: Exchange, act: (id: string) => boolean): Promise<void> {
  if (!act(pinnedRequest(instance, await readBody(request)))) throw NO_PIN;
  sendJson(response, 200, {});
}
