/** The shipped Envoy configurations on real Envoys: valid as they are, and right where no router is needed to tell. */
import t from "tap";
import { spawnSync } from "node:child_process";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { HEADER, UNTRUSTED_HEADERS } from "../../src/kinds/names.ts";
import { startEngine as startSimulated } from "../../src/simulator/engine/server.ts";
import { systemClock, systemRandom, systemTimers } from "../../src/telemetry/process.ts";
import { startRouterProcess } from "../score/router-process.ts";
import { ENVOY_VERSIONS, envoyBinary } from "./cluster/envoy-binary.ts";
import { ENVOY_PROFILES, envoyConfig, shippedConfig, startEnvoy, type BodyMode } from "./cluster/envoy.ts";
import { eventually } from "./cluster/process.ts";
import { freePorts } from "../support/ports.ts";

const MODES: readonly BodyMode[] = ["FULL_DUPLEX_STREAMED", "BUFFERED"];

t.setTimeout(300_000);

/** An engine that answers with the headers and the number of body bytes that it got. */
async function startEngine(): Promise<{ address: string; server: Server }> {
  const server = createServer((request, response) => {
    let bytes = 0;
    request.on("data", (chunk: Buffer) => (bytes += chunk.length));
    request.on("end", () => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ headers: request.headers, bytes, port: request.socket.localPort }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `127.0.0.1:${(server.address() as { port: number }).port}`, server };
}

/** Field of a protobuf message with a length; enough for the few messages below. */
const field = (number: number, value: Buffer | string): Buffer => {
  const bytes = Buffer.from(value);
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7];
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes]);
};

const setHeader = (name: string, value: string): Buffer =>
  field(1, field(1, Buffer.concat([field(1, name), field(3, value)])));

/** ProcessingResponse.immediate_response with status 404, the header content-type, and a body. */
function refusal(body: string): Buffer {
  const status = field(1, Buffer.from([1 << 3, 0x94, 0x03]));
  return field(7, Buffer.concat([status, field(2, setHeader("content-type", "application/json")), field(3, body)]));
}

/** ProcessingResponse.request_headers that names a destination. */
const destination = (address: string): Buffer => field(1, field(1, field(2, setHeader(HEADER.destination, address))));

/** ProcessingResponse.request_headers without any change. */
const goOn = field(1, "");
const REQUEST_HEADERS = 2;

