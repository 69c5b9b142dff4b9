/**
 * What the tries of one prefill leg come to: work on their endpoints while they run, and then counts, the log, what is
 * known of engines, and endpoints that are left alone. Decides nothing of what follows: `disagg/leg.ts` does.
 */
import type { Endpoint } from "../kinds/endpoint.ts";
import type { Cancel, Clock, EngineReply, Log } from "../ports.ts";
import { readPrefillResult, type PromptUsage } from "./disagg/bodies.ts";
import { wireOf } from "./disagg/connectors.ts";
import type { LegInput, Meaning } from "./disagg/leg.ts";
import type { PeerBook } from "./disagg/peers.ts";
import type { HoldsDependencies, LegHolds } from "./holds.ts";
import type { BlockKeys } from "./kv/blocks.ts";
import { judged, type CountedHits } from "./kv/counted.ts";
import type { PrefixIndex } from "./kv/index.ts";
import type { HitTrust } from "./kv/trust.ts";
import { serviceOf, type CostLearner } from "./pick/learn.ts";
import type { Candidate, PricedPrefill } from "./pick/pick.ts";
import { SHUN_MS } from "./placement.ts";

export interface AccountDependencies extends HoldsDependencies {
  readonly index: PrefixIndex;
  readonly clock: Clock;
  readonly log: Log;
  readonly peers: PeerBook;
  readonly learner?: CostLearner;
  readonly trust?: HitTrust;
  readonly counted?: CountedHits;
}

/** The prompt, in the units of index and load. */
interface Prompt {
  readonly keys: BlockKeys;
  readonly tokens: number;
}

interface Ended {
  readonly late: boolean;
  readonly reply: EngineReply;
  /** Tokens that the endpoint was thought to hold, by what was sent there. */
  readonly thought: number;
}

export class LegAccount {
  readonly #deps: AccountDependencies;
  readonly #holds: LegHolds;
  readonly #told: (usage: PromptUsage) => void;
  #running = 0;
  #cancel: Cancel = () => undefined;

  /** @param told what a prefill engine says of the prompt, where that comes behind the decision */
  constructor(deps: AccountDependencies, holds: LegHolds, told: (usage: PromptUsage) => void) {
    this.#deps = deps;
    this.#holds = holds;
    this.#told = told;
  }

  /** Cancelled when no try runs any more: at once, where none does. */
  whileRunning(cancel: Cancel): void {
    if (this.#running === 0) cancel();
    else this.#cancel = cancel;
  }

  /** A try begins on the endpoint; the returned function tells how it ended. */
  begin({ candidate, ownMs }: PricedPrefill, prompt: Prompt): ReturnType<LegInput<unknown>["onStart"]> {
    const { metrics, clock, index, counted } = this.#deps;
    const { endpoint, sentTokens: thought = 0 } = candidate;
    const { tokens } = prompt;
    const computed = { endpoint: endpoint.id, window: counted?.begin(endpoint.id, tokens) ?? 0, tokens, thought };
    const taught = this.#lesson(candidate, ownMs, prompt);
    index.record(endpoint.id, prompt.keys);
    const began = clock.monotonic();
    const release = this.#holds.occupy(endpoint, ownMs, tokens - candidate.cachedTokens);
    this.#running += 1;
    return (outcome, late, reply) => {
      this.#running -= 1;
      if (this.#running === 0) this.#cancel();
      release();
      metrics.count("tandem_router_prefill_legs_total", { outcome });
      if (outcome !== "done") {
        this.#failed(endpoint, outcome, late);
        return;
      }
      counted?.computed(computed, clock.monotonic());
      const ms = clock.monotonic() - began;
      metrics.observe("tandem_router_prefill_duration_seconds", ms / 1000);
      // Behind its decode it also waited for that.
      if (!late) taught(ms);
      this.#done(endpoint, prompt, { late, reply, thought });
    };
  }

  /** To be made before the try is load itself; called when it ended well. */
  #lesson({ endpoint, cachedTokens }: Candidate, ownMs: number, { tokens }: Prompt): (ms: number) => void {
    const { learner, loads } = this.#deps;
    const { prefillMs, givenMs } = loads.of(endpoint.id);
    return (ms) => {
      const othersMs = prefillMs + loads.of(endpoint.id).givenMs - givenMs - ownMs;
      const prompt = { freshTokens: tokens - cachedTokens, cachedTokens, othersMs, ownMs, ms };
      learner?.prefilled({ service: serviceOf(endpoint), endpoint: endpoint.id, ...prompt });
    };
  }

  /** What must be known of the endpoint is not to be had. */
  unanswered(endpoint: Endpoint): void {
    this.#shun(endpoint);
    this.#deps.metrics.count("tandem_router_prefill_legs_total", { outcome: "untouched" });
    this.#deps.log.warn("prefill engine's bootstrap server does not answer", { endpoint: endpoint.name });
  }

  /** Decode waits for a prefill that will not come. */
  deserted(endpoint: Endpoint, detail: string): void {
    const { connector } = endpoint.compatibility;
    this.#deps.metrics.count("tandem_router_decode_deserted_total", { connector });
    this.#deps.log.warn("prefill failed behind its decode", { endpoint: endpoint.name, connector, detail });
  }

  #done(endpoint: Endpoint, { tokens }: Prompt, { late, reply, thought }: Ended): void {
    const wire = wireOf(endpoint);
    if (late && wire?.pins === true && !this.#holds.fetched) this.#holds.pin(endpoint, tokens);
    // Else it is read where decode is made of it.
    if (reply.kind === "answer" && (late || wire?.peer === "hears"))
      this.#hear(endpoint, reply.body, late ? thought : undefined);
  }

  /** @param thought there where nobody else judges what it says of the prompt */
  #hear(endpoint: Endpoint, body: Uint8Array, thought: number | undefined): void {
    const said = readPrefillResult(Buffer.from(body));
    if (said === undefined) return;
    if (said.params !== undefined && wireOf(endpoint)?.peer === "hears") this.#deps.peers.hear(endpoint, said.params);
    if (thought !== undefined) this.#told(judged(this.#deps, { endpoint: endpoint.id, thought }, said.usage));
  }

  #failed(endpoint: Endpoint, outcome: Meaning, late: boolean): void {
    const gone = outcome === "untouched" || outcome === "lost";
    if (gone) this.#deps.peers.forget(endpoint);
    // Lost before decode it has a second chance; behind it each loss costs a client its answer.
    if (outcome === "untouched" || (late && gone)) this.#shun(endpoint);
    if (gone) this.#deps.log.warn("prefill leg", { endpoint: endpoint.name, outcome });
  }

  #shun({ id }: Endpoint): void {
    this.#deps.loads.shun(id, this.#deps.clock.monotonic() + SHUN_MS);
  }
}
