/**
 * Both legs for real: the request router over simulated engines of one connector, and a proxy's part played by the test,
 * which sends the decode leg where the router says and tells it how the answer goes.
 */
import fastify from "fastify";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import type { Test } from "tap";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import type { MetricLabels } from "../../src/ports.ts";
import { compatible } from "../../src/profiles/connectors.ts";
import { Callbacks } from "../../src/router/disagg/callbacks.ts";
import { createEngineClient } from "../../src/router/disagg/client.ts";
import { callbackRoutes, METASERVER_PATH } from "../../src/router/disagg/routes.ts";
import type { Forward, Routed, Ticket } from "../../src/router/exchange.ts";
import { createBlockHasher } from "../../src/router/kv/blocks.ts";
import { HistoryIndex } from "../../src/router/kv/history.ts";
import { LoadBook } from "../../src/router/load.ts";
import { createRouter } from "../../src/router/route.ts";
import type { EngineOptions, RunningEngine } from "../../src/simulator/engine/server.ts";
import { startEngine } from "../../src/simulator/engine/server.ts";
import type { PairConnector } from "../../src/simulator/engine/transfer.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { systemClock, systemRandom, systemTimers } from "../../src/telemetry/process.ts";

const PORTS = { clock: systemClock, timers: systemTimers, random: systemRandom };
const hasher = createBlockHasher();

/** Engine and connector of the contract for what a simulated engine speaks. */
const SPEAKS: Readonly<Record<PairConnector, { connector: string; engine: string; blockSize: number }>> = {
  nixl: { connector: "nixl", engine: "vllm", blockSize: 16 },
  "nixl-push": { connector: "nixl-push", engine: "vllm", blockSize: 16 },
  mooncake: { connector: "mooncake", engine: "vllm-ascend", blockSize: 128 },
  "mooncake-bootstrap": { connector: "mooncake", engine: "vllm", blockSize: 16 },
  "mooncake-layerwise": { connector: "mooncake-layerwise", engine: "vllm-ascend", blockSize: 128 },
  sglang: { connector: "sglang", engine: "sglang", blockSize: 16 },
};

export interface LegsOptions {
  readonly prefill?: Partial<EngineOptions>;
  readonly decode?: Partial<EngineOptions>;
  readonly prefills?: number;
  /** Addresses of prefill engines that are named and do not run, before those that do. */
  readonly dead?: readonly string[];
  /** Keys below `router`. */
  readonly router?: object;
  /** Members of every endpoint's entry. */
  readonly entry?: object;
  /** The decode endpoint's address, where something stands before the engine. */
  readonly before?: (decode: RunningEngine) => Promise<string>;
}

export interface LegsRig {
  readonly prefills: readonly RunningEngine[];
  readonly decode: RunningEngine;
  readonly loads: LoadBook;
  /** Ids of the endpoints, prefill first. */
  readonly ids: readonly string[];
  readonly counts: Map<string, number>;
  readonly metaserver: string;
  begin(body: object, path?: string): { ticket: Ticket; routed: Promise<Routed> };
  /** Both legs and the whole answer. */
  ask(body: object, path?: string): Promise<Answered>;
  count(name: string, labels?: MetricLabels): number;
}

export interface Answered {
  readonly status: number;
  readonly json: Record<string, unknown>;
  readonly forward: Forward;
}

const keyOf = (name: string, labels: MetricLabels = {}): string => `${name}${JSON.stringify(labels)}`;

