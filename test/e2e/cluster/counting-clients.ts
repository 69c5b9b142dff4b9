/** Clients of a counting engine behind Envoy: HTTP/1.1 and HTTP/2, whole requests and such as go away half way. */
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "undici";

export interface Asked {
  readonly id: string;
  readonly path: string;
  readonly answer: "unary" | "sse";
  readonly body: Buffer;
}

export interface Answered {
  /** 0: the connection or the stream broke. */
  readonly status: number;
  readonly text: string;
}

/** Where a client goes away: after so many bytes of its body, and then after so long. */
export interface GoneAt {
  readonly bytes: number;
  readonly afterMs: number;
}

export interface Clients {
  overHttp1(asked: Asked): Promise<Answered>;
  overHttp2(asked: Asked): Promise<Answered>;
  goneHttp1(asked: Asked, gone: GoneAt): Promise<void>;
  goneHttp2(asked: Asked, gone: GoneAt): Promise<void>;
  close(): Promise<void>;
}

const SESSIONS = 10;
const BROKEN: Answered = { status: 0, text: "" };
const headersOf = ({ id, answer, body }: Asked): Record<string, string> => ({
  ...{ "content-type": "application/json", "content-length": String(body.length) },
  ...{ "x-id": id, "x-answer": answer },
});

/** @param url of Envoy */
export function startClients(url: string): Clients {
  // An answer may wait for a thousand others.
  const agent = new Agent({ connections: 2000, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 });
  const sessions = Array.from({ length: SESSIONS }, () => connectHttp2(url));
  for (const session of sessions) session.on("error", () => undefined);
  let turn = 0;
  const session = (): ClientHttp2Session => sessions[turn++ % SESSIONS] as ClientHttp2Session;
  return {
    overHttp1: (asked) => http1(agent, url, asked),
    overHttp2: (asked) => http2(session(), asked),
    goneHttp1: (asked, gone) => goneHttp1(url, asked, gone),
    goneHttp2: (asked, gone) => goneHttp2(session(), asked, gone),
    close: async () => {
      for (const each of sessions) each.destroy();
      await agent.destroy();
    },
  };
}

async function http1(agent: Agent, origin: string, asked: Asked): Promise<Answered> {
  const { path, body } = asked;
  try {
    const response = await agent.request({ origin, path, method: "POST", headers: headersOf(asked), body });
    return { status: response.statusCode, text: await response.body.text() };
  } catch {
    return BROKEN;
  }
}

function http2(session: ClientHttp2Session, asked: Asked): Promise<Answered> {
  const stream = session.request({ ":method": "POST", ":path": asked.path, ...headersOf(asked) });
  let [status, text, whole] = [0, "", false];
  stream.on("response", (headers) => (status = Number(headers[":status"])));
  stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  stream.on("error", () => undefined).on("end", () => (whole = true));
  stream.end(asked.body);
  return new Promise((resolve) => stream.on("close", () => resolve(whole ? { status, text } : BROKEN)));
}

async function goneHttp1(url: string, asked: Asked, { bytes, afterMs }: GoneAt): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined).resume();
  const lines = Object.entries(headersOf(asked)).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`POST ${asked.path} HTTP/1.1\r\nhost: pool\r\n${lines.join("")}\r\n`);
  socket.write(asked.body.subarray(0, bytes));
  await sleep(afterMs);
  socket.resetAndDestroy();
}

async function goneHttp2(session: ClientHttp2Session, asked: Asked, { bytes, afterMs }: GoneAt): Promise<void> {
  const stream = session.request({ ":method": "POST", ":path": asked.path, ...headersOf(asked) });
  stream.on("error", () => undefined).resume();
  stream.write(asked.body.subarray(0, bytes));
  if (bytes === asked.body.length) stream.end();
  await sleep(afterMs);
  stream.close(8);
}
