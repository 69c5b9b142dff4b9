/**
 * From the facts of a request to a pick: the prompt in block keys, the endpoints that may serve it now, the cheapest.
 */
import type { Config } from "../config/schema.ts";
import type { Endpoint, EngineStats } from "../kinds/endpoint.ts";
import type { Clock } from "../ports.ts";
import type { Problem } from "./answers.ts";
import { fleetOf, type Directory, type Fleet, type KnownEndpoint } from "./directory.ts";
import type { BlockHasher, BlockKeys } from "./kv/blocks.ts";
import type { PrefixIndex } from "./kv/index.ts";
import type { LoadBook } from "./load.ts";
import { pick, type Candidate, type Pick } from "./pick/pick.ts";
import type { RequestFacts } from "./request/facts.ts";

export interface SelectDependencies {
  readonly config: Config["router"];
  readonly directory: Directory;
  readonly loads: LoadBook;
  readonly index: PrefixIndex;
  readonly hasher: BlockHasher;
  readonly clock: Clock;
  /** Undefined where KV blocks can travel from the first to the second, else the reason why not. */
  readonly incompatible: (prefill: Endpoint, decode: Endpoint) => string | undefined;
}

/** A prompt in the units of the pick. */
export interface Prompt {
  readonly keys: BlockKeys;
  readonly tokens: number;
}

export interface Selection {
  readonly prompt: Prompt;
  readonly pick: Pick;
}

export const isRefused = (value: Selection | Problem): value is Problem => "status" in value;

export function select(deps: SelectDependencies, facts: RequestFacts, namespace?: string): Selection | Problem {
  const fleet = fleetOf(deps.directory.list(), facts.model, namespace);
  const problem = fleetProblem(deps, fleet, facts.model);
  if (problem !== undefined) return problem;
  const prompt = promptOf(deps, facts);
  const chosen = pick({
    prefill: facts.single ? candidates(deps, fleet.prefill, prompt) : [],
    decode: candidates(deps, withRoom(deps, fleet.decode), prompt),
    promptTokens: prompt.tokens,
    outputTokens: facts.maxTokens ?? deps.config.cost.decodeTokens,
    constants: deps.config.cost,
    policy: deps.config.prefill.policy,
    incompatible: deps.incompatible,
  });
  return chosen === undefined ? noEndpoint(facts.model) : { prompt, pick: chosen };
}

function promptOf({ hasher, config }: SelectDependencies, facts: RequestFacts): Prompt {
  const { blockBytes, bytesPerToken } = config.index;
  return {
    keys: hasher.keys(facts.prompt, blockBytes, facts.model),
    tokens: Math.max(1, Math.ceil(facts.promptBytes / bytesPerToken)),
  };
}

/** Engines always compute the last token themselves, so a prompt is never cached whole. */
function cachedTokens({ index, config }: SelectDependencies, endpoint: string, prompt: Prompt): number {
  const { blockBytes, bytesPerToken } = config.index;
  return Math.min(prompt.tokens - 1, Math.floor((index.match(endpoint, prompt.keys) * blockBytes) / bytesPerToken));
}

function fleetProblem(deps: SelectDependencies, fleet: Fleet, model: string): Problem | undefined {
  if (!fleet.modelKnown)
    return { status: 404, reason: "ModelUnknown", message: `the model \`${model}\` does not exist`, param: "model" };
  if (fleet.ambiguous) return ambiguous(model);
  if (fleet.decode.length === 0) return noEndpoint(model);
  if (withRoom(deps, fleet.decode).length > 0) return undefined;
  const message = `every endpoint of \`${model}\` has ${deps.config.maxInflightPerEndpoint} requests`;
  return { status: 429, reason: "Saturated", message };
}

const ambiguous = (model: string): Problem => ({
  status: 404,
  reason: "ModelAmbiguous",
  message: `the model \`${model}\` is served in several namespaces, and the route of this request names none`,
  param: "model",
});

const noEndpoint = (model: string): Problem => ({
  status: 503,
  reason: "NoEndpoint",
  message: `no endpoint of \`${model}\` can take requests now`,
});

const withRoom = ({ loads, config }: SelectDependencies, known: readonly KnownEndpoint[]): readonly KnownEndpoint[] =>
  known.filter(({ endpoint }) => loads.of(endpoint.id).inflight < config.maxInflightPerEndpoint);

/** Endpoints that did not just refuse a connection; all of them where every one did. */
function unshunned({ loads, clock }: SelectDependencies, known: readonly KnownEndpoint[]): readonly KnownEndpoint[] {
  const now = clock.monotonic();
  const left = known.filter(({ endpoint }) => loads.of(endpoint.id).shunnedUntil <= now);
  return left.length > 0 ? left : known;
}

/** After so many missed reads an engine's numbers say nothing about now; our own counts still do. */
const STALE_READS = 3;

function fresh({ config, clock }: SelectDependencies, stats: EngineStats | undefined): EngineStats | undefined {
  const maxAgeMs = STALE_READS * config.scrapeIntervalMs + config.scrapeTimeoutMs;
  return stats !== undefined && clock.monotonic() - stats.at <= maxAgeMs ? stats : undefined;
}

const candidates = (deps: SelectDependencies, known: readonly KnownEndpoint[], prompt: Prompt): Candidate[] =>
  unshunned(deps, known).map(({ endpoint, stats }) => ({
    endpoint,
    stats: fresh(deps, stats),
    load: deps.loads.of(endpoint.id),
    cachedTokens: cachedTokens(deps, endpoint.id, prompt),
  }));

/**
 * No index of one endpoint grows beyond this many blocks, whatever its engine claims: 1 M blocks of 256 bytes stand for
 * 64 M tokens, ten times the largest KV cache, and cost about 100 MB.
 */
const MAX_INDEX_BLOCKS = 2 ** 20;

/** Capacity of an engine in blocks of the index, from what its metrics tell. */
export function indexCapacity(known: Omit<KnownEndpoint, "endpoint">, index: Config["router"]["index"]): number {
  const { stats } = known;
  const tokens =
    stats?.blocks !== undefined && stats.blockSize !== undefined
      ? stats.blocks * stats.blockSize
      : index.capacityTokens;
  const blocks = Math.floor((tokens * index.bytesPerToken) / index.blockBytes);
  return Math.min(MAX_INDEX_BLOCKS, Math.max(1, blocks));
}
