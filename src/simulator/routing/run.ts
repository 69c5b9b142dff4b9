/**
 * A workload through routers and engines in virtual time: what clients see of it. Pure: a seed in, figures out.
 *
 * Engines are `EngineCore`s with a prefix cache and continuous batching; routers are the real code, fed with bodies. Each
 * request comes to one of the routers by chance, as from a proxy that knows nothing of conversations.
 */
import type { Config } from "../../config/schema.ts";
import type { Endpoint } from "../../kinds/endpoint.ts";
import type { Log, Metrics } from "../../ports.ts";
import type { KnownEndpoint } from "../../router/directory.ts";
import type { Ticket } from "../../router/exchange.ts";
import { EngineCore, type EngineMonitor } from "../engine/engine.ts";
import { H200_LLAMA_8B } from "../engine/timing.ts";
import { VirtualTime } from "../engine/virtual-time.ts";
import { connectReplicas, createReplica, type Replica } from "./replica.ts";
import { seededRandom } from "../random.ts";
import { BLOCK_TOKENS, type SimulatedRequest } from "./workload.ts";

export interface RoutingRun {
  /** `router` of the configuration; its index is to have the capacity of the engines. */
  readonly config: Config["router"];
  readonly engines: number;
  readonly routers: number;
  /** Milliseconds from a push to its arrival. */
  readonly deltaMs: number;
  /** What routers tell one another: the work that they have on engines, and what they sent where. */
  readonly shares: { readonly load: boolean; readonly index: boolean };
  readonly seed: number;
  readonly requests: readonly SimulatedRequest[];
  /** Requests before this time warm up, and do not count. */
  readonly fromMs: number;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface RoutingResult {
  readonly ttftMs: readonly number[];
  /** Cached prompt tokens of all prompt tokens. */
  readonly hitRate: number;
}

const MODEL = "m";
const BYTES_PER_TOKEN = 4;
/** Of vLLM. */
const BATCH = { maxSequences: 256, tokenBudget: 8192 } as const;
const CAPACITY_BLOCKS = Math.floor(H200_LLAMA_8B.capacityTokens / BLOCK_TOKENS);
export const CAPACITY_TOKENS = CAPACITY_BLOCKS * BLOCK_TOKENS;

const SILENT: EngineMonitor = {
  ...{ admitted: () => undefined, transferred: () => undefined, firstToken: () => undefined },
  ...{ nextToken: () => undefined, preempted: () => undefined, finished: () => undefined, aborted: () => undefined },
};

const endpointOf = (number: number): Endpoint => ({
  ...{ id: `engine-${number}`, address: `127.0.0.1:${9000 + number}`, name: `engine-${number}`, namespace: "" },
  ...{ role: "both", service: MODEL, group: MODEL, cell: "0", instance: `engine-${number}`, dataParallelRank: 0 },
  ...{ models: [MODEL], draining: false, ready: true, bootId: "1" },
  compatibility: { connector: "none", engine: "vllm", tag: "", fabric: "" },
});

/** Text of a block of the workload: as many bytes as its tokens stand for, no two blocks alike. */
const textOf = (block: number): string =>
  `${block} `.repeat(BLOCK_TOKENS * BYTES_PER_TOKEN).slice(0, BLOCK_TOKENS * BYTES_PER_TOKEN);

const bodyOf = ({ blocks, outputTokens }: SimulatedRequest): Buffer =>
  Buffer.from(
    `{"model":"${MODEL}","stream":true,"max_tokens":${outputTokens},"prompt":"${blocks.map(textOf).join("")}"}`,
  );

export class RoutingSimulation {
  readonly #run: RoutingRun;
  readonly #time = new VirtualTime();
  readonly #engines: readonly EngineCore[];
  readonly #endpoints: readonly Endpoint[];
  readonly #replicas: readonly Replica[];
  #known: readonly KnownEndpoint[] = [];
  readonly #ttftMs: number[] = [];
  #promptTokens = 0;
  #cachedTokens = 0;

  constructor(run: RoutingRun) {
    this.#run = run;
    const settings = { profile: H200_LLAMA_8B, blockSize: BLOCK_TOKENS, capacityBlocks: CAPACITY_BLOCKS, ...BATCH };
    const remote = { pull: () => undefined, drop: () => undefined };
    const ports = { clock: this.#time, timers: this.#time, remote, monitor: SILENT };
    this.#engines = Array.from({ length: run.engines }, () => new EngineCore(settings, ports));
    this.#endpoints = this.#engines.map((_, number) => endpointOf(number));
    this.#scrape();
    this.#time.every(run.config.scrapeIntervalMs, () => this.#scrape());
    this.#replicas = Array.from({ length: run.routers }, (_, number) => this.#replica(number));
    connectReplicas(this.#replicas, this.#time, { deliveryMs: run.deltaMs, withLoads: run.shares.load });
  }

  async result(): Promise<RoutingResult> {
    const random = seededRandom(this.#run.seed + 1_000_003);
    for (const [number, request] of this.#run.requests.entries()) {
      this.#time.advance(request.at - this.#time.monotonic());
      await this.#send(number, request, Math.floor(random.next() * this.#replicas.length));
    }
    while (this.#engines.some((engine) => engine.load().running + engine.load().waiting > 0)) this.#time.advance(1000);
    return { ttftMs: this.#ttftMs, hitRate: this.#cachedTokens / Math.max(1, this.#promptTokens) };
  }

  #replica(number: number): Replica {
    const { config, log, metrics, seed, shares } = this.#run;
    const ports = { time: this.#time, random: seededRandom(seed + 7 * (number + 1)), log, metrics };
    return createReplica(config, { list: () => this.#known }, ports, shares.index);
  }

  /** What engines' metrics say, as every router reads it. */
  #scrape(): void {
    this.#known = this.#endpoints.map((endpoint, number) => {
      const { running = 0, waiting = 0, usedBlocks = 0 } = this.#engines[number]?.load() ?? {};
      const at = this.#time.monotonic();
      return { endpoint, stats: { at, running, waiting, kvUsage: usedBlocks / CAPACITY_BLOCKS } };
    });
  }

  async #send(number: number, request: SimulatedRequest, replica: number): Promise<void> {
    const head = { method: "POST", path: "/v1/completions", headers: [["content-type", "application/json"]] as const };
    const begun = this.#replicas[replica]?.router.begin({ ...head, body: bodyOf(request) });
    const routed = await begun?.routed;
    if (begun === undefined || routed?.kind !== "forward") throw new Error(`request ${number} was not routed`);
    const engine = this.#endpoints.findIndex(({ address }) => address === routed.destination);
    this.#serve(engine, `${number}`, { request, ticket: begun.ticket });
  }

  #serve(engine: number, id: string, { request, ticket }: { request: SimulatedRequest; ticket: Ticket }): void {
    const { at, blocks, outputTokens } = request;
    const counts = at >= this.#run.fromMs;
    const promptTokens = blocks.length * BLOCK_TOKENS;
    const spec = { id, promptTokens, outputTokens, keys: blocks, digest: 0, keep: false } as const;
    this.#engines[engine]?.submit(
      { ...spec, leg: "decode", finish: "stop" },
      {
        token: (count) => {
          if (count > 1) return;
          ticket.responseStarted();
          ticket.firstToken();
          if (counts) this.#ttftMs.push(this.#time.monotonic() - at);
        },
        finished: ({ cachedTokens }) => {
          ticket.finish();
          if (counts) this.#promptTokens += promptTokens;
          if (counts) this.#cachedTokens += cachedTokens;
        },
      },
    );
  }
}
