/**
 * Real Envoys and decode engines that wait for a prefill that will not come: what the client is told in the place of an
 * answer, and that the engine's request ends. First in each shipped mode, with scripted destinations before the real
 * ext_proc server; then the whole router, and the engines of each connector that sends decode before its prefill ended.
 */
import t from "tap";
import { createServer, type ServerResponse } from "node:http";
import { connect } from "node:http2";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Answer, RequestRouter } from "../../src/router/exchange.ts";
import { problemAnswer } from "../../src/router/answers.ts";
import { startExtProcServer } from "../../src/router/extproc/server.ts";
import { HEADER } from "../../src/kinds/names.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";
import { systemClock, systemRandom, systemTimers } from "../../src/telemetry/process.ts";
import { comes, startRouterProcess } from "../score/router-process.ts";
import { ENVOY_VERSIONS } from "./cluster/envoy-binary.ts";
import { freePorts } from "../support/ports.ts";
import { startEngine as startSimulated, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { startEnvoy, type Envoy, type EnvoyOptions } from "./cluster/envoy.ts";

t.setTimeout(300_000);

const MIB = 1024 * 1024;
const LOST = problemAnswer({ status: 503, reason: "PrefillLost", message: "the prefill engine was lost; try again" });

/** What an engine does with a request until its prefill comes. */
type Wait = "silent" | "head" | "token";
const BEGINS: Readonly<Record<Wait, (response: ServerResponse) => void>> = {
  silent: () => undefined,
  head: (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
  },
  token: (response) => void response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n"),
};

/** Answers a request at `/v1/well`; others wait as their path says, and what is begun there goes on when told. */
async function startEngine(reached: () => void) {
  const state = { cut: 0 };
  const held: ServerResponse[] = [];
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      const wait = request.url?.slice("/v1/".length) as Wait | "well";
      if (wait === "well") return void response.end("{}");
      response.on("close", () => (state.cut += response.writableFinished ? 0 : 1));
      BEGINS[wait](response);
      held.push(response);
      reached();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const finish = (): void => held.splice(0).forEach((response) => response.end("data: [DONE]\n\n"));
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, state, finish, server };
}

/** Forwards all to one engine; the legs behind are lost when told. */
function scripted(engine: () => string) {
  const told = { begun: 0, finished: 0 };
  const behind: ((answer: Answer) => void)[] = [];
  const never = (): never => {
    throw new Error("not expected");
  };
  const nothing = (): void => undefined;
  const router: RequestRouter = {
    ...{ maxBodyBytes: MIB, patienceMs: 5000, bodyTimeoutMs: 60_000 },
    ...{ precheck: () => undefined, tooLarge: never, tooSlow: never, saturated: never },
    begin: ({ body }) => {
      told.begun += 1;
      const { promise: deserted, resolve } = Promise.withResolvers<Answer>();
      behind.push(resolve);
      const destination = engine();
      return {
        ticket: {
          ...{ served: nothing, responseStarted: nothing, firstToken: nothing, usage: nothing },
          finish: () => void (told.finished += 1),
        },
        routed: Promise.resolve({
          ...{ kind: "forward", destination, responseHeaders: [], body, deserted },
          requestHeaders: [[HEADER.destination, destination]],
        }),
      };
    },
  };
  return { router, told, lose: () => behind.splice(0).forEach((resolve) => resolve(LOST)) };
}

interface Seen {
  readonly status: number;
  readonly text: string;
  /** It broke off. */
  readonly broken: boolean;
}

async function overHttp1(url: string, path: string): Promise<Seen> {
  const response = await fetch(`${url}/v1/${path}`, { method: "POST", body: "{}" });
  const body = await response.text().catch(() => undefined);
  return { status: response.status, text: body ?? "", broken: body === undefined };
}

