/**
 * The router's own selection over a fleet that publishes: the real thread that follows events, the real index and pick.
 * After every pick it is asked whether it was right to go there, and what the engine really had.
 */
import { startFollowing } from "../../../src/cli/roles/following.ts";
import { createPorts } from "../../../src/cli/roles/ports.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { Housekeeping } from "../../../src/router/housekeeping.ts";
import { createBlockHasher } from "../../../src/router/kv/blocks.ts";
import { eventTargets } from "../../../src/router/kv/events/targets.ts";
import { geometryFor, HistoryIndex } from "../../../src/router/kv/history.ts";
import { JointIndex } from "../../../src/router/kv/joint.ts";
import { HitTrust } from "../../../src/router/kv/trust.ts";
import { LoadBook } from "../../../src/router/load.ts";
import type { Candidate } from "../../../src/router/pick/pick.ts";
import { Placement } from "../../../src/router/placement.ts";
import { apiOf } from "../../../src/router/request/apis.ts";
import { isProblem, readFacts, type RequestFacts } from "../../../src/router/request/facts.ts";
import { isRefused, select, type SelectDependencies, type Selection } from "../../../src/router/select.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { BLOCK_TOKENS, tokensOf, type Blocks } from "./fault-rank.ts";
import { MODEL, type Engine, type Fleet } from "./fault-fleet.ts";

const MAX_BYTES = 16 * 2 ** 20;
/** A request is on its endpoint so long. */
const REQUEST_MS = 100;
const SHUN_MS = 2000;
const SUBSETS = 0.25;

export interface Seen {
  picks: number;
  /** Endpoints that were picked, or offered behind the picked one, and must not have been. */
  wrong: number;
  refused: number;
  byEvents: number;
  candidates: number;
  /** Of claims beyond what the engine holds, milliseconds since it lost that; of those that it never held, NaN. */
  readonly stale: number[];
  /** Tokens that were predicted wrongly at the endpoint that was picked, each pick. */
  readonly errors: number[];
  /** Of each pick, microseconds. */
  readonly tookUs: number[];
}

export interface PromptOf {
  readonly blocks: Blocks;
  readonly facts: RequestFacts;
  readonly ids: Int32Array;
}

export function promptOf(blocks: Blocks): PromptOf {
  const ids = Int32Array.from(blocks.flatMap(tokensOf));
  const body = Buffer.from(JSON.stringify({ model: MODEL, prompt: [...ids].join(" "), max_tokens: 32 }));
  const rates = { bytesPerToken: 4, mediaTokens: 1024 };
  const api = apiOf("/v1/completions");
  if (api === undefined) throw new Error("completions are an API");
  const facts = readFacts(
    { aliases: {}, rates, unsalted: "refuse" },
    { api, body, headers: [], tenant: "", extent: "whole" },
  );
  if (isProblem(facts)) throw new Error(facts.message);
  return { blocks, facts, ids };
}

export class World {
  seen: Seen = newSeen();
  readonly #fleet: Fleet;
  readonly #ports;
  readonly #following;
  readonly #deps: SelectDependencies;
  readonly #housekeeping: Housekeeping;
  readonly #trust = new HitTrust();
  readonly #random: () => number;

