/**
 * From the facts of a request to a pick: the prompt in block keys, the endpoints that may serve it now, the cheapest.
 */
import type { Config } from "../config/schema.ts";
import type { Endpoint, EngineStats } from "../kinds/endpoint.ts";
import type { Clock } from "../ports.ts";
import type { Problem } from "./answers.ts";
import type { Callbacks } from "./disagg/callbacks.ts";
import { prefillsAlone, splits } from "./disagg/connectors.ts";
import { fleetOf, idsOf, onlyFleet, onlyModel, type Directory, type Fleet, type KnownEndpoint } from "./directory.ts";
import type { BlockHasher } from "./kv/blocks.ts";
import type { EventMatches } from "./kv/events/index.ts";
import type { PrefixIndex, PrefixMatches } from "./kv/index.ts";
import type { TokenLookup } from "./kv/joint.ts";
import type { HitTrust } from "./kv/trust.ts";
import type { LoadBook } from "./load.ts";
import type { CostConstants } from "./pick/cost.ts";
import { serviceOf, type CostLearner } from "./pick/learn.ts";
import { pick, type Candidate, type Pick, type PickInput } from "./pick/pick.ts";
import { fleetProblem, UNNAMED, unpaired, unshunned, withRoom } from "./room.ts";
import { isScoped, withinScope, type Scope } from "./scope.ts";
import { promptOf, type Prompt } from "./prompt.ts";
import type { RequestFacts } from "./request/facts.ts";
import type { Wakeable } from "./statistics/wakeable.ts";
import type { TokenRates } from "./tokenize/rates.ts";
import type { PromptTokens } from "./tokenize/tokens.ts";

export interface SelectDependencies {
  readonly config: Config["router"];
  readonly directory: Directory;
  readonly loads: LoadBook;
  readonly index: PrefixIndex;
  readonly hasher: BlockHasher;
  readonly clock: Clock;
  /** Undefined where KV blocks can travel from the first to the second, else the reason why not. */
  readonly incompatible: (prefill: Endpoint, decode: Endpoint) => string | undefined;
  /** Where decode engines call back for their prefill; absent where none can. */
  readonly callbacks?: Callbacks;
  /** Bytes of a token, as far as answers have told. */
  readonly rates?: TokenRates;
  /** Constants of the cost, as far as answers have told; absent where they are as configured. */
  readonly learner?: CostLearner;
  /** How far engines hold what they were sent; absent: all of it is believed. */
  readonly trust?: HitTrust;
  /** What engines tell of their caches; absent where they are not asked. */
  readonly events?: TokenLookup;
  /** Groups without endpoints that are started when they are asked for. */
  readonly wakeable?: Wakeable;
}

export interface Selection {
  readonly prompt: Prompt;
  /** What the pick was made from; its loads go on changing. */
  readonly input: PickInput;
  readonly pick: Pick;
  /** Why a decode endpoint prefills by itself, where it does. */
  readonly local?: LocalReason;
}

/** `unsplit`: an API, a batch, several answers, a forced call or scores of the prompt, which engines cannot split. */
export type LocalReason = "cheaper" | "noPartner" | "unsplit";

export const isRefused = (value: Selection | Problem): value is Problem => "status" in value;

/** @param tokens of the prompt, where they are known: then their number is no estimate */
export function select(
  deps: SelectDependencies,
  facts: RequestFacts,
  scope: Scope = {},
  tokens?: PromptTokens,
): Selection | Problem {
  const { namespace } = scope;
  const served = servedBy(deps, facts.model, namespace);
  if (served === undefined) return UNNAMED;
  const { model, fleet } = served;
  const scoped = fleet.decode.length === 0 ? fleet.decode : withinScope(fleet.decode, scope, deps.config);
  if (!isScoped(scoped)) return scoped;
  const problem = fleetProblem(deps, { ...fleet, decode: scoped }, model);
  if (problem !== undefined) return problem;
  const prompt = promptOf(deps, facts, model, tokens);
  const matches = deps.index.match(prompt.keys);
  const { adapter, salt, tenant } = facts;
  const events = tokens && deps.events?.ofTokens(prompt.keys, tokens.ids, { model, adapter, salt, tenant });
  return choose(deps, facts, { fleet, decode: scoped, held: { prompt, matches, events, salted: salt !== undefined } });
}

