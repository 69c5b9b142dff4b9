/**
 * The prefill leg of one request: run before decode, beside it, or when decode asks for it; and what it holds meanwhile.
 *
 * Decides nothing of where: the pick did. Work counts on a prefill endpoint until its leg has ended, its blocks until
 * decode has fetched them, or until their lease ends where decode never will.
 */
import { HEADER } from "../kinds/names.ts";
import type { EngineClient, EngineReply, EngineRequest, Log, Metrics, Random, Timers } from "../ports.ts";
import { readPrefillResult, wholeBody } from "./disagg/bodies.ts";
import type { Callback, Callbacks } from "./disagg/callbacks.ts";
import { leaseOf, orderOf, wireOf } from "./disagg/connectors.ts";
import { legHeaders } from "./disagg/headers.ts";
import { runPrefillLeg, type LegInput, type LegOutcome, type Meaning } from "./disagg/leg.ts";
import type { PeerBook } from "./disagg/peers.ts";
import type { Leg, LegRequest, Meeting } from "./disagg/wires.ts";
import type { HeaderList } from "./headers.ts";
import type { BlockKeys } from "./kv/blocks.ts";
import type { Release } from "./load.ts";
import type { Pick, PricedPrefill } from "./pick/pick.ts";
import { SHUN_MS, type PlacementDependencies } from "./placement.ts";
import { pathOf } from "./request/head.ts";
import type { SelectDependencies } from "./select.ts";

export interface LegsDependencies extends PlacementDependencies {
  readonly config: SelectDependencies["config"];
  readonly client: EngineClient;
  readonly random: Random;
  readonly timers: Timers;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly peers: PeerBook;
  /** Where decode engines call back; absent where none can. */
  readonly callbacks?: Callbacks;
}

/** What the decode leg is, or why there is none. */
export type Handover =
  | { readonly kind: "handed"; readonly leg: Leg; readonly by: PricedPrefill; readonly cachedTokens?: number }
  | { readonly kind: "local" }
  | Extract<LegOutcome<never>, { kind: "refusal" | "failed" | "aborted" }>;

export interface LegsRequest extends LegRequest {
  readonly headers: HeaderList;
  readonly path: string;
}

/** One request with its pick, while its legs are made. */
interface Run {
  readonly request: LegsRequest;
  readonly pick: Pick;
  readonly keys: BlockKeys;
  readonly promptTokens: number;
  readonly tries: Map<PricedPrefill, Meeting & { readonly concurrent: boolean }>;
  readonly posted?: Buffer;
}

/**
 * Profile `light` cannot tell a whole answer from a client that went away: a leg that still runs then is given so long,
 * because where decode has its answer the prefill engine is done within a transfer.
 */
const GRACE_MS = 2000;
/** Where first tokens are not seen, blocks count as fetched so long after a stream began. */
const FETCH_MS = 1000;

export class PrefillLegs {
  readonly #deps: LegsDependencies;
  readonly #abort = new AbortController();
  #callback: Callback | undefined;
  /** Released when decode has its KV, or will never have it. */
  readonly #holds = new Set<Release>();
  #running = 0;
  #handed = false;
  #started = false;
  #fetched = false;
  #over = false;
  #cancelGrace: Release = nothing;

  constructor(deps: LegsDependencies) {
    this.#deps = deps;
  }