export async function startLegs(t: Test, connector: PairConnector, options: LegsOptions = {}): Promise<LegsRig> {
  const { connector: name, engine, blockSize } = SPEAKS[connector];
  const common = {
    host: "127.0.0.1",
    port: 0,
    models: ["m"],
    connector,
    blockSize,
    timeScale: 20,
    waitMs: 1500,
  } as const;
  const run = async (more: Partial<EngineOptions>): Promise<RunningEngine> => {
    const started = await startEngine({ ...common, ...more }, PORTS);
    t.teardown(() => started.stop());
    return started;
  };
  const prefills = await Promise.all(
    Array.from({ length: options.prefills ?? 1 }, () => run({ role: "prefill", ...options.prefill })),
  );
  const decode = await run({ role: "decode", ...options.decode });
  const entry = (address: string, role: string, kvPort = 0): object => ({
    ...{ address, role, model: "m", connector: name, engine, kvPort },
    ...options.entry,
  });
  const decodeAddress = (await options.before?.(decode)) ?? decode.address;
  const entries = [
    ...(options.dead ?? []).map((address) => entry(address, "prefill", 1)),
    ...prefills.map(({ address, bootstrapPort }) => entry(address, "prefill", bootstrapPort)),
    entry(decodeAddress, "decode"),
  ];
  const router = { prefill: { policy: "always", timeoutMs: 3000 }, ...options.router, endpoints: { static: entries } };
  const config = loadConfig({ text: JSON.stringify({ router }) }).router;
  const known = staticEndpoints(config.endpoints.static).map((endpoint) => ({ endpoint, stats: undefined }));
  const counts = new Map<string, number>();
  const count = (key: string, by = 1): void => void counts.set(key, (counts.get(key) ?? 0) + by);
  const metrics = {
    count: (metric: string, labels?: MetricLabels, by?: number) => count(keyOf(metric, labels), by),
    gauge: () => undefined,
    observe: () => undefined,
  };
  const client = createEngineClient();
  const app = fastify({ logger: false });
  const address = await app.listen({ host: "127.0.0.1", port: 0 }).catch(() => "");
  await app.close();
  const world = fastify({ logger: false, forceCloseConnections: true });
  const port = Number(new URL(address).port);
  const metaserver = `http://127.0.0.1:${port}${METASERVER_PATH}`;
  const callbacks = new Callbacks(() => metaserver);
  await world.register(callbackRoutes({ callbacks, metrics }));
  await world.listen({ host: "127.0.0.1", port });
  t.teardown(async () => {
    await world.close();
    await client.close();
  });
  const loads = new LoadBook();
  const routing = createRouter({
    ...{ config, hasher, loads, client, metrics, callbacks, log: SILENT_LOG, ...PORTS },
    directory: { list: () => known },
    index: new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 100_000),
    incompatible: (a, b) => compatible(a.compatibility, b.compatibility),
  });
  const begin: LegsRig["begin"] = (body, path = "/v1/chat/completions") =>
    routing.begin({
      method: "POST",
      path,
      headers: [["content-type", "application/json"]],
      body: Buffer.from(JSON.stringify(body)),
    });
  return {
    ...{ prefills, decode, loads, counts, metaserver, begin },
    ids: known.map(({ endpoint }) => endpoint.id),
    ask: async (body, path) => {
      const { ticket, routed } = begin(body, path);
      const forward = await routed;
      if (forward.kind === "answer") throw new Error(`refused: ${forward.status} ${forward.body.toString()}`);
      const answer = await send(forward, path ?? "/v1/chat/completions");
      ticket.responseStarted();
      ticket.finish(true);
      return { ...answer, forward };
    },
    count: (metric, labels) => counts.get(keyOf(metric, labels)) ?? 0,
  };
}

/** What a proxy sends for a decision. */
export async function send(
  { destination, requestHeaders, body }: Forward,
  path: string,
  signal?: AbortSignal,
): Promise<{ status: number; json: Record<string, unknown> }> {
  const [host = "", port = ""] = destination.split(":");
  const headers = { "content-type": "application/json", ...Object.fromEntries(requestHeaders) };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const sent = httpRequest(
      { host, port, path, method: "POST", headers, agent: false, ...(signal && { signal }) },
      resolve,
    );
    sent.on("error", reject).end(body);
  });
  const got = await text(response);
  return { status: response.statusCode ?? 0, json: JSON.parse(got) as Record<string, unknown> };
}
