/**
 * Tandem itself: the real router in virtual time, from the bytes of a request to its destination, its prefill legs
 * included. Nothing here decides.
 */
import type { Config } from "../../../config/schema.ts";
import type { Endpoint } from "../../../kinds/endpoint.ts";
import type { EngineClient, EngineReply, EngineRequest, Log, Metrics } from "../../../ports.ts";
import type { KnownEndpoint } from "../../../router/directory.ts";
import type { Forward, Ticket } from "../../../router/exchange.ts";
import { seededRandom } from "../../random.ts";
import type { RemoteSource, SequenceEnd } from "../../engine/sequence.ts";
import type { Fleet } from "../fleet.ts";
import type { Policy, Route, World } from "../policy.ts";
import { connectReplicas, createReplica } from "../replica.ts";
import type { SimulatedRequest } from "../workload.ts";

export interface TandemOptions {
  readonly config: Config["router"];
  readonly log: Log;
  readonly metrics: Metrics;
  /** Replicas of the router; default one. */
  readonly routers?: number;
  /** What they tell one another, each message that long on its way. */
  readonly shares?: { readonly load: boolean; readonly index: boolean; readonly deltaMs: number };
}

const MODEL = "m";
const BYTES_PER_TOKEN = 4;
const HEAD = { method: "POST", path: "/v1/completions", headers: [["content-type", "application/json"]] } as const;

export function tandem(options: TandemOptions, world: World): Policy {
  const { fleet, time, random } = world;
  const endpoints = fleet.engines.map(({ number, role }) => endpointOf(number, role, fleet));
  let known: readonly KnownEndpoint[] = read(endpoints, world);
  time.every(options.config.scrapeIntervalMs, () => (known = read(endpoints, world)));
  const legs = new Legs(fleet);
  const shares = options.shares ?? { load: true, index: true, deltaMs: 0 };
  const replicas = Array.from({ length: options.routers ?? 1 }, (_, number) => {
    const ports = { ...{ time, random: seededRandom(random.next() * 2 ** 31 + number) }, ...options, client: legs };
    return createReplica({ list: () => known }, ports, shares.index);
  });
  connectReplicas(replicas, time, { deliveryMs: shares.deltaMs, withLoads: shares.load });
  return async (request) => {
    const replica = replicas[Math.floor(random.next() * replicas.length)];
    if (replica === undefined) throw new RangeError("a router is needed");
    const body = legs.bodyOf(request);
    const { ticket, routed } = replica.router.begin({ ...HEAD, body });
    const forward = await routed;
    if (forward.kind !== "forward") throw new Error(`not routed: ${forward.reason}`);
    return routeOf(forward, ticket, { endpoints, legs, request });
  };
}

function routeOf(
  { destination, body }: Forward,
  ticket: Ticket,
  { endpoints, legs, request }: { endpoints: readonly Endpoint[]; legs: Legs; request: SimulatedRequest },
): Route {
  const engine = endpoints.findIndex(({ address }) => address === destination);
  const remote = legs.take(body);
  return {
    engine,
    ...(remote === undefined ? {} : { remote }),
    firstToken: () => {
      ticket.responseStarted();
      ticket.firstToken();
    },
    finished: ({ cachedTokens }: SequenceEnd) => {
      ticket.usage({ promptTokens: request.promptTokens, cachedTokens, completionTokens: request.outputTokens });
      ticket.finish();
    },
  };
}

function endpointOf(number: number, role: Endpoint["role"], { model }: Fleet): Endpoint {
  const connector = role === "both" ? "none" : "nixl";
  return {
    ...{ id: `engine-${number}`, address: `127.0.0.1:${9000 + number}`, name: `engine-${number}`, namespace: "" },
    ...{ role, service: MODEL, group: MODEL, cell: "0", instance: `engine-${number}`, dataParallelRank: 0 },
    ...{ models: [MODEL], draining: false, ready: true, bootId: "1" },
    compatibility: { connector, engine: "vllm", tag: "", fabric: "", blockSize: model.blockTokens },
  };
}