/** A prompt, and who may serve it. */
interface Choice {
  readonly fleet: Fleet;
  readonly decode: readonly KnownEndpoint[];
  readonly held: Held;
}

function choose(deps: SelectDependencies, facts: RequestFacts, { fleet, decode, held }: Choice): Selection | Problem {
  const { prompt } = held;
  const splitting = splittable(deps, facts, fleet.prefill);
  const constants = constantsOf(deps, decode);
  const input: PickInput = {
    prefill: unshunned(deps, candidates(deps, splitting, held)),
    decode: unshunned(deps, withRoom(deps, candidates(deps, decode, held))),
    promptTokens: prompt.tokens,
    outputTokens: facts.maxTokens ?? constants.decodeTokens,
    constants,
    policy: deps.config.prefill.policy,
    fallbacks: deps.config.fallbacks,
    incompatible: deps.incompatible,
    ...(facts.api.work === "text" ? {} : { alone: prefillsAlone }),
  };
  const chosen = pick(input);
  if (chosen === undefined) return unpaired(prompt.model);
  const local = localReason(chosen, fleet.prefill.length > 0 && splitting.length === 0);
  return { prompt, input, pick: chosen, ...(local === undefined ? {} : { local }) };
}

/** The prefill endpoints that can serve half of the request: the very list where all can, which readers know again. */
function splittable(
  { callbacks }: SelectDependencies,
  facts: RequestFacts,
  known: readonly KnownEndpoint[],
): readonly KnownEndpoint[] {
  const can = ({ endpoint }: KnownEndpoint): boolean => splits(facts, endpoint, callbacks !== undefined);
  if (known.every(can)) return known;
  const left = known.filter(can);
  return left.length === 0 ? NONE : left;
}

const NONE: readonly KnownEndpoint[] = [];

function constantsOf({ learner, config }: SelectDependencies, [first]: readonly KnownEndpoint[]): CostConstants {
  return first === undefined ? config.cost : (learner?.constantsOf(serviceOf(first.endpoint)) ?? config.cost);
}

function localReason({ decode, prefill, verdict }: Pick, unsplit: boolean): LocalReason | undefined {
  if (prefill.length > 0 || decode.endpoint.role !== "decode") return undefined;
  if (verdict.numbers?.["remoteMs"] !== undefined) return "cheaper";
  return unsplit ? "unsplit" : "noPartner";
}

interface Served {
  readonly model: string;
  readonly fleet: Fleet;
}

/**
 * Who serves the model asked for; where nobody does and engines are to decide, the only service there is. Undefined where
 * no model is named and several may be meant.
 */
export function servedBy(deps: SelectDependencies, asked: string | undefined, namespace?: string): Served | undefined {
  const known = deps.directory.list();
  const model = asked ?? onlyModel(known, namespace);
  const fleet = model === undefined ? undefined : fleetOf(known, model, namespace);
  const lets = fleet?.modelKnown !== true && letsEngines(deps, asked, namespace);
  const found = (lets ? onlyFleet(known, namespace) : undefined) ?? fleet;
  return found === undefined ? undefined : { model: model ?? "", fleet: found };
}

/** Engines decide of a model that is not known; not of one whose own engines are started for it. */
const letsEngines = (
  { config, wakeable }: SelectDependencies,
  asked: string | undefined,
  namespace: string | undefined,
): boolean => config.unknownModels === "continue" && wakeable?.find(asked, namespace) === undefined;

/** A prompt, and who holds how much of it. */
interface Held {
  readonly prompt: Prompt;
  /** By what was sent where. */
  readonly matches: PrefixMatches;
  /** By what engines tell, where the prompt's tokens are known. */
  readonly events: EventMatches | undefined;
  /** Engines keep it apart from the same prompt of others. */
  readonly salted: boolean;
}

