/**
 * Who is asked for the tokens of a prompt, and how long is waited: the model's tokenizer on a thread beside this one, else
 * an engine of the model, each only while what it makes agrees with what engines count.
 *
 * Asks only where an answer can change the pick: where some endpoint of the model tells of its cache by events, or where
 * the configuration says always. What comes after the budget is kept by whoever made it, and serves the next turn.
 */
import type { Config } from "../../config/schema.ts";
import type { Clock, Log, Metrics, Timers } from "../../ports.ts";
import type { KnownEndpoint } from "../directory.ts";
import { Agreement } from "./agreement.ts";
import type { EngineDialect } from "./chat.ts";
import type { EngineAnswer, EngineTokens } from "./engine.ts";
import { jobOf, type Job } from "./job.ts";
import type { PoolAnswer, TokenizePool } from "./pool.ts";
import type { CountedPrompt, LiveEvents, PromptQuery, PromptTokenizer, PromptTokens } from "./tokens.ts";

export interface TokenizerDependencies {
  readonly config: Pick<Config["router"]["tokenizer"], "mode" | "budgetMs" | "engine">;
  /** Absent where no model has a tokenizer here. */
  readonly pool?: Pick<TokenizePool, "entryOf" | "ask">;
  readonly engine: Pick<EngineTokens, "ask">;
  readonly events: LiveEvents;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly metrics: Metrics;
  readonly log: Log;
}

type How = PromptTokens["how"];
type Coming = Promise<PoolAnswer | EngineAnswer>;
type Outcome = "made" | "late" | "full" | "unable" | "failed";

/** Asked, and who. */
interface Call {
  readonly how: How;
  readonly coming: Coming | "full";
}

export class Tokenizer implements PromptTokenizer {
  readonly #deps: TokenizerDependencies;
  readonly #agreement = new Agreement();
  #calls = 0;

  constructor(deps: TokenizerDependencies) {
    this.#deps = deps;
  }

  get idle(): boolean {
    const { config, events } = this.#deps;
    return config.mode === "off" || (config.mode === "auto" && !events.anyLive);
  }

  tokens(query: PromptQuery): Promise<PromptTokens | undefined> | undefined {
    if (!this.#isWorth(query)) return undefined;
    const asked = jobOf(query.facts, query.body, dialectOf(query.endpoints));
    if (asked.kind === "ids") {
      this.#count("request", "made");
      return Promise.resolve({ ids: asked.ids, how: "tokenizer" });
    }
    const call = asked.kind === "job" ? this.#call(query, asked.job) : undefined;
    if (call?.coming instanceof Promise) return this.#within(call.how, call.coming);
    this.#count(call?.how ?? "none", call?.coming ?? "unable");
    return undefined;
  }

  counted({ model, api, tenant, tokens: how, count }: CountedPrompt, promptTokens: number): void {
    if (how === undefined) return;
    const { metrics, log, clock } = this.#deps;
    const outcome = count === promptTokens ? "same" : "other";
    metrics.count("tandem_router_token_agreement_total", { how, outcome });
    const counts = { ours: count, engines: promptTokens };
    const wrong = this.#agreement.judge({ model, api, how, tenant }, counts, clock.monotonic());
    if (wrong !== undefined) log.warn("tokens are not the engine's: routed by text for ten minutes", { ...wrong });
  }

  #isWorth({ endpoints }: PromptQuery): boolean {
    const { config, events } = this.#deps;
    if (config.mode !== "auto") return config.mode === "always";
    return endpoints.some((list) => list.some(({ endpoint }) => events.isLive(endpoint.id)));
  }

  #call(query: PromptQuery, job: Job): Call | undefined {
    return this.#here(query, job) ?? this.#there(query, job);
  }

  #here(query: PromptQuery, job: Job): Call | undefined {
    const entry = this.#deps.pool?.entryOf(query.model);
    if (entry === undefined || !this.#trusts(query, "tokenizer")) return undefined;
    const coming = this.#deps.pool?.ask(entry, job);
    return coming === undefined ? undefined : { how: "tokenizer", coming };
  }

  #there(query: PromptQuery, job: Job): Call | undefined {
    const { model, endpoints } = query;
    const address =
      this.#deps.config.engine && this.#trusts(query, "engine") ? addressIn(endpoints, ++this.#calls) : undefined;
    if (address === undefined) return undefined;
    const answer = this.#deps.engine.ask({ model, job, address });
    if (answer === undefined) return undefined;
    return { how: "engine", coming: answer instanceof Int32Array ? Promise.resolve(answer) : answer };
  }

  #trusts({ model, facts }: PromptQuery, how: How): boolean {
    const { api, tenant } = facts;
    return this.#agreement.trusts({ model, api: api.name, how, tenant }, this.#deps.clock.monotonic());
  }

  /** What has come when the budget ends. */
  #within(how: How, coming: Coming): Promise<PromptTokens | undefined> {
    const { timers, clock, metrics, config } = this.#deps;
    const begun = clock.monotonic();
    let waiting = true;
    return new Promise((resolve) => {
      const cancel = timers.after(config.budgetMs, () => {
        waiting = false;
        this.#count(how, "late");
        resolve(undefined);
      });
      const came = (answer: PoolAnswer | EngineAnswer): void => {
        metrics.observe("tandem_router_tokenize_duration_seconds", (clock.monotonic() - begun) / 1000, { how });
        cancel();
        if (waiting) resolve(this.#made(how, answer));
      };
      void coming.then(came, () => came("failed"));
    });
  }

  #made(how: How, answer: PoolAnswer | EngineAnswer): PromptTokens | undefined {
    if (answer instanceof Int32Array) {
      this.#count(how, "made");
      return { ids: answer, how };
    }
    this.#count(how, answer === "untold" ? "unable" : "failed");
    return undefined;
  }

  #count(how: How | "request" | "none", outcome: Outcome): void {
    this.#deps.metrics.count("tandem_router_tokenizations_total", { how, outcome });
  }
}

/** All engines of a model are of one kind, or nothing they hold could be shared. */
const dialectOf = (endpoints: PromptQuery["endpoints"]): EngineDialect =>
  first(endpoints)?.endpoint.compatibility.engine === "sglang" ? "sglang" : "vllm";

const first = (endpoints: PromptQuery["endpoints"]): KnownEndpoint | undefined =>
  endpoints.find((list) => list.length > 0)?.[0];

/** One after the other: tokenizing is work on a core of the engine's. */
function addressIn(endpoints: PromptQuery["endpoints"], turn: number): string | undefined {
  const list = endpoints.find(({ length }) => length > 0) ?? [];
  return list[turn % Math.max(1, list.length)]?.endpoint.address;
}