/** An ext_proc server that gives one answer to every request's headers, and lets every other message pass. */
async function startRouter(answer: Buffer): Promise<{ address: string; stop: () => void }> {
  const server = new grpc.Server();
  const raw = (value: Buffer): Buffer => value;
  const Process = {
    path: "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
    requestStream: true,
    responseStream: true,
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw,
  };
  const serve = (call: grpc.ServerDuplexStream<Buffer, Buffer>): void => {
    call.on("data", (message: Buffer) => {
      const phase = message[0]! >> 3;
      call.write(phase === REQUEST_HEADERS ? answer : field(phase - 1, ""));
    });
    call.on("end", () => call.end());
    call.on("error", () => undefined);
  };
  server.addService({ Process }, { Process: serve });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    ),
  );
  return { address: `127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}

const post = (url: string, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });

interface Refusal {
  error: { message: string; type: string; code: string };
}
const refusalOf = async (response: Response): Promise<Refusal["error"]> => ((await response.json()) as Refusal).error;

for (const version of ENVOY_VERSIONS) {
  t.test(`Envoy (${version}) accepts every profile and mode, as shipped and as the tests use it`, async (t) => {
    const binary = await envoyBinary(version);
    const folder = mkdtempSync(join(tmpdir(), "tandem-validate-"));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const endpoints = join(folder, "endpoints.json");
    writeFileSync(endpoints, "{}");
    for (const profile of ENVOY_PROFILES) {
      const base = { profile, extProcAddress: "127.0.0.1:1", decodeEndpoints: [] };
      const made = MODES.map((bodyMode) => envoyConfig({ ...base, bodyMode }, { listener: 1, admin: 2 }, endpoints));
      for (const [index, config] of [shippedConfig(profile), ...made].entries()) {
        const file = join(folder, `${profile}-${index}.json`);
        writeFileSync(file, JSON.stringify(config));
        const result = spawnSync(binary, ["--mode", "validate", "-l", "warning", "-c", file], { encoding: "utf8" });
        t.equal(result.status, 0, `${profile} ${index}: ${result.stderr}`);
        t.notMatch(result.stderr, /deprecated/i, "no deprecated field");
      }
    }
  });

  t.test(`Envoy (${version}) removes what a client must not set, and has fallbacks, without a router`, async (t) => {
    const [one, two] = [await startEngine(), await startEngine()];
    const endpoints = { extProcAddress: "127.0.0.1:1", decodeEndpoints: [one.address] };
    const envoy = await startEnvoy({ ...endpoints, plain: true, version });
    t.teardown(async () => {
      await envoy.stop();
      one.server.close();
      two.server.close();
    });
    const forged = Object.fromEntries(UNTRUSTED_HEADERS.map((name) => [name, two.address]));
    await envoy.setEndpoints([one.address, two.address]);
    const served = new Set<string>();
    for (let index = 0; index < 20; index += 1) {
      const response = await post(`${envoy.url}/v1/completions`, "{}", forged);
      const answer = (await response.json()) as { headers: IncomingHttpHeaders; port: number };
      for (const name of UNTRUSTED_HEADERS) t.notOk(name in answer.headers, `${name} is removed`);
      served.add(String(answer.port));
    }
    t.equal(served.size, 2, "a forged destination changes nothing");
    const missing = await post(`${envoy.url}/metrics`, "{}");
    t.equal(missing.status, 404);
    t.match(await refusalOf(missing), { type: "invalid_request_error", code: "unknown_path" });
    await envoy.setEndpoints([`127.0.0.1:${(await freePorts(1))[0]!}`]);
    const refused = await post(`${envoy.url}/v1/completions`, "{}");
    t.equal(refused.status, 503);
    t.equal(refused.headers.get("retry-after"), "1");
    t.match(await refusalOf(refused), { type: "server_error", code: "engine_unavailable" });
  });

  for (const bodyMode of MODES)
    t.test(`Envoy (${version}, ${bodyMode}) passes the router's refusals and words its own`, async (t) => {
      const engine = await startEngine();
      const body = JSON.stringify({ error: { message: `no model, ${"x".repeat(200)}`, code: "model_not_found" } });
      const router = await startRouter(refusal(body));
      const options = { bodyMode, version, decodeEndpoints: [engine.address], bufferLimitBytes: 100_000 };
      const envoy = await startEnvoy({ ...options, extProcAddress: router.address });
      t.teardown(async () => {
        await envoy.stop();
        engine.server.close();
      });
      const refused = await post(`${envoy.url}/v1/completions`, "{}");
      t.equal(refused.status, 404);
      t.equal(refused.headers.get("content-type"), "application/json");
      t.equal(await refused.text(), body, "byte for byte");
      router.stop();
      const closed = await post(`${envoy.url}/v1/completions`, "{}", { [HEADER.destination]: engine.address });
      t.equal(closed.status, 503, "never an engine without the router");
      t.match(await refusalOf(closed), { type: "server_error", code: "router_unavailable" });
    });

  t.test(`Envoy (${version}) sends a request where the router says, and nowhere else`, async (t) => {
    const engines = [await startEngine(), await startEngine(), await startEngine()];
    const addresses = engines.map(({ address }) => address);
    const router = await startRouter(destination(addresses[1]!));
    const options = { bodyMode: "NONE", version, decodeEndpoints: addresses } as const;
    const envoy = await startEnvoy({ ...options, extProcAddress: router.address });
    t.teardown(async () => {
      await envoy.stop();
      router.stop();
      for (const { server } of engines) server.close();
    });
    for (let index = 0; index < 10; index += 1) {
      const response = await post(`${envoy.url}/v1/completions`, "{}", { [HEADER.destination]: addresses[0]! });
      const { port } = (await response.json()) as { port: number };
      t.equal(`127.0.0.1:${port}`, addresses[1]);
    }
    await envoy.setEndpoints([addresses[2]!]);
    const fallback = (await (await post(`${envoy.url}/v1/completions`, "{}")).json()) as { port: number };
    t.equal(`127.0.0.1:${fallback.port}`, addresses[2], "a destination that is no decode engine is not followed");
  });

  t.test(`Envoy (${version}, BUFFERED) words its refusal of a body above its limit`, async (t) => {
    const engine = await startEngine();
    const router = await startRouter(goOn);
    const options = { bodyMode: "BUFFERED", version, bufferLimitBytes: 100_000 } as const;
    const envoy = await startEnvoy({ ...options, decodeEndpoints: [engine.address], extProcAddress: router.address });
    t.teardown(async () => {
      await envoy.stop();
      router.stop();
      engine.server.close();
    });
    const small = await post(`${envoy.url}/v1/completions`, JSON.stringify("x".repeat(50_000)));
    t.match(await small.json(), { bytes: 50_002 });
    const large = await post(`${envoy.url}/v1/completions`, JSON.stringify("x".repeat(200_000)));
    t.equal(large.status, 413);
    t.match(await refusalOf(large), { type: "invalid_request_error", code: "request_too_large" });
  });
}