  constructor(fleet: Fleet, random: () => number) {
    this.#fleet = fleet;
    this.#random = random;
    this.#ports = createPorts(loadConfig({ flags: { "router.events.maxBytes": String(MAX_BYTES) } }), SILENT_LOG);
    const config = this.#ports.config.router;
    const following = startFollowing(this.#ports);
    if (following === undefined) throw new Error("events are on by default");
    this.#following = following;
    const { maxBytes, maxEndpoints } = config.index;
    const joint = new JointIndex(new HistoryIndex(geometryFor(maxBytes, maxEndpoints), 1000), following.index);
    const loads = new LoadBook();
    const { clock, metrics } = this.#ports;
    this.#housekeeping = new Housekeeping({ index: joint, loads, config, metrics });
    this.#deps = {
      ...{ config, loads, clock, index: joint, events: joint, hasher: createBlockHasher(), trust: this.#trust },
      directory: { list: () => fleet.known },
      incompatible: () => undefined,
    };
  }

  /** Endpoints came or went. */
  tidy(): void {
    const { known } = this.#fleet;
    this.#housekeeping.tidy(known);
    this.#following.feed.follow(eventTargets(known, this.#ports.config.router));
  }

  stop(): void {
    this.#following.feed.stop();
  }

  page(): Promise<string> {
    return this.#ports.metrics.page();
  }

  begin(): void {
    this.seen = newSeen();
  }

  /** One request: picked, judged, and computed where it went. */
  pick(prompt: PromptOf): void {
    const allowed = this.#allowed();
    const scope = allowed === undefined ? {} : { subset: { addresses: allowed } };
    const begun = performance.now();
    const selection = select(this.#deps, prompt.facts, scope, { ids: prompt.ids, how: "tokenizer" });
    this.seen.tookUs.push((performance.now() - begun) * 1000);
    this.seen.picks += 1;
    if (isRefused(selection)) throw new Error(`refused: ${selection.message}`);
    this.#judge(selection, allowed);
    for (const candidate of selection.input.decode) this.#compare(candidate, prompt);
    this.#serve(selection, prompt);
  }

  /** All is live, and each of these prompts is known exactly. */
  isExact(prompts: readonly PromptOf[]): boolean {
    const { index } = this.#following;
    const engines = this.#fleet.serving;
    const ids = engines.map(({ endpoint }) => endpoint.id);
    if (!ids.every((id) => index.isLive(id))) return false;
    return prompts.every(({ ids: tokens, blocks }) => {
      const keys = index.keys(tokens, { model: MODEL, adapter: undefined, salt: undefined, tenant: "" });
      const told = keys && index.match(keys).all(ids);
      return engines.every((engine, at) => told?.device[at] === engine.cached(blocks));
    });
  }

  isLive(): boolean {
    return this.#fleet.serving.every(({ endpoint }) => this.#following.index.isLive(endpoint.id));
  }

  /** Blocks of the router that the endpoint is thought to hold. */
  blocksOf(id: string): number {
    return this.#following.index.state(id)?.blocks ?? 0;
  }

  /** Addresses that the proxy allows, of some requests: one or two engines. */
  #allowed(): ReadonlySet<string> | undefined {
    if (this.#random() > SUBSETS) return undefined;
    const { serving } = this.#fleet;
    const at = (): string => serving[Math.floor(this.#random() * serving.length)]?.endpoint.address ?? "";
    return new Set([at(), at()]);
  }

  /** Picked, or offered behind: it must be there now, serve the model, and be allowed. */
  #judge({ pick, input }: Selection, allowed: ReadonlySet<string> | undefined): void {
    const right = new Set(this.#fleet.serving.map(({ endpoint }) => endpoint));
    for (const { endpoint } of new Set([pick.decode, ...input.decode]))
      if (!right.has(endpoint) || allowed?.has(endpoint.address) === false) this.seen.wrong += 1;
  }

  #compare({ endpoint, cachedTokens, whence }: Candidate, { blocks, ids }: PromptOf): void {
    this.seen.candidates += 1;
    const engine = this.#engineOf(endpoint.id);
    if (whence !== "events" || engine === undefined) return;
    this.seen.byEvents += 1;
    if (cachedTokens <= Math.min(ids.length - 1, engine.cached(blocks))) return;
    const claimed = blocks.slice(0, Math.ceil(cachedTokens / BLOCK_TOKENS));
    this.seen.stale.push(performance.now() - (engine.goneAt(claimed) ?? NaN));
  }

  #serve({ prompt: { keys, tokens }, pick }: Selection, { blocks }: PromptOf): void {
    const { decode, localOwnMs } = pick;
    const engine = this.#engineOf(decode.endpoint.id);
    if (engine === undefined) return;
    if (!engine.isUp) {
      this.seen.refused += 1;
      this.#deps.loads.shun(decode.endpoint.id, performance.now() + SHUN_MS);
      return;
    }
    const cached = Math.min(tokens - 1, engine.cached(blocks));
    this.seen.errors.push(Math.abs(decode.cachedTokens - cached));
    const { timers, metrics, log } = this.#ports;
    const sent = { keys, tokens, thought: decode.sentTokens ?? 0, counts: true };
    const placement = new Placement(
      { ...this.#deps, ...{ timers, metrics, log }, trust: this.#trust },
      decode.endpoint,
      sent,
    );
    placement.prefillHere(localOwnMs, tokens);
    placement.found({ promptTokens: tokens, cachedTokens: cached });
    engine.serve(blocks);
    timers.after(REQUEST_MS, () => placement.end());
  }

  #engineOf(id: string): Engine | undefined {
    return this.#fleet.engines.find(({ endpoint }) => endpoint.id === id);
  }
}

const newSeen = (): Seen => ({
  ...{ picks: 0, wrong: 0, refused: 0, byEvents: 0, candidates: 0 },
  ...{ stale: [], errors: [], tookUs: [] },
});