/** SGLang's events leave salts out: they never show a salted prompt, though its engine may hold it. */
const hidesSalts = ({ compatibility }: Endpoint): boolean => compatibility.engine === "sglang";

/** Engines always compute the last token themselves, so a prompt is never cached whole. */
const cachedTokens = (blocks: number, { tokens, bytesPerToken }: Prompt, blockBytes: number): number =>
  Math.min(tokens - 1, Math.floor((blocks * blockBytes) / bytesPerToken));

/** After so many missed reads an engine's numbers say nothing about now; our own counts still do. */
const STALE_READS = 3;

/** Reads before this time, in monotonic milliseconds, count no more. */
const staleBefore = ({ config, clock }: SelectDependencies): number =>
  clock.monotonic() - STALE_READS * config.scrapeIntervalMs - config.scrapeTimeoutMs;

const fresh = (stats: EngineStats | undefined, since: number): EngineStats | undefined =>
  stats !== undefined && stats.at >= since ? stats : undefined;

function candidates(deps: SelectDependencies, known: readonly KnownEndpoint[], held: Held): Candidate[] {
  const ids = idsOf(known);
  const [loads, blocks, told] = [deps.loads.all(ids), held.matches.all(ids), held.events?.all(ids)];
  const { blockBytes } = deps.config.index;
  const since = staleBefore(deps);
  // One object for each candidate, and none beside it.
  return known.map(({ endpoint, stats }, index) => {
    const sentTokens = cachedTokens(tokensAt(blocks, index), held.prompt, blockBytes);
    const tells = told?.live[index] === 1 && !(held.salted && hidesSalts(endpoint));
    return {
      endpoint,
      stats: fresh(stats, since),
      load: loads[index] ?? deps.loads.of(endpoint.id),
      cachedTokens: tells
        ? Math.min(held.prompt.tokens - 1, tokensAt(told.device, index))
        : trusted(deps, { endpoint, stats }, sentTokens),
      whence: tells ? "events" : "history",
      hostTokens: tokensAt(told?.host, index),
      sharedTokens: tokensAt(told?.shared, index),
      sentTokens,
      capacityTokens: capacityOf(stats, deps.config.index),
    };
  });
}

const tokensAt = (tokens: Uint32Array | undefined, index: number): number => tokens?.[index] ?? 0;

/** What was sent there, as far as the engine has shown that it keeps it; nothing where it says that it keeps nothing. */
function trusted({ trust }: SelectDependencies, { endpoint, stats }: KnownEndpoint, tokens: number): number {
  if (stats?.caches === false) return 0;
  return tokens === 0 || trust === undefined ? tokens : Math.floor(trust.of(endpoint.id) * tokens);
}

/** Of the KV cache, in tokens: as the engine tells, else as the configuration assumes. */
const capacityOf = (stats: EngineStats | undefined, index: Config["router"]["index"]): number =>
  stats?.blocks === undefined || stats.blockSize === undefined ? index.capacityTokens : stats.blocks * stats.blockSize;

/**
 * No index of one endpoint grows beyond this many blocks, whatever its engine claims: 1 M blocks of 256 bytes stand for
 * 64 M tokens, ten times the largest KV cache, and cost about 100 MB.
 */
const MAX_INDEX_BLOCKS = 2 ** 20;

/**
 * Capacity of an engine in blocks of the index, from what its metrics tell.
 * @param bytesPerToken of the text of prompts, where it is known better than the configuration does
 */
export function indexCapacity(
  known: Omit<KnownEndpoint, "endpoint">,
  index: Config["router"]["index"],
  bytesPerToken = index.bytesPerToken,
): number {
  const { stats } = known;
  const tokens =
    stats?.blocks !== undefined && stats.blockSize !== undefined
      ? stats.blocks * stats.blockSize
      : index.capacityTokens;
  const blocks = Math.floor((tokens * bytesPerToken) / index.blockBytes);
  return Math.min(MAX_INDEX_BLOCKS, Math.max(1, blocks));
}