/** What engines' metrics say now, as every replica reads it. */
const read = (endpoints: readonly Endpoint[], { fleet, time }: World): readonly KnownEndpoint[] =>
  endpoints.map((endpoint, number) => {
    const { running, waiting, usedBlocks, capacityBlocks: blocks } = fleet.signals(number);
    const numbers = { running, waiting, kvUsage: usedBlocks / blocks, blocks, blockSize: fleet.model.blockTokens };
    return { endpoint, stats: { at: time.monotonic(), ...numbers } };
  });

/** Prefill legs: the bytes that the router sends, as requests to simulated engines. */
class Legs implements EngineClient {
  readonly #fleet: Fleet;
  /** Requests that have no answer yet, by the number at the start of their prompt. */
  readonly #requests = new Map<string, SimulatedRequest>();
  readonly #ended = new Map<string, NonNullable<Route["remote"]>>();
  #number = 0;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  /** The prompt is text, as many bytes as its tokens stand for; which request it is, is in `user`. */
  bodyOf(request: SimulatedRequest): Buffer {
    const id = String(this.#number++);
    if (this.#fleet.prefillers.length > 0) this.#requests.set(id, request);
    const { blockTokens } = this.#fleet.model;
    const blocks = request.blocks.map((block) => textOf(block, blockTokens)).join("");
    const text = blocks.slice(0, request.promptTokens * BYTES_PER_TOKEN);
    return Buffer.from(`{"model":"${MODEL}","user":"${id}","stream":true,"prompt":"${text}"}`);
  }

  send({ address, body }: EngineRequest): Promise<EngineReply> {
    const engine = Number(address.slice(address.lastIndexOf(":") + 1)) - 9000;
    const id = memberOf(Buffer.from(body ?? []), "user");
    const request = this.#requests.get(id);
    if (request === undefined) throw new Error(`a leg of request ${id}, which nobody sent`);
    return new Promise((resolve) => {
      this.#fleet.prefill(engine, request, (source, cachedTokens) => {
        this.#ended.set(source.requestId, { source, cachedTokens });
        resolve({ kind: "answer", status: 200, headers: {}, body: answerOf(source, request, cachedTokens) });
      });
    });
  }

  /** What the decode leg's body names, if anything. */
  take(body: Buffer): Route["remote"] {
    if (this.#fleet.prefillers.length === 0) return undefined;
    this.#requests.delete(memberOf(body, "user"));
    const id = memberOf(body, "remote_request_id");
    const remote = this.#ended.get(id);
    this.#ended.delete(id);
    return remote;
  }
}

const answerOf = (source: RemoteSource, { promptTokens }: SimulatedRequest, cachedTokens: number): Buffer =>
  Buffer.from(
    JSON.stringify({
      usage: { prompt_tokens: promptTokens, prompt_tokens_details: { cached_tokens: cachedTokens } },
      kv_transfer_params: {
        ...{ do_remote_prefill: true, do_remote_decode: false, remote_block_ids: [[0]] },
        ...{ remote_engine_id: source.engineId, remote_request_id: source.requestId },
        ...{ remote_host: source.host, remote_port: source.port },
      },
    }),
  );

/** A string member of a body that the router wrote; empty where it has none. */
function memberOf(body: Buffer, key: string): string {
  const name = `"${key}":"`;
  const at = body.indexOf(name);
  return at < 0 ? "" : body.toString("latin1", at + name.length, body.indexOf('"', at + name.length));
}

/** Text of a block: no two are alike. */
function textOf(block: number, tokens: number): string {
  const bytes = tokens * BYTES_PER_TOKEN;
  const word = `${block} `;
  return word.repeat(Math.ceil(bytes / word.length)).slice(0, bytes);
}
