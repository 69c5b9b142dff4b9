/** Engines that publish, as endpoints; some go on the way, and others come in their place. */
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Endpoint } from "../../../src/kinds/endpoint.ts";
import type { KnownEndpoint } from "../../../src/router/directory.ts";
import { freePorts } from "../../support/ports.ts";
import { BLOCK_TOKENS, Rank, type Blocks } from "./fault-rank.ts";

export interface FleetOptions {
  readonly engines: number;
  readonly ranks: number;
  readonly replays: boolean;
  /** Blocks that each rank's cache holds. */
  readonly capacity: number;
  readonly random: () => number;
}

export const MODEL = "m";
export const OTHER_MODEL = "other";

export class Engine {
  readonly endpoint: Endpoint;
  readonly ranks: readonly Rank[];
  readonly #random: () => number;

  constructor(endpoint: Endpoint, ranks: readonly Rank[], random: () => number) {
    this.endpoint = endpoint;
    this.ranks = ranks;
    this.#random = random;
  }

  get isUp(): boolean {
    return this.ranks.every(({ isUp }) => isUp);
  }

  /** Tokens of a prompt that it has cached, the mean of its ranks: which of them a request meets it decides itself. */
  cached(blocks: Blocks): number {
    const sum = this.ranks.reduce((depths, rank) => depths + rank.depth(blocks), 0);
    return BLOCK_TOKENS * Math.floor(sum / this.ranks.length);
  }

  serve(blocks: Blocks): void {
    this.ranks[Math.floor(this.#random() * this.ranks.length)]?.serve(blocks);
  }

  /** When the first of these blocks that is missing went from one of its ranks; undefined where it never was there. */
  goneAt(blocks: Blocks): number | undefined {
    const times = this.ranks.flatMap((rank) => rank.goneAt.get(blocks[rank.depth(blocks)] ?? -1) ?? []);
    return times.length === 0 ? undefined : Math.max(...times);
  }

  async start(): Promise<void> {
    await Promise.all(this.ranks.map((rank) => rank.start()));
  }

  stop(): void {
    for (const rank of this.ranks) rank.stop();
  }
}

export class Fleet {
  readonly engines: Engine[] = [];
  /** The same array until something changes, as the router's own. */
  known: readonly KnownEndpoint[] = [];
  readonly #options: FleetOptions;
  #strangers: readonly KnownEndpoint[] = [];

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** Those that serve the model that is asked for. */
  get serving(): readonly Engine[] {
    return this.engines.filter(({ endpoint }) => endpoint.models.includes(MODEL));
  }

  async start(): Promise<void> {
    const { engines } = this.#options;
    for (let at = 0; at <= engines; at++)
      await this.#join(await this.#create(at, at === engines ? OTHER_MODEL : MODEL));
  }

  stop(): void {
    for (const engine of this.engines) engine.stop();
  }

  /** Takes an endpoint from the list; its engine goes on publishing until it is stopped. */
  leave(engine: Engine): void {
    this.engines.splice(this.engines.indexOf(engine), 1);
    this.list();
  }

  /** Another engine at the same address and ports, as a Pod that came in its place. */
  async replace({ endpoint, ranks }: Engine): Promise<void> {
    const id = `${endpoint.id}+`;
    const engine = new Engine({ ...endpoint, id, bootId: id }, ranks, this.#options.random);
    await this.#join(engine);
  }

  /** An endpoint more that is none of ours to run. */
  add(endpoint: Endpoint): void {
    this.#strangers = [...this.#strangers, { endpoint, stats: undefined }];
    this.list();
  }

  list(): void {
    const stats = { at: Infinity, running: 0, waiting: 0, kvUsage: 0, blockSize: BLOCK_TOKENS };
    const blocks = this.#options.capacity;
    const engines = this.engines.map(({ endpoint }) => ({ endpoint, stats: { ...stats, blocks } }));
    this.known = [...engines, ...this.#strangers];
  }

  async #join(engine: Engine): Promise<void> {
    await engine.start();
    this.engines.push(engine);
    this.list();
  }

  async #create(at: number, model: string): Promise<Engine> {
    const { ranks: count, replays, capacity, random } = this.#options;
    const [port, replayPort] = [await run(count), await run(count)];
    const ranks = Array.from(
      { length: count },
      (_, rank) => new Rank({ ...{ capacity, replays, random }, port: port + rank, replayPort: replayPort + rank }),
    );
    return new Engine(endpointOf(`127.0.0.1:${9000 + at}`, model, { port, count, replayPort, replays }), ranks, random);
  }
}

/** Ports one behind another. */
async function run(count: number): Promise<number> {
  for (;;) {
    const ports = await freePorts(count);
    const [first = 0] = ports;
    if (ports.every((port, at) => port === first + at)) return first;
  }
}

export function endpointOf(
  address: string,
  model: string,
  events: { port: number; count?: number; replayPort?: number; replays?: boolean },
): Endpoint {
  const { port: eventsPort, count: ranks = 1, replayPort = 0, replays = false } = events;
  const entry = { address, model, role: "both", eventsPort, ranks, ...(replays ? { replayPort } : {}) };
  const text = JSON.stringify({ router: { endpoints: { static: [entry] } } });
  const [endpoint] = staticEndpoints(loadConfig({ text }).router.endpoints.static);
  if (endpoint === undefined) throw new Error("an entry is an endpoint");
  return endpoint;
}
