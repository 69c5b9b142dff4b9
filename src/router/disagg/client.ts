/**
 * HTTP towards engines: undici behind the EngineClient port. Keep-alive connections, a deadline on every call, answers
 * bounded; every ending is told apart by whether the engine may have begun.
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

export interface ClosableEngineClient extends EngineClient {
  close(): Promise<void>;
}

export function createEngineClient(): ClosableEngineClient {
  const agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    connections: 512,
    pipelining: 1,
    keepAliveTimeout: 4000,
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  return { send: (request) => send(agent, request), close: () => agent.destroy() };
}

async function send(agent: Agent, request: EngineRequest): Promise<EngineReply> {
  const deadline = AbortSignal.timeout(request.timeoutMs);
  const signal = request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal]);
  try {
    const response = await agent.request({
      origin: `http://${request.address}`,
      method: request.method,
      path: request.path,
      headers: { ...request.headers },
      body:
        request.body === undefined
          ? null
          : Buffer.from(request.body.buffer, request.body.byteOffset, request.body.byteLength),
      signal,
    });
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
  return code !== undefined && NOTHING_SENT.has(code);
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
