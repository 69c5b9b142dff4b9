/**
 * The prefill leg of one request: run before decode, beside it, or when decode asks for it, or left to a sidecar.
 *
 * Decides nothing of where: the pick did, and what bodies say is the wires'. A leg that fails before decode is sent goes
 * on as `disagg/leg.ts` says; one that fails behind it is counted, its endpoint left alone, and whoever sent decode told.
 */
import type { Endpoint } from "../kinds/endpoint.ts";
import { HEADER } from "../kinds/names.ts";
import type { EngineClient, EngineRequest, Random } from "../ports.ts";
import { wholeBody, type PromptUsage } from "./disagg/bodies.ts";
import type { Callback, Callbacks } from "./disagg/callbacks.ts";
import { orderOf, prefillsAlone, wireOf } from "./disagg/connectors.ts";
import { legHeaders } from "./disagg/headers.ts";
import { faultOf, runPrefillLeg, type LegEnd, type LegFailure, type LegInput, type LegOutcome } from "./disagg/leg.ts";
import type { Leg, LegRequest, Meeting } from "./disagg/wires.ts";
import { LegAccount, type AccountDependencies } from "./account.ts";
import type { HeaderList } from "./headers.ts";
import { LegHolds } from "./holds.ts";
import type { BlockKeys } from "./kv/blocks.ts";
import type { Release } from "./load.ts";
import type { Pick, PricedPrefill } from "./pick/pick.ts";
import { pathOf } from "./request/head.ts";
import type { SelectDependencies } from "./select.ts";

export interface LegsDependencies extends AccountDependencies {
  readonly config: SelectDependencies["config"];
  readonly client: EngineClient;
  readonly random: Random;
  /** Where decode engines call back; absent where none can. */
  readonly callbacks?: Callbacks;
}

/** What the decode leg is, or why there is none. */
export type Handover =
  | {
      readonly kind: "handed";
      readonly leg: Leg;
      readonly by: PricedPrefill;
      readonly usage?: PromptUsage;
      /** The prefill is over: what is left is the transfer. */
      readonly sequential?: true;
      /** Comes only where the prefill fails behind its decode, which then waits in vain. Absent where it is over. */
      readonly deserted?: Promise<LegFailure>;
    }
  | { readonly kind: "local"; readonly why?: "refused" | "keptNothing" }
  | LegFailure
  | { readonly kind: "aborted" };

export interface LegsRequest extends LegRequest {
  readonly headers: HeaderList;
  readonly path: string;
}

interface Picked {
  readonly prompt: { readonly keys: BlockKeys; readonly tokens: number };
  readonly pick: Pick;
}

interface Try extends Meeting {
  readonly concurrent: boolean;
}

/** One request with its pick, while its legs are made. */
interface Run extends Picked {
  readonly request: LegsRequest;
  readonly tries: Map<PricedPrefill, Try>;
  /** What decode posted, where it went first. */
  readonly posted?: Buffer;
}

/**
 * Profile `light` cannot tell a whole answer from a client that went away: a leg that still runs then is given so long,
 * because where decode has its answer the prefill engine is done within a transfer.
 */
const GRACE_MS = 2000;

export class PrefillLegs {
  readonly #deps: LegsDependencies;
  readonly #holds: LegHolds;
  readonly #account: LegAccount;
  readonly #abort = new AbortController();
  #callback: Callback | undefined;
  #handed = false;
  #started = false;

  /** @param told what a prefill engine says of the prompt, where that comes behind the decision */
  constructor(deps: LegsDependencies, told: (usage: PromptUsage) => void) {
    this.#deps = deps;
    this.#holds = new LegHolds(deps);
    this.#account = new LegAccount(deps, this.#holds, told);
  }