async function overHttp2(url: string, path: string): Promise<Seen> {
  const session = connect(url);
  const stream = session.request({ ":method": "POST", ":path": `/v1/${path}`, "content-type": "application/json" });
  let [status, text, broken] = [0, "", false];
  stream.on("response", (headers) => (status = Number(headers[":status"])));
  stream.on("error", () => (broken = true));
  stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  stream.end("{}");
  await once(stream, "close").catch(() => undefined);
  session.close();
  return { status, text, broken: broken || stream.rstCode !== 0 };
}

const COMPLAINTS = ["spurious_msgs_received", "streams_failed", "message_timeouts", "rejected_header_mutations"];
async function complaints(envoy: Envoy): Promise<readonly string[]> {
  const counts = await Promise.all(COMPLAINTS.map((name) => envoy.stat(`http.inference.ext_proc.${name}`)));
  return COMPLAINTS.filter((_, index) => counts[index] !== 0);
}

interface Variant extends Partial<EnvoyOptions> {
  readonly name: string;
}
const VARIANTS: readonly Variant[] = [
  { name: "light", profile: "light" },
  { name: "exact", profile: "exact" },
  { name: "buffered", profile: "light", bodyMode: "BUFFERED" },
  { name: "exact, buffered", profile: "exact", bodyMode: "BUFFERED" },
  { name: "original-dst", profile: "original-dst" },
  { name: "fail-open", profile: "fail-open" },
];

for (const version of ENVOY_VERSIONS)
  for (const { name, ...options } of VARIANTS)
    t.test(`Envoy (${version}, ${name}): a decode leg that waits in vain is ended`, async (t) => {
      let waiting = 0;
      const engine = await startEngine(() => (waiting += 1));
      const { router, told, lose } = scripted(() => engine.address);
      const limits = { maxStreams: 1000, maxBufferedBytes: 64 * MIB, clock: systemClock, timers: systemTimers };
      const server = await startExtProcServer(
        { host: "127.0.0.1", port: 0 },
        { router, ...limits, log: SILENT_LOG, metrics: NO_METRICS },
      );
      const base = { version, extProcAddress: server.address, decodeEndpoints: [engine.address] };
      const envoy = await startEnvoy({ ...base, ...options });
      t.teardown(async () => {
        await envoy.stop();
        await server.stop(0);
        engine.server.close().closeAllConnections();
      });
      const clients = [overHttp1, overHttp2];
      const deserted = async (path: Wait): Promise<readonly Seen[]> => {
        const before = waiting;
        const asked = clients.map((client) => client(envoy.url, path));
        t.ok(await comes(() => waiting === before + clients.length, 10_000), "the engine waits");
        // Heads pass through Envoy, and by us, before the legs are lost.
        if (path !== "silent") await new Promise((resolve) => setTimeout(resolve, 200));
        const began = performance.now();
        lose();
        if (path === "token") engine.finish();
        const seen = await Promise.all(asked);
        t.comment(`${path}: ended after ${Math.round(performance.now() - began)} ms`);
        return seen;
      };
      for (const { status, text } of await deserted("silent")) {
        t.equal(status, 503);
        t.equal(text, LOST.body.toString());
      }
      t.ok(await comes(() => engine.state.cut === 2, 10_000), "its requests end");
      const [http1, http2] = await deserted("head");
      t.match(http1, { status: 200, text: "", broken: true });
      // Envoy 1.36 resets with NO_ERROR, which some clients take for an end: of a stream that says no `[DONE]`.
      t.match(http2, { status: 200, text: "", ...(version === "newest" ? { broken: true } : {}) });
      t.ok(await comes(() => engine.state.cut === 4, 10_000), "its requests end");
      if (options.profile === "exact")
        for (const seen of await deserted("token")) t.match(seen, { status: 200, text: /1[^]*DONE/, broken: false });
      const well = await Promise.all(clients.map((client) => client(envoy.url, "well")));
      for (const { status } of well) t.equal(status, 200, "the next one is served");
      t.equal(engine.state.cut, 4, "and nothing else was cut");
      t.ok(await comes(() => told.finished >= told.begun, 10_000), "no stream is left");
      t.same(await complaints(envoy), []);
      t.equal(await envoy.stat("http.inference.downstream_rq_active"), 0);
      t.equal(await envoy.stat("cluster.tandem_decode.upstream_rq_active"), 0);
    });

