/**
 * The router of the benchmark: the real one, over static endpoints without engines, with an index that is filled.
 * Composed as the router role does it (`src/cli/roles/router.ts`), but for scraping: there is nothing to scrape.
 */
import { loadConfig } from "../../../src/config/load.ts";
import type { Config } from "../../../src/config/schema.ts";
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import type { Endpoint } from "../../../src/kinds/endpoint.ts";
import type { EngineClient, Log, Metrics, Timers } from "../../../src/ports.ts";
import type { KnownEndpoint } from "../../../src/router/directory.ts";
import type { RequestRouter } from "../../../src/router/exchange.ts";
import { Housekeeping } from "../../../src/router/housekeeping.ts";
import { createBlockHasher, type BlockHasher } from "../../../src/router/kv/blocks.ts";
import type { PrefixIndex } from "../../../src/router/kv/index.ts";
import { geometryFor, HistoryIndex } from "../../../src/router/kv/history.ts";
import { LoadBook } from "../../../src/router/load.ts";
import { createRouter } from "../../../src/router/route.ts";
import { indexCapacity } from "../../../src/router/select.ts";
import { compatible } from "../../../src/profiles/connectors.ts";
import { systemClock, systemRandom } from "../../../src/telemetry/process.ts";
import { addressOf, BLOCK_BYTES, Content, fill, MODEL, type ContentSpec } from "./content.ts";

/** Blocks that the index may hold over all endpoints, for each that it holds at first: room for what the load brings. */
const ROOM = 4;
const MIB = 2 ** 20;

export const capacityBlocks = ({ blocks, endpoints }: ContentSpec): number => Math.ceil((ROOM * blocks) / endpoints);

/**
 * What the peer's formula has none of, and its constants: without a price for the tokens that a step reads, and not learned.
 * The router still multiplies by zero.
 */
const COST = { learn: false, decodeMsPerKvToken: 0, decodeMu: 16, decodeBeta: 1 };

/** Production's defaults, but for the size of the index, the endpoints and what the peer lacks. */
export function benchConfig(spec: ContentSpec): Config["router"] {
  const statics = Array.from({ length: spec.endpoints }, (_, endpoint) => ({
    address: addressOf(endpoint),
    role: "both",
    model: MODEL,
  }));
  const { bytesPerToken } = loadConfig({}).router.index;
  const tokens = Math.ceil((capacityBlocks(spec) * BLOCK_BYTES) / bytesPerToken);
  // 16 bytes a slot, three quarters of them filled, an eighth of the memory for rows; beyond 1 M blocks no room to spare.
  const maxBytes = Math.max(64 * MIB, spec.blocks * (spec.blocks > MIB ? 64 : 256));
  const index = { blockBytes: BLOCK_BYTES, capacityTokens: Math.max(1024, tokens), maxBytes };
  return loadConfig({ text: JSON.stringify({ router: { endpoints: { static: statics }, index, cost: COST } }) }).router;
}

export interface World {
  readonly config: Config["router"];
  readonly router: RequestRouter;
  readonly index: PrefixIndex;
  readonly hasher: BlockHasher;
  readonly content: Content;
  /** To be called every second. */
  tidy(): void;
}

/** @param requests where it is given, requests beyond this number will not be made (`fill`) */
export function createWorld(
  spec: ContentSpec,
  ports: { timers: Timers; metrics: Metrics; log: Log },
  requests?: number,
): World {
  const config = benchConfig(spec);
  const endpoints = staticEndpoints(config.endpoints.static);
  const known: readonly KnownEndpoint[] = endpoints.map((endpoint) => ({ endpoint, stats: undefined }));
  const loads = new LoadBook();
  const { maxBytes, maxEndpoints } = config.index;
  const index = new HistoryIndex(
    geometryFor(maxBytes, maxEndpoints),
    indexCapacity({ stats: undefined }, config.index),
    (blocks) => ports.metrics.count("tandem_router_index_full_total", {}, blocks),
  );
  const hasher = createBlockHasher();
  const content = new Content(spec);
  const numbers = requests === undefined ? undefined : Array.from({ length: requests }, (_, request) => request);
  fill(content, index, {
    hasher,
    idOf: (endpoint) => endpoints[endpoint]?.id ?? "",
    ...(numbers === undefined ? {} : { asked: new Set(numbers.map((request) => content.conversation(request))) }),
  });
  const housekeeping = new Housekeeping({ index, loads, config, metrics: ports.metrics });
  const router = createRouter({
    ...{ config, loads, index, hasher, client: NO_ENGINES, ...ports },
    directory: { list: () => known },
    clock: systemClock,
    random: systemRandom,
    incompatible: (prefill: Endpoint, decode: Endpoint) => compatible(prefill.compatibility, decode.compatibility),
  });
  return { config, router, index, hasher, content, tidy: () => housekeeping.tidy(known) };
}

/** Role `both` prefills where it decodes: no leg is ever sent. */
const NO_ENGINES: EngineClient = { send: () => Promise.resolve({ kind: "refused", detail: "no engines" }) };
