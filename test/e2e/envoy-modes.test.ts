/**
 * Real Envoys in every body mode, counted: each request reaches its engine once, with the body that the mode lets us
 * send, and Envoy finds nothing to complain of. The destinations are scripted; the ext_proc server is the real one.
 */
import t from "tap";
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import { connect } from "node:http2";
import { once } from "node:events";
import type { CompleteRequest, RequestRouter, Usage } from "../../src/router/exchange.ts";
import { startExtProcServer } from "../../src/router/extproc/server.ts";
import { HEADER } from "../../src/kinds/names.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";
import { systemClock, systemTimers } from "../../src/telemetry/process.ts";
import { ENVOY_VERSIONS } from "./cluster/envoy-binary.ts";
import { startEnvoy, type EnvoyOptions } from "./cluster/envoy.ts";

t.setTimeout(300_000);

const MIB = 1024 * 1024;
const hash = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
const USAGE = { prompt_tokens: 90, completion_tokens: 7, prompt_tokens_details: { cached_tokens: 64 } };

/** Answers with events, the last of which says what it got. */
async function startEngine(): Promise<{ address: string; server: Server; served: () => number }> {
  let served = 0;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      served += 1;
      const got = { body: hash(Buffer.concat(chunks)), id: request.headers["x-id"] };
      response.setHeader("content-type", "text/event-stream");
      for (let token = 0; token < 5; token++) response.write(`data: {"choices":[${token}]}\n\n`);
      response.end(`data: ${JSON.stringify({ got, usage: USAGE })}\n\n`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `127.0.0.1:${(server.address() as { port: number }).port}`, server, served: () => served };
}

const marked = (body: Buffer): Buffer => Buffer.concat([body.subarray(0, body.length - 1), Buffer.from(',"kv":1}')]);

interface Told {
  begun: number;
  finished: number;
  served: Set<string>;
  usage: Usage[];
  extents: Set<string>;
}

/** Sends every request to the engine, and changes its body where that is allowed. */
function scripted(engine: string, told: Told, waitMs: number): RequestRouter {
  const route = async ({ body, extent = "whole" }: CompleteRequest) => {
    told.extents.add(extent);
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const requestHeaders = [[HEADER.destination, engine]] as const;
    const sent = extent === "whole" && body.length > 0 ? marked(body) : body;
    return { kind: "forward", destination: engine, requestHeaders, responseHeaders: [], body: sent } as const;
  };
  const ticket = () => {
    told.begun += 1;
    let over = false;
    return {
      served: (address: string) => void told.served.add(address),
      ...{ responseStarted: () => undefined, firstToken: () => undefined },
      usage: (usage: Usage) => void told.usage.push(usage),
      finish: () => {
        if (!over) told.finished += 1;
        over = true;
      },
    };
  };
  const never = (): never => {
    throw new Error("not expected");
  };
  return {
    ...{ maxBodyBytes: 16 * MIB, patienceMs: 5000, bodyTimeoutMs: 60_000 },
    ...{ precheck: () => undefined, tooLarge: never, tooSlow: never, saturated: never },
    begin: (request) => ({ ticket: ticket(), routed: route(request) }),
  };
}

interface Case {
  readonly name: string;
  readonly envoy: Partial<EnvoyOptions>;
  /** Which bodies are changed on the way. `some`: those that the router saw whole, which is a matter of time. */
  readonly changed: "all" | "none" | "some";
  readonly extents: readonly string[];
  /** Time that each destination takes. */
  readonly waitMs?: number;
}

const mode = (request: string, response: string): Readonly<Record<string, unknown>> => ({
  processing_mode: {
    ...{ request_header_mode: "SEND", request_body_mode: request, request_trailer_mode: "SEND" },
    ...{ response_header_mode: "SEND", response_body_mode: response, response_trailer_mode: "SEND" },
  },
});
const EARLY = { send_body_without_waiting_for_header_response: true };
const IMPATIENT = { message_timeout: "1s", max_message_timeout: "60s" };
const WHOLE = { changed: "all", extents: ["whole"] } as const;
const UNSEEN = { changed: "none", extents: ["none"] } as const;
const CASES: readonly Case[] = [
  { name: "duplex", envoy: { bodyMode: "FULL_DUPLEX_STREAMED" }, ...WHOLE },
  { name: "buffered", envoy: { bodyMode: "BUFFERED" }, ...WHOLE },
  { name: "partial", envoy: { bodyMode: "BUFFERED_PARTIAL" }, changed: "some", extents: ["cut", "whole"] },
  { name: "streamed", envoy: { bodyMode: "STREAMED" }, ...UNSEEN },
  // Envoy tells of trailers only once the chunks are answered, so a body before trailers is taken for cut.
  {
    ...{ name: "streamed, sent without waiting", envoy: { bodyMode: "STREAMED", extProc: EARLY } },
    ...{ changed: "some", extents: ["cut", "whole"] },
  },
  { name: "none", envoy: { bodyMode: "NONE" }, ...UNSEEN },
  { name: "duplex, answer too", envoy: { extProc: mode("FULL_DUPLEX_STREAMED", "FULL_DUPLEX_STREAMED") }, ...WHOLE },
  { name: "buffered, answer too", envoy: { extProc: mode("BUFFERED", "BUFFERED") }, ...WHOLE },
  { name: "partial answer", envoy: { extProc: mode("BUFFERED", "BUFFERED_PARTIAL") }, ...WHOLE },
  { name: "buffered, the pick waits", envoy: { bodyMode: "BUFFERED", extProc: IMPATIENT }, ...WHOLE, waitMs: 1600 },
];

