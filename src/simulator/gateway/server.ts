/**
 * A small HTTP gateway that stands in for Envoy where none is found: it speaks ext_proc to the router as Envoy does in
 * FULL_DUPLEX_STREAMED mode, and sends the request where the router says. Not a proxy for production.
 */
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import type { HeaderList } from "../../router/headers.ts";
import { ProcessClient, type ProcessStream } from "./client.ts";
import { encodeBody, encodeHeaders, encodeTrailers, type DecodedReply } from "./codec.ts";

export interface Gateway {
  readonly url: string;
  readonly stop: () => Promise<void>;
}

export async function startGateway(router: string, listen = { host: "127.0.0.1", port: 0 }): Promise<Gateway> {
  const client = new ProcessClient(router);
  const server = createServer((request, response) => {
    const stream = client.open();
    response.on("close", () => (response.writableFinished ? stream.end() : stream.reset()));
    handle(stream, request, response).catch((error: unknown) => fail(response, error));
  });
  await new Promise<void>((resolve) => server.listen(listen.port, listen.host, resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${listen.host}:${port}`,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await client.close();
    },
  };
}

function fail(response: ServerResponse, error: unknown): void {
  if (response.headersSent) response.destroy();
  else response.writeHead(502).end(`${(error as Error).message}\n`);
}

async function handle(stream: ProcessStream, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const hasBody = request.method !== "GET" && request.method !== "HEAD";
  stream.send(
    encodeHeaders("requestHeaders", headersOf(request), !hasBody, {
      request: "FULL_DUPLEX_STREAMED",
      response: "NONE",
    }),
  );
  // A client that goes away inside its body ends the exchange, not the process.
  if (hasBody) sendBody(stream, request).catch(() => stream.reset());
  const headers = await stream.next();
  if (headers === undefined) throw new Error("the router ended the stream");
  if (headers.kind === "immediate") {
    response.writeHead(headers.status ?? 500, Object.fromEntries(headers.set)).end(headers.body);
    return;
  }
  const body = hasBody ? await collect(stream) : Buffer.alloc(0);
  await forward(stream, { request, response, headers, body });
}

async function sendBody(stream: ProcessStream, request: IncomingMessage): Promise<void> {
  for await (const chunk of request as AsyncIterable<Buffer>) stream.send(encodeBody("requestBody", chunk, false));
  stream.send(encodeBody("requestBody", Buffer.alloc(0), true));
}

const headersOf = (request: IncomingMessage): HeaderList => {
  const pairs = Object.entries(request.headers).map(([name, value]) => [name, String(value)] as const);
  return [
    [":method", request.method ?? "GET"],
    [":path", request.url ?? "/"],
    [":authority", request.headers.host ?? ""],
    ...pairs,
  ];
};

async function collect(stream: ProcessStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let reply = await stream.next(); reply?.streamed !== undefined; reply = await stream.next()) {
    chunks.push(reply.streamed.chunk);
    if (reply.streamed.endOfStream) return Buffer.concat(chunks);
  }
  throw new Error("the router ended the body early");
}

interface Turn {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly headers: DecodedReply;
  readonly body: Buffer;
}

function forward(stream: ProcessStream, turn: Turn): Promise<void> {
  const { request, response, headers, body } = turn;
  const [host, port] = splitAddress(headers.destination ?? "");
  return new Promise((resolve, reject) => {
    const upstream = httpRequest(
      { host, port, method: request.method, path: request.url, headers: upstreamHeaders(request, headers, body) },
      (answer) => {
        relay(stream, answer, response).then(resolve, reject);
      },
    );
    upstream.on("error", reject);
    response.on("close", () => upstream.destroy());
    upstream.end(body);
  });
}

const splitAddress = (address: string): [string, number] => {
  const at = address.lastIndexOf(":");
  return [address.slice(0, at), Number(address.slice(at + 1))];
};

function upstreamHeaders(request: IncomingMessage, reply: DecodedReply, body: Buffer): OutgoingHttpHeaders {
  const removed = new Set([...reply.remove, "host", "connection", "content-length", "transfer-encoding"]);
  const kept = Object.entries(request.headers).filter(([name]) => !removed.has(name));
  return { ...Object.fromEntries(kept), ...Object.fromEntries(reply.set), "content-length": body.length };
}

async function relay(stream: ProcessStream, answer: IncomingMessage, response: ServerResponse): Promise<void> {
  stream.send(encodeHeaders("responseHeaders", [[":status", String(answer.statusCode)]], false));
  const reply = await stream.next();
  response.writeHead(answer.statusCode ?? 502, { ...answer.headers, ...Object.fromEntries(reply?.set ?? []) });
  for await (const chunk of answer as AsyncIterable<Buffer>) response.write(chunk);
  stream.send(encodeTrailers("responseTrailers"));
  response.end();
}
