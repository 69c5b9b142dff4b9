/**
 * llm-d's routing sidecar beside a decode engine, as far as routers meet it: it takes requests in the engine's place,
 * runs the prefill leg with whom `x-prefiller-host-port` names, over NIXL's pull, and then decode. Where the leg fails,
 * the engine computes the prompt itself.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { HEADER } from "../../kinds/names.ts";

export interface RunningSidecar {
  /** `ip:port` */
  readonly address: string;
  /** Requests that named a prefill engine. */
  named(): number;
  stop(): Promise<void>;
}

type Json = Record<string, unknown>;

const KEEP = { do_remote_decode: true, do_remote_prefill: false, remote_engine_id: null, remote_block_ids: null };
const JSON_TYPE = "application/json";

/** @param engine `ip:port` of the decode engine behind it */
export async function startSidecar(engine: string): Promise<RunningSidecar> {
  let named = 0;
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await text(request);
    const prefiller = request.headers[HEADER.prefiller];
    const path = request.url ?? "/";
    const headers = { "content-type": JSON_TYPE, [HEADER.requestId]: String(request.headers[HEADER.requestId] ?? "") };
    if (typeof prefiller === "string") named += 1;
    const sent = typeof prefiller === "string" ? await withPrefill(prefiller, { path, headers, body }) : body;
    const method = request.method ?? "GET";
    const answer = await fetch(`http://${engine}${path}`, {
      method,
      headers,
      ...(method === "GET" ? {} : { body: sent }),
    });
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? JSON_TYPE });
    response.end(Buffer.from(await answer.arrayBuffer()));
  };
  const server = createServer((request, response) => {
    serve(request, response).catch(() => response.writeHead(502).end("{}"));
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    named: () => named,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Sent {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** The body of decode: with what the prefill engine answered, or as it came. */
async function withPrefill(prefiller: string, { path, headers, body }: Sent): Promise<string> {
  const asked = JSON.parse(body) as Json;
  const leg = { ...asked, stream: false, max_tokens: 1, kv_transfer_params: KEEP };
  try {
    const answer = await fetch(`http://${prefiller}${path}`, { method: "POST", headers, body: JSON.stringify(leg) });
    const params = answer.ok ? ((await answer.json()) as Json)["kv_transfer_params"] : undefined;
    return params === undefined ? body : JSON.stringify({ ...asked, kv_transfer_params: params });
  } catch {
    return body;
  }
}