/** Partial bodies are cut at the listener's limit. */
const limitOf = ({ name }: Case): object => (name === "partial" ? { bufferLimitBytes: 100_000 } : {});
const SIZES = [2, 2_000, 40_000, 300_000];
const ROUNDS = 8;
const json = (size: number): Buffer => Buffer.from(`{"a":"${"x".repeat(Math.max(0, size - 8))}"}`);

interface Answered {
  readonly status: number;
  readonly text: string;
}

const overHttp1 = async (url: string, body: Buffer): Promise<Answered> => {
  const response = await fetch(`${url}/v1/completions`, { method: "POST", body: new Uint8Array(body) });
  return { status: response.status, text: await response.text() };
};

/** With trailers, as gRPC-minded clients send them, on every other request. */
async function overHttp2(url: string, body: Buffer, trailers: boolean): Promise<Answered> {
  const session = connect(url);
  const head = { ":method": "POST", ":path": "/v1/completions", "content-type": "application/json" };
  const stream = session.request(head, { waitForTrailers: trailers });
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "1" }));
  let status = 0;
  stream.on("response", (headers) => (status = Number(headers[":status"])));
  stream.end(body);
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  await once(stream, "close");
  session.close();
  return { status, text };
}

for (const version of ENVOY_VERSIONS)
  for (const each of CASES)
    t.test(`Envoy (${version}), ${each.name}: every request counted`, async (t) => {
      const engine = await startEngine();
      const told: Told = { begun: 0, finished: 0, served: new Set(), usage: [], extents: new Set() };
      const options = { maxStreams: 1000, maxBufferedBytes: 256 * MIB, clock: systemClock, timers: systemTimers };
      const router = await startExtProcServer(
        { host: "127.0.0.1", port: 0 },
        { router: scripted(engine.address, told, each.waitMs ?? 0), ...options, log: SILENT_LOG, metrics: NO_METRICS },
      );
      const base = { profile: "exact", version, extProcAddress: router.address } as const;
      const envoy = await startEnvoy({ ...base, decodeEndpoints: [engine.address], ...limitOf(each), ...each.envoy });
      t.teardown(async () => {
        await envoy.stop();
        await router.stop(0);
        engine.server.close();
      });
      const clients = [
        (body: Buffer) => overHttp1(envoy.url, body),
        (body: Buffer) => overHttp2(envoy.url, body, false),
        (body: Buffer) => overHttp2(envoy.url, body, true),
      ];
      const runs = clients.flatMap((client) =>
        SIZES.flatMap((size) =>
          Array<number>(ROUNDS)
            .fill(size)
            .map((s) => ({ client, size: s })),
        ),
      );
      const answers = await Promise.all(runs.map(({ client, size }) => client(json(size))));
      const arrived = (index: number, body: Buffer): boolean => answers[index]!.text.includes(hash(body));
      const same = runs.filter(({ size }, index) => arrived(index, json(size))).length;
      const changed = runs.filter(({ size }, index) => arrived(index, marked(json(size)))).length;
      t.same(new Set(answers.map(({ status }) => status)), new Set([200]));
      t.equal(same + changed, runs.length, "every body arrived whole");
      if (each.changed !== "some")
        t.equal(changed, each.changed === "all" ? runs.length : 0, "changed where it can be");
      t.equal(engine.served(), runs.length, "each reached the engine once");
      for (let tries = 0; tries < 100 && told.finished < runs.length; tries++)
        await new Promise((resolve) => setTimeout(resolve, 20));
      t.match(told, { begun: runs.length, finished: runs.length });
      t.same([...told.served], [engine.address], "told where it was served");
      t.equal(told.usage.length, runs.length, "usage of every answer");
      t.match(told.usage[0], { promptTokens: 90, cachedTokens: 64, completionTokens: 7 });
      t.same([...told.extents].sort(), [...each.extents].sort());
      for (const bad of ["spurious_msgs_received", "streams_failed", "message_timeouts", "rejected_header_mutations"])
        t.equal(await envoy.stat(`http.inference.ext_proc.${bad}`), 0, bad);
    });