const PAIRS = [
  { speaks: "sglang", connector: "sglang", engine: "sglang" },
  { speaks: "mooncake-bootstrap", connector: "mooncake", engine: "vllm" },
  { speaks: "mooncake-layerwise", connector: "mooncake-layerwise", engine: "vllm-ascend" },
] as const;

for (const version of ENVOY_VERSIONS)
  for (const { speaks, connector, engine } of PAIRS)
    t.test(`Envoy (${version}): a prefill engine of ${speaks} dies behind its decode`, async (t) => {
      const [prefillPort = 0, bootstrapPort = 0, callbacks = 0] = await freePorts(3);
      const start = async (role: "prefill" | "decode", timeScale: number): Promise<RunningEngine> => {
        const ports = role === "prefill" ? { port: prefillPort, bootstrapPort } : { port: 0 };
        const options = { host: "127.0.0.1", models: ["m"], connector: speaks, role, timeScale, ...ports } as const;
        const run = { clock: systemClock, timers: systemTimers, random: systemRandom };
        const started = await startSimulated(options, run);
        t.teardown(() => started.stop());
        return started;
      };
      // So slow that no prompt is computed before it dies.
      const slow = await start("prefill", 0.001);
      const decode = await start("decode", 20);
      const entry = { connector, engine, model: "m" };
      const router = await startRouterProcess({
        router: {
          callbacks: { listen: `127.0.0.1:${callbacks}`, advertise: "127.0.0.1" },
          prefill: { policy: "always" },
          endpoints: {
            static: [
              { ...entry, address: slow.address, role: "prefill", kvPort: slow.bootstrapPort },
              { ...entry, address: decode.address, role: "decode" },
            ],
          },
        },
      });
      const envoy = await startEnvoy({
        ...{ version, extProcAddress: router.address, decodeEndpoints: [decode.address] },
      });
      t.teardown(async () => {
        await envoy.stop();
        await router.stop();
      });
      const ask = async (stream: boolean): Promise<Seen> => {
        const messages = [{ role: "user", content: "Of ships and tides. ".repeat(200) }];
        const body = JSON.stringify({ model: "m", messages, max_tokens: 4, stream });
        const headers = { "content-type": "application/json" };
        const response = await fetch(`${envoy.url}/v1/chat/completions`, { method: "POST", body, headers });
        const text = await response.text().catch(() => undefined);
        return { status: response.status, text: text ?? "", broken: text === undefined };
      };
      const asked = Promise.all([ask(false), ask(true)]);
      t.ok(await comes(() => slow.facts().requests === 2 && decode.facts().requests === 2, 10_000), "both legs wait");
      // The head of the stream is with the client.
      await new Promise((resolve) => setTimeout(resolve, 200));
      const began = performance.now();
      await slow.stop();
      const [whole, stream] = await asked;
      t.comment(`ended after ${Math.round(performance.now() - began)} ms`);
      t.equal(whole.status, 503);
      t.same(JSON.parse(whole.text), JSON.parse(LOST.body.toString()));
      t.match(stream, { status: 200, text: "", broken: true }, "its head was on its way before");
      t.ok(
        await comes(() => decode.facts().aborted === 2 && decode.facts().usedBlocks === 0, 10_000),
        "decode lets go",
      );
      t.equal(await router.metric("tandem_router_decode_deserted_total"), 2);
      t.ok(await comes(async () => (await router.metric("tandem_router_streams")) === 0, 10_000), "no stream is left");
      t.same(await complaints(envoy), []);
      await start("prefill", 20);
      t.ok(await comes(async () => (await ask(true)).text.includes("[DONE]"), 10_000), "the next ones are served");
      t.match(await ask(false), { status: 200 });
    });