  /** To be called once, with a pick that has a remote prefill. */
  async run(request: LegsRequest, picked: Picked): Promise<Handover> {
    const run: Run = { request, ...picked, tries: new Map() };
    const [first] = run.pick.prefill;
    const order = first && orderOf(first.candidate.endpoint, run.pick.decode.endpoint);
    if (first === undefined || order === undefined) return { kind: "local" };
    const handover = order === "sidecar" ? this.#bySidecar(run, first) : undefined;
    const made = handover ?? (order === "decode-first" ? this.#onCallback(run, first) : await this.#before(run));
    this.#handed = made.kind === "handed";
    return made;
  }

  /** The answer began; `whole`: with all of it. */
  started(whole: boolean): void {
    this.#started = this.#handed;
    this.#holds.started(whole);
  }

  /** Decode has the KV of the prompt. */
  fetched(): void {
    this.#holds.release();
  }

  /** @param complete false where the client went away, or where that cannot be told */
  end(complete: boolean): void {
    this.#callback?.close();
    this.#holds.end();
    if (complete) return;
    if (!this.#started) this.#abort.abort();
    else this.#account.whileRunning(this.#deps.timers.after(GRACE_MS, () => this.#abort.abort()));
  }

  /** Sequential, or concurrent: until decode may be sent. */
  async #before(run: Run): Promise<Handover> {
    const outcome = await runPrefillLeg(this.#input(run));
    if (outcome.kind === "sent") return this.#beside(run, outcome);
    if (outcome.kind === "local") return prefillThere(run, outcome.kept);
    if (outcome.kind !== "transferred") return outcome;
    const { by, params, usage } = outcome;
    this.#holds.pin(by.candidate.endpoint, run.prompt.tokens);
    const leg = this.#decodeLeg(run, by, params);
    return { kind: "handed", by, leg, usage, sequential: true };
  }

  /** Decode goes out while the leg runs. */
  #beside(run: Run, { by, ended }: Extract<LegOutcome<PricedPrefill>, { kind: "sent" }>): Handover {
    const { promise: deserted, resolve } = Promise.withResolvers<LegFailure>();
    void ended?.then((end) => this.#judge(by.candidate.endpoint, end, resolve));
    return { kind: "handed", by, leg: this.#decodeLeg(run, by), ...(ended === undefined ? {} : { deserted }) };
  }

  /** A refusal speaks of the request, not of the endpoint. */
  #judge(endpoint: Endpoint, end: LegEnd, desert: (failure: LegFailure) => void): void {
    if (end.kind === "done" || end.kind === "aborted") return;
    if (end.kind === "failed") this.#account.deserted(endpoint, end.detail);
    desert(end);
  }

  /** Decode goes first, and the leg runs when it asks. Until then the work is on the endpoint it was picked for. */
  #onCallback(run: Run, first: PricedPrefill): Handover {
    const { callbacks, random } = this.#deps;
    if (callbacks === undefined) return { kind: "local" };
    const { endpoint } = first.candidate;
    const reserved = this.#occupy(first, run);
    this.#holds.add(reserved);
    const { promise: deserted, resolve } = Promise.withResolvers<LegFailure>();
    this.#callback = callbacks.open(random.id(), run.request.requestId, (posted) => {
      reserved();
      const taken = Promise.withResolvers<boolean>();
      const input = { ...this.#input({ ...run, posted }), concurrent: () => false, asked: () => taken.resolve(true) };
      const leg = runPrefillLeg(input).catch(faultOf);
      void leg.then((outcome) => {
        taken.resolve(false);
        this.#judge(endpoint, endOf(outcome), resolve);
      });
      return taken.promise;
    });
    run.tries.set(first, { chance: 0, callback: this.#callback.url, concurrent: true });
    return { kind: "handed", by: first, leg: this.#decodeLeg(run, first), deserted };
  }

  /** llm-d's sidecar beside the decode engine runs the leg with whom the header names. */
  #bySidecar({ request, prompt }: Run, by: PricedPrefill): Handover {
    const { endpoint } = by.candidate;
    this.#deps.index.record(endpoint.id, prompt.keys);
    this.#holds.add(this.#occupy(by, { prompt }));
    const leg = {
      body: wholeBody(request.body, request.facts),
      headers: [[HEADER.prefiller, endpoint.address]] as const,
    };
    return { kind: "handed", by, leg };
  }

  #occupy({ candidate, ownMs }: PricedPrefill, { prompt }: { readonly prompt: Picked["prompt"] }): Release {
    return this.#holds.occupy(candidate.endpoint, ownMs, prompt.tokens - candidate.cachedTokens);
  }

  #input(run: Run): LegInput<PricedPrefill> {
    const endpoints = run.pick.prefill;
    // Only where something is asked: each wait is a turn of the event loop.
    const asks = endpoints.some(({ candidate }) => wireOf(candidate.endpoint)?.peer === "asks");
    return {
      endpoints,
      attempts: this.#deps.config.prefill.attempts,
      client: this.#deps.client,
      signal: this.#abort.signal,
      ...(asks ? { ready: ({ candidate }) => this.#ready(candidate.endpoint) } : {}),
      request: (priced) => this.#legRequest(run, priced),
      concurrent: (priced) => run.tries.get(priced)?.concurrent === true,
      onStart: (priced) => this.#account.begin(priced, run.prompt),
    };
  }

  async #ready(endpoint: Endpoint): Promise<boolean> {
    if (wireOf(endpoint)?.peer !== "asks" || (await this.#deps.peers.ask(endpoint)) !== undefined) return true;
    this.#account.unanswered(endpoint);
    return false;
  }

  #legRequest(run: Run, priced: PricedPrefill): EngineRequest {
    const { prefill } = this.#deps.config;
    const { request, pick } = run;
    const { endpoint } = priced.candidate;
    const meeting = this.#meet(run, priced);
    const leg = wireOf(endpoint)?.prefill(request, { prefill: endpoint, decode: pick.decode.endpoint }, meeting);
    const headers = Object.fromEntries(leg?.headers ?? []);
    return {
      address: endpoint.address,
      method: "POST",
      path: pathOf(request.path),
      headers: { ...legHeaders(request.headers, prefill.headers, request.requestId), ...headers },
      body: leg?.body ?? request.body,
      timeoutMs: prefill.timeoutMs,
      signal: this.#abort.signal,
    };
  }

  /** What one try needs beside the two endpoints; new for each. */
  #meet({ pick, tries, posted }: Run, priced: PricedPrefill): Try {
    const { endpoint } = priced.candidate;
    const peer = this.#deps.peers.known(endpoint);
    // Who has not been heard yet answers first.
    const heard = wireOf(endpoint)?.peer !== "hears" || peer !== undefined;
    const made: Try = {
      concurrent: heard && orderOf(endpoint, pick.decode.endpoint) === "concurrent",
      chance: this.#deps.random.next(),
      ...(peer === undefined ? {} : { peer }),
      ...(posted === undefined ? {} : { posted }),
    };
    tries.set(priced, made);
    return made;
  }

  #decodeLeg({ request, pick, tries }: Run, by: PricedPrefill, params?: Buffer): Leg {
    const pair = { prefill: by.candidate.endpoint, decode: pick.decode.endpoint };
    const leg = wireOf(pair.prefill)?.decode(request, pair, tries.get(by) ?? { chance: 0 }, params);
    return leg ?? { body: wholeBody(request.body, request.facts), headers: [] };
  }
}

/** How a leg ended whose answer decode does not carry. */
function endOf(outcome: LegOutcome<PricedPrefill>): LegEnd {
  if (outcome.kind === "transferred" || outcome.kind === "sent") return { kind: "done" };
  if (outcome.kind !== "local") return outcome;
  return outcome.kept === undefined
    ? { kind: "failed", detail: "no prefill endpoint took the request" }
    : { kind: "done" };
}

/** Prefill on the decode endpoint, where it can: one that waits for a prefill would wait in vain. */
function prefillThere({ pick }: Run, kept: "nothing" | undefined): Handover {
  if (prefillsAlone(pick.decode.endpoint))
    return { kind: "local", why: kept === undefined ? "refused" : "keptNothing" };
  return { kind: "failed", detail: "no prefill endpoint took the request, and decode computes no prompt" };
}