  /** To be called once, with a pick that has a remote prefill. */
  run(request: LegsRequest, { prompt, pick }: { prompt: { keys: BlockKeys; tokens: number }; pick: Pick }) {
    const run: Run = { request, pick, keys: prompt.keys, promptTokens: prompt.tokens, tries: new Map() };
    const [first] = pick.prefill;
    const order = first && orderOf(first.candidate.endpoint, pick.decode.endpoint);
    if (first === undefined || order === undefined) return Promise.resolve<Handover>({ kind: "local" });
    if (order === "sidecar") return Promise.resolve(this.#bySidecar(run, first));
    return order === "decode-first" ? Promise.resolve(this.#onCallback(run, first)) : this.#before(run);
  }

  /** The answer began; `whole`: with all of it. */
  started(whole: boolean): void {
    this.#started = this.#handed;
    if (whole) this.fetched();
    else if (this.#holds.size > 0) this.#holds.add(this.#deps.timers.after(FETCH_MS, () => this.fetched()));
  }

  /** Decode has the KV of the prompt. */
  fetched(): void {
    this.#fetched = true;
    for (const release of this.#holds) release();
    this.#holds.clear();
  }

  /** @param complete false where the client went away, or where it cannot be told */
  end(complete: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#callback?.close();
    this.fetched();
    if (complete) return;
    if (!this.#started) this.#abort.abort();
    else if (this.#running > 0) this.#cancelGrace = this.#deps.timers.after(GRACE_MS, () => this.#abort.abort());
  }

  /** Sequential, or concurrent: until decode may be sent. */
  async #before(run: Run): Promise<Handover> {
    const outcome = await runPrefillLeg(this.#input(run));
    if (outcome.kind === "sent") return { kind: "handed", by: outcome.by, leg: this.#decodeLeg(run, outcome.by) };
    if (outcome.kind !== "transferred") return outcome;
    const { by, params, cachedTokens } = outcome;
    this.#pin(by, run.promptTokens);
    const leg = this.#decodeLeg(run, by, params);
    return { kind: "handed", by, leg, ...(cachedTokens === undefined ? {} : { cachedTokens }) };
  }

  /** Decode goes first, and the leg runs when it asks. Until then the work is on the endpoint it was picked for. */
  #onCallback(run: Run, first: PricedPrefill): Handover {
    const { callbacks, random } = this.#deps;
    if (callbacks === undefined) return { kind: "local" };
    const reserved = this.#occupy(first);
    this.#callback = callbacks.open(random.id(), run.request.requestId, async (posted) => {
      reserved();
      const outcome = await runPrefillLeg({ ...this.#input({ ...run, posted }), concurrent: () => true });
      if (outcome.kind !== "sent") this.#deserted(first, outcome.kind);
      return outcome.kind === "sent";
    });
    this.#holds.add(reserved);
    const meeting = { chance: 0, callback: this.#callback.url, concurrent: true };
    run.tries.set(first, meeting);
    return { kind: "handed", by: first, leg: this.#decodeLeg(run, first) };
  }

  /** llm-d's sidecar beside the decode engine runs the leg with whom the header names. */
  #bySidecar({ request, keys }: Run, first: PricedPrefill): Handover {
    const { endpoint } = first.candidate;
    this.#deps.index.record(endpoint.id, keys);
    this.#holds.add(this.#occupy(first));
    this.#handed = true;
    const body = wholeBody(request.body, request.facts);
    return { kind: "handed", by: first, leg: { body, headers: [[HEADER.prefiller, endpoint.address]] } };
  }

  #input(run: Run): LegInput<PricedPrefill> {
    const { config, client } = this.#deps;
    const endpoints = run.pick.prefill;
    // Only where something is asked: each wait is a turn of the event loop.
    const asks = endpoints.some(({ candidate }) => wireOf(candidate.endpoint)?.peer === "asks");
    return {
      endpoints,
      attempts: config.prefill.attempts,
      client,
      signal: this.#abort.signal,
      ...(asks ? { ready: (priced) => this.#ready(priced) } : {}),
      request: (priced) => this.#legRequest(run, priced),
      concurrent: (priced) => run.tries.get(priced)?.concurrent === true,
      onStart: (priced) => {
        this.#deps.index.record(priced.candidate.endpoint.id, run.keys);
        return this.#track(run, priced);
      },
    };
  }

  async #ready({ candidate: { endpoint } }: PricedPrefill): Promise<boolean> {
    if (wireOf(endpoint)?.peer !== "asks") return true;
    if ((await this.#deps.peers.ask(endpoint)) !== undefined) return true;
    this.#shun(endpoint.id);
    this.#deps.metrics.count("tandem_router_prefill_legs_total", { outcome: "untouched" });
    this.#deps.log.warn("prefill engine's bootstrap server does not answer", { endpoint: endpoint.name });
    return false;
  }

  #legRequest(run: Run, priced: PricedPrefill): EngineRequest {
    const { config } = this.#deps;
    const { request, pick, posted } = run;
    const { endpoint } = priced.candidate;
    const peer = this.#deps.peers.known(endpoint);
    const wire = wireOf(endpoint);
    const concurrent =
      orderOf(endpoint, pick.decode.endpoint) === "concurrent" && (wire?.peer !== "hears" || peer !== undefined);
    const meeting = {
      concurrent,
      chance: this.#deps.random.next(),
      ...(peer === undefined ? {} : { peer }),
      ...(posted === undefined ? {} : { posted }),
    };
    run.tries.set(priced, meeting);
    const leg = wire?.prefill(request, { prefill: endpoint, decode: pick.decode.endpoint }, meeting);
    return {
      address: endpoint.address,
      method: "POST",
      path: pathOf(request.path),
      headers: {
        ...legHeaders(request.headers, config.prefill.headers, request.requestId),
        ...Object.fromEntries(leg?.headers ?? []),
      },
      body: leg?.body ?? request.body,
      timeoutMs: config.prefill.timeoutMs,
      signal: this.#abort.signal,
    };
  }

  #decodeLeg({ request, pick, tries }: Run, by: PricedPrefill, params?: Buffer): Leg {
    this.#handed = true;
    const pair = { prefill: by.candidate.endpoint, decode: pick.decode.endpoint };
    const leg = wireOf(pair.prefill)?.decode(request, pair, tries.get(by) ?? { chance: 0 }, params);
    return leg ?? { body: wholeBody(request.body, request.facts), headers: [] };
  }

  /** Work on the prefill endpoint until the returned function tells how it ended. */
  #track(run: Run, priced: PricedPrefill): (meaning: Meaning, late: boolean, reply: EngineReply) => void {
    const { metrics, clock, log } = this.#deps;
    const { endpoint } = priced.candidate;
    const started = clock.monotonic();
    const release = this.#occupy(priced);
    this.#running += 1;
    return (outcome, late, reply) => {
      this.#running -= 1;
      if (this.#running === 0) this.#cancelGrace();
      release();
      metrics.count("tandem_router_prefill_legs_total", { outcome });
      if (outcome === "done") this.#done(run, priced, { late, reply, ms: clock.monotonic() - started });
      if (outcome === "untouched") this.#shun(endpoint.id);
      if (outcome === "untouched" || outcome === "lost") log.warn("prefill leg", { endpoint: endpoint.name, outcome });
      if (late && outcome !== "done" && outcome !== "aborted") this.#deserted(priced, outcome);
    };
  }

  #done(run: Run, priced: PricedPrefill, { late, reply, ms }: { late: boolean; reply: EngineReply; ms: number }): void {
    this.#deps.metrics.observe("tandem_router_prefill_duration_seconds", ms / 1000);
    const { endpoint } = priced.candidate;
    const wire = wireOf(endpoint);
    if (wire?.peer === "hears" && reply.kind === "answer") {
      const params = readPrefillResult(Buffer.from(reply.body))?.params;
      if (params !== undefined) this.#deps.peers.hear(endpoint, params);
    }
    if (late && wire?.pins === true && !this.#fetched) this.#pin(priced, run.promptTokens);
  }

  /** Decode waits for a prefill that will not come; it gives up by its engine's own deadline. */
  #deserted({ candidate: { endpoint } }: PricedPrefill, outcome: string): void {
    const { metrics, log } = this.#deps;
    const { connector } = endpoint.compatibility;
    this.#shun(endpoint.id);
    metrics.count("tandem_router_decode_deserted_total", { connector });
    log.warn("prefill failed behind its decode", { endpoint: endpoint.name, connector, outcome });
  }

  /** Blocks stay on the prefill engine until they are fetched, or their lease ends where nobody will. */
  #pin({ candidate: { endpoint } }: PricedPrefill, tokens: number): void {
    const { loads, timers, config, metrics } = this.#deps;
    const release = loads.pinned(endpoint.id, tokens);
    const cancel = timers.after(config.prefill.leaseMs || leaseOf(endpoint), release);
    if (this.#over) metrics.count("tandem_router_kv_stranded_total", { connector: endpoint.compatibility.connector });
    else
      this.#holds.add(() => {
        cancel();
        release();
      });
  }

  /** The endpoint has the request, and its prefill to do. */
  #occupy({ candidate: { endpoint }, ownMs }: PricedPrefill): Release {
    const { loads } = this.#deps;
    const releases = [loads.request(endpoint.id), loads.prefill(endpoint.id, ownMs)];
    return () => releases.forEach((release) => release());
  }

  #shun(endpoint: string): void {
    this.#deps.loads.shun(endpoint, this.#deps.clock.monotonic() + SHUN_MS);
  }
}

const nothing: Release = () => undefined;
