/**
 * R13: prompts of one tenant, sent by another, with the salt of the first forged. The router keeps them apart in its own
 * index and, by salts that nobody can write, in the caches of engines: told by what engines say was cached.
 */
import { request } from "node:http";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startRouterRole } from "../../src/cli/roles/router.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { HEADER } from "../../src/kinds/names.ts";
import { tenantSalt } from "../../src/router/request/salt.ts";
import { startEngine } from "../../src/simulator/engine/server.ts";
import { startGateway } from "../../src/simulator/gateway/server.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { temporaryFolder } from "../e2e/cluster/process.ts";
import { comes, sizeOf } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

/** Prompts of each way to know prefixes; each is sent seven times. */
const PAIRS = sizeOf("R13_PAIRS", 200);
const MODEL = "llama";
const KEY = Buffer.alloc(32, 7);

/** How the router knows who holds what. */
const WAYS = {
  history: { tokenizer: { mode: "off" }, events: { enabled: false } },
  tokens: { tokenizer: { mode: "always", budgetMs: 1000 }, events: { enabled: false } },
  events: { tokenizer: { mode: "auto", budgetMs: 1000 }, events: { speculateMs: 0 } },
} as const satisfies Readonly<Record<string, object>>;

type Way = keyof typeof WAYS;

interface Answer {
  /** What the engine says, and what the router expected. */
  readonly cached: number;
  readonly predicted: number;
}

interface World {
  send(tenant: string, content: string, more?: object): Promise<Answer>;
  /** By what the last pick knew who holds what. */
  whence(): Promise<string | undefined>;
  stop(): Promise<void>;
}

/** One engine: whatever is asked meets the same cache. */
async function createWorld(way: Way): Promise<World> {
  const { folder, remove } = temporaryFolder("tandem-r13-");
  const saltKeyFile = join(folder, "key");
  writeFileSync(saltKeyFile, KEY);
  const ports = createPorts(loadConfig({}), SILENT_LOG);
  const options = { host: "127.0.0.1", port: 0, models: [MODEL], connector: "nixl", timeScale: 50 } as const;
  const engine = await startEngine(way === "events" ? { ...options, events: { format: "vllm-map" } } : options, ports);
  const { port: eventsPort = 0, replayPort = 0 } = engine.events ?? {};
  const router = {
    ...{ listen: "127.0.0.1:0", healthListen: "", explainHeaders: true, ...WAYS[way] },
    tenant: { header: "x-tenant", saltKeyFile },
    endpoints: {
      static: [{ address: engine.address, role: "both", model: MODEL, connector: "none", eventsPort, replayPort }],
    },
  };
  const config = loadConfig({ text: JSON.stringify({ router }) });
  const endpoints = staticEndpoints(config.router.endpoints.static);
  const role = await startRouterRole({ ...ports, config }, { endpoints: () => endpoints, synced: () => true });
  const gateway = await startGateway(role.address);
  const world = {
    whence: async () => {
      const page = await role.pages?.["/debug/requests"]?.("");
      const { requests } = JSON.parse(page?.body ?? "") as { requests: { expected: { whence: string } }[] };
      return requests[0]?.expected.whence;
    },
    send: (tenant, content, more = {}) => send(gateway.url, tenant, { messages: [{ role: "user", content }], ...more }),
    stop: async () => {
      await gateway.stop();
      await role.stop();
      await engine.stop();
      remove();
    },
  } satisfies World;
  const wanted = way === "events" ? "events" : "history";
  const isKnown = async (): Promise<boolean> => {
    await world.send("warm", "up");
    return (await world.whence()) === wanted;
  };
  if (!(await comes(isKnown, 20_000))) throw new Error(`${way}: cached prefixes are not known by ${wanted}`);
  return world;
}

function send(url: string, tenant: string, more: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "x-tenant": tenant };
    const sent = request(`${url}/v1/chat/completions`, { method: "POST", headers }, (response) => {
      const predicted = Number(response.headers[HEADER.predictedCachedTokens]);
      void json(response).then((body) => {
        const { usage } = body as { usage?: { prompt_tokens_details?: { cached_tokens?: number } } };
        if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}: ${JSON.stringify(body)}`));
        resolve({ predicted, cached: usage?.prompt_tokens_details?.cached_tokens ?? 0 });
      }, reject);
    });
    sent.once("error", reject).end(JSON.stringify({ model: MODEL, max_tokens: 1, ...more }));
  });
}

interface Count {
  sameHits: number;
  samePredicted: number;
  crossHits: number;
  crossPredicted: number;
}

const isHit = (tokens: number): number => (tokens > 0 ? 1 : 0);

async function pair(world: World, number: number, count: Count): Promise<void> {
  const text = `prompt ${number}: ${"the quick brown fox ".repeat(120)}`;
  const cross = async (tenant: string, more: object = {}): Promise<void> => {
    const { cached, predicted } = await world.send(tenant, text, more);
    count.crossHits += isHit(cached);
    count.crossPredicted += isHit(predicted);
  };
  await world.send("a", text);
  // An event is on its way a few milliseconds.
  await sleep(10);
  const again = await world.send("a", text);
  count.sameHits += isHit(again.cached);
  count.samePredicted += isHit(again.predicted);
  await cross("b");
  // What the engine got for the first tenant, letter by letter: more than anybody outside can know.
  await cross("c", { cache_salt: tenantSalt(KEY, "a", undefined) });
  await cross("d", { cache_salt: "a" });
  // Nobody's, and a name that tries to be two.
  await cross("");
  await cross('a",null', { cache_salt: "null" });
}

async function run(progress: Progress): Promise<ScoreResult> {
  const figures: Record<string, number> = { pairs: PAIRS };
  let met = true;
  for (const way of Object.keys(WAYS) as Way[]) {
    const world = await createWorld(way);
    const count: Count = { sameHits: 0, samePredicted: 0, crossHits: 0, crossPredicted: 0 };
    try {
      for (let number = 0; number < PAIRS; number++) await pair(world, number, count);
    } finally {
      await world.stop();
    }
    progress(`${way}: ${JSON.stringify(count)}`);
    const named = Object.entries<number>({ ...count });
    for (const [name, value] of named) figures[`${way}.${name}`] = value;
    met &&= count.sameHits === PAIRS && count.samePredicted === PAIRS && count.crossHits + count.crossPredicted === 0;
  }
  return { figures, met };
}

export const row: ScoreRow = {
  id: "R13",
  fault:
    "prompts of a tenant sent by five others, two of them with its salt forged, through a router in front of one engine",
  required: "the tenant itself hits every time; nobody else ever does, in the engine's words and in the router's",
  run,
};
