/** Endpoints from wherever they are found, joined with what their engines say of themselves. */
import type { Endpoint, EngineStats } from "../kinds/endpoint.ts";
import type { StaticEndpointConfig } from "../config/schema.ts";
import type { Scraped, Scraper } from "./scrape.ts";

/** Where nothing else is said. */
const ENGINE_OF: Readonly<Record<string, string>> = {
  mooncake: "vllm-ascend",
  "mooncake-layerwise": "vllm-ascend",
  sglang: "sglang",
};

/** Endpoints named in the configuration: always ready; that the engine is gone shows when a connection is refused. */
export const staticEndpoints = (entries: readonly StaticEndpointConfig[]): readonly Endpoint[] =>
  entries.map((entry) => ({
    id: `static:${entry.address}`,
    address: entry.address,
    name: entry.address,
    namespace: "",
    role: entry.role,
    service: entry.model,
    group: entry.group === "" ? entry.model : entry.group,
    cell: entry.cell,
    instance: entry.address,
    dataParallelRank: 0,
    models: [entry.model, ...entry.served],
    compatibility: {
      connector: entry.connector,
      engine: entry.engine || (ENGINE_OF[entry.connector] ?? "vllm"),
      tag: entry.compat,
      fabric: entry.fabric,
    },
    draining: false,
    ready: true,
    bootId: "static",
    ...(entry.kvPort === 0 ? {} : { kvPort: entry.kvPort }),
    ...(entry.ranks === 1 ? {} : { ranks: entry.ranks }),
    ...eventsOf(entry),
    ...(entry.domains.length === 0 ? {} : { domains: entry.domains }),
    ...(entry.prefillRunner === "sidecar" ? { prefillRunner: entry.prefillRunner } : {}),
  }));

function eventsOf({ eventsPort: port, replayPort, ranks }: StaticEndpointConfig): Pick<Endpoint, "events"> {
  if (port === 0) return {};
  return { events: { port, ranks, ...(replayPort === 0 ? {} : { replayPort }) } };
}

export interface Joined {
  readonly endpoint: Endpoint;
  readonly stats: EngineStats | undefined;
}

/**
 * The joined list. It is built anew only when the endpoints or something scraped changed, so that readers on the hot
 * path may hold on to it.
 */
export class EndpointDirectory {
  readonly #endpoints: () => readonly Endpoint[];
  readonly #scraper: Pick<Scraper, "of">;
  #source: readonly Endpoint[] | undefined;
  #scraped: readonly Scraped[] = [];
  #joined: readonly Joined[] = [];

  constructor(endpoints: () => readonly Endpoint[], scraper: Pick<Scraper, "of">) {
    this.#endpoints = endpoints;
    this.#scraper = scraper;
  }

  list(): readonly Joined[] {
    const source = this.#endpoints();
    if (source !== this.#source || this.#stale(source)) this.#rebuild(source);
    return this.#joined;
  }

  #stale(source: readonly Endpoint[]): boolean {
    return source.some(({ id }, index) => {
      const { stats, models, events } = this.#scraper.of(id);
      const before = this.#scraped[index];
      return stats !== before?.stats || models !== before?.models || events !== before.events;
    });
  }

  #rebuild(source: readonly Endpoint[]): void {
    this.#source = source;
    // Copied: the scraper's own entry changes under us.
    this.#scraped = source.map(({ id }) => ({
      stats: this.#scraper.of(id).stats,
      models: this.#scraper.of(id).models,
      events: this.#scraper.of(id).events,
    }));
    this.#joined = source.map((endpoint, index) => {
      const { stats, models = [], events } = this.#scraped[index] ?? {};
      const told = endpoint.events ?? events ?? undefined;
      const known = told === undefined ? {} : { events: told };
      return { endpoint: { ...endpoint, models: union(endpoint.models, models), ...known }, stats };
    });
  }
}

const union = (a: readonly string[], b: readonly string[]): readonly string[] => [...new Set([...a, ...b])];