const PAIRS = [
  { connector: "sglang", engine: "sglang" },
  { connector: "mooncake-layerwise", engine: "vllm-ascend" },
] as const;
const CHATS = 40;

for (const { connector, engine } of PAIRS)
  t.test(`Envoy (newest): both legs of ${connector} meet, ${CHATS} at once, and go with their client`, async (t) => {
    const start = async (role: "prefill" | "decode", timeScale: number) => {
      const options = { host: "127.0.0.1", port: 0, models: ["m"], connector, role, timeScale } as const;
      const started = await startSimulated(options, { clock: systemClock, timers: systemTimers, random: systemRandom });
      t.teardown(() => started.stop());
      return started;
    };
    // The slow one computes for longer than the router waits to see whether decode has its answer.
    const [prefill, slow, decode] = [
      await start("prefill", 20),
      await start("prefill", 0.004),
      await start("decode", 20),
    ];
    const [callbacks = 0] = await freePorts(1);
    const entry = { connector, engine, model: "m" };
    const entries = [
      { ...entry, address: prefill.address, role: "prefill", kvPort: prefill.bootstrapPort },
      { ...entry, address: decode.address, role: "decode" },
    ];
    const router = {
      callbacks: { listen: `127.0.0.1:${callbacks}`, advertise: "127.0.0.1" },
      prefill: { policy: "always" },
    };
    const run = async (static_: readonly object[]) => {
      const running = await startRouterProcess({ router: { ...router, endpoints: { static: static_ } } });
      const envoy = await startEnvoy({ decodeEndpoints: [decode.address], extProcAddress: running.address });
      const stop = async (): Promise<void> => {
        await envoy.stop();
        await running.stop();
      };
      return { running, envoy, stop };
    };
    const chat = (index: number): string =>
      JSON.stringify({
        model: "m",
        messages: [{ role: "user", content: `Number ${index}. `.repeat(100) }],
        max_tokens: 4,
        stream: index % 2 === 0,
      });
    const first = await run(entries);
    const answers = Array.from({ length: CHATS }, async (_, index) => {
      const response = await post(`${first.envoy.url}/v1/chat/completions`, chat(index));
      return `${response.status} ${/\[DONE\]|"choices"/.test(await response.text())}`;
    });
    t.same([...new Set(await Promise.all(answers))], ["200 true"]);
    t.match(decode.facts(), { decodeLegsRemote: CHATS, decodeLegsLocal: 0 });
    t.match(prefill.facts(), { prefillLegs: CHATS, usedBlocks: 0 });
    t.equal(await first.running.metric("tandem_router_decode_deserted_total"), 0);
    await first.stop();

    const second = await run([{ ...entries[0], address: slow.address, kvPort: slow.bootstrapPort }, entries[1]!]);
    const cut = new AbortController();
    const headers = { "content-type": "application/json" };
    const going = fetch(`${second.envoy.url}/v1/chat/completions`, {
      ...{ method: "POST", body: chat(0), headers, signal: cut.signal },
    });
    going.catch(() => undefined);
    await eventually("prefill under way", () => Promise.resolve(slow.facts().requests === 1 || undefined));
    cut.abort();
    await eventually("both legs cancelled", () =>
      Promise.resolve((slow.facts().aborted === 1 && decode.facts().aborted === 1) || undefined),
    );
    t.match(slow.facts(), { prefillLegs: 0, usedBlocks: 0 });
    await second.stop();
  });
