/**
 * What engines hold, as their events tell, for the thread that serves: reads the table that another thread writes.
 *
 * Answers for endpoints that are live; of others it says so, and the routing history answers. An endpoint with several
 * data-parallel ranks chooses among them by itself: of it the mean of its ranks is expected.
 */
import type { Clock } from "../../../ports.ts";
import type { BlockHasher, BlockKeys } from "../blocks.ts";
import type { Matches } from "../match.ts";
import { HolderTable, type Geometry } from "../table.ts";
import { TIER } from "./batch.ts";
import type { FromEvents, StreamStatus } from "./messages.ts";
import { marksWith } from "./presence.ts";
import { eventSeed } from "./roots.ts";
import type { StreamCause, StreamState } from "./stream-state.ts";
import { Speculation } from "./speculation.ts";

/** Leading tokens of a prompt by where they are held; of each endpoint in the order that was asked for. */
export interface EventDepths {
  /** 1: the endpoint's events are followed, and the numbers are to be believed. */
  readonly live: Uint8Array;
  /** In the accelerator's memory, or about to be. */
  readonly device: Uint32Array;
  /** There, or in the host's memory. */
  readonly host: Uint32Array;
  /** There, in the host's, or on a disk or in a pool. */
  readonly shared: Uint32Array;
}

export interface EventMatches {
  /** For lists that are asked about again and again; the answer is valid until the next question. */
  all(endpoints: readonly string[]): EventDepths;
}

export interface EndpointEvents {
  readonly state: StreamState;
  readonly cause: StreamCause;
  /** Monotonic milliseconds. */
  readonly since: number;
  readonly ranks: number;
  /** Blocks of the router that it holds, over all ranks. */
  readonly blocks: number;
}

/** Whose blocks a prompt may find. */
export interface Asked {
  readonly model: string;
  readonly adapter: string | undefined;
  readonly salt: string | undefined;
  readonly tenant: string;
}

export interface EventIndexOptions {
  readonly geometry: Geometry;
  readonly hasher: BlockHasher;
  readonly blockTokens: number;
  /** Endpoints that can be told apart. */
  readonly endpoints: number;
  readonly speculateMs: number;
  readonly clock: Clock;
}

interface Known {
  state: StreamState;
  cause: StreamCause;
  since: number;
  readonly ranks: (StreamStatus | undefined)[];
}

interface Listed extends EventDepths {
  version: number;
  /** Numbers of the table of all ranks, one endpoint's after another's; `starts` says where each begins. */
  numbers: Uint32Array;
  starts: Uint32Array;
}

/** Tiers of each answer. */
const DEVICE = marksWith(TIER.device);
const HOST = marksWith(TIER.device | TIER.host);

export class EventIndex {
  readonly #options: EventIndexOptions;
  readonly #speculation: Speculation;
  readonly #known = new Map<string, Known>();
  readonly #lists = new WeakMap<readonly string[], Listed>();
  /** Adapters that are served under names of their own. */
  #adapters = new Set<string>();
  #version = 0;
  /** Endpoints that are live. */
  #live = 0;
  #tables: readonly HolderTable[] = [];
  /** Blocks lie in other places than accelerators, so that more than one walk is needed. */
  #isTiered = false;
  /** Ids by number of the target, for each list of them that the other thread may still answer by. */
  readonly #sent = new Map<number, readonly { readonly id: string; readonly ranks: number }[]>();

  constructor(options: EventIndexOptions) {
    this.#options = options;
    const { endpoints, speculateMs, clock, geometry } = options;
    this.#speculation = new Speculation(endpoints, speculateMs, clock, geometry.secret);
  }

  /** A new thread writes into this memory; nothing that was known before is. */
  attach(buffer: SharedArrayBuffer): void {
    const { geometry } = this.#options;
    this.#tables = Array.from({ length: 3 }, () => new HolderTable(geometry, buffer));
    for (const table of this.#tables) table.given(0);
    for (const known of this.#known.values()) known.ranks.fill(undefined);
    for (const id of this.#known.keys()) this.#judge(id);
  }

  /** The thread was told of these targets under this number. */
  sent(version: number, targets: readonly { readonly id: string; readonly ranks: number }[]): void {
    this.#sent.set(version, targets);
    const present = new Map(targets.map((target) => [target.id, target]));
    for (const id of this.#known.keys()) if (!present.has(id)) this.#known.delete(id);
    for (const { id, ranks } of targets) {
      if (this.#known.get(id)?.ranks.length === ranks) continue;
      const ranksOf = Array.from({ length: ranks }, () => undefined);
      this.#known.set(id, { state: "blind", cause: "unreachable", since: this.#now(), ranks: ranksOf });
    }
    this.#countLive();
    this.#version += 1;
  }

  heard({ version, streams, given, adapters }: Pick<FromEvents, "version" | "streams" | "given" | "adapters">): void {
    for (const old of this.#sent.keys()) if (old < version) this.#sent.delete(old);
    const targets = this.#sent.get(version);
    for (const table of this.#tables) table.given(given);
    if (adapters.length !== this.#adapters.size) this.#adapters = new Set(adapters);
    if (targets === undefined) return;
    for (const status of streams) this.#note(targets[status.target]?.id ?? "", status);
  }

  #note(id: string, status: StreamStatus): void {
    const known = this.#known.get(id);
    if (known === undefined) return;
    // An engine that began anew, or cleared its cache, has nothing of what was on its way to it.
    if ((known.ranks[status.rank]?.clears ?? status.clears) !== status.clears) this.#speculation.forget(id);
    known.ranks[status.rank] = status;
    if (status.tiered) this.#isTiered = true;
    this.#judge(id);
  }

  /** Of any endpoint. */
  get anyLive(): boolean {
    return this.#live > 0;
  }

  /** Every rank is live. */
  isLive(endpoint: string): boolean {
    return this.#known.get(endpoint)?.state === "live";
  }

  state(endpoint: string): EndpointEvents | undefined {
    const known = this.#known.get(endpoint);
    if (known === undefined) return undefined;
    const { state, cause, since, ranks } = known;
    return {
      state,
      cause,
      since,
      ranks: ranks.length,
      blocks: ranks.reduce((sum, rank) => sum + (rank?.blocks ?? 0), 0),
    };
  }

  /**
   * Keys of a prompt's tokens. Undefined where engines do not tell such prompts apart from others but we do: of a tenant
   * without a salt.
   */
  keys(ids: Int32Array, { model, adapter: named, salt, tenant }: Asked): BlockKeys | undefined {
    if (tenant !== "" && salt === undefined) return undefined;
    const adapter = named ?? (this.#adapters.has(model) ? model : undefined);
    const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength);
    return this.#options.hasher.keys([bytes], 4 * this.#options.blockTokens, eventSeed(adapter, salt));
  }

  match(keys: BlockKeys): EventMatches {
    const [device, host, shared] = this.#tables;
    const walks = {
      device: device?.match(keys, DEVICE),
      host: this.#isTiered ? host?.match(keys, HOST) : undefined,
      shared: this.#isTiered ? shared?.match(keys) : undefined,
    };
    const soon = this.#speculation.match(keys);
    return { all: (endpoints) => this.#fill(endpoints, walks, soon) };
  }

  /** A prompt is on its way there. */
  record(endpoint: string, keys: BlockKeys): void {
    if (this.#known.has(endpoint)) this.#speculation.record(endpoint, keys);
  }

  /** The engine is new, or was found to hold less than was thought. */
  forget(endpoint: string): void {
    this.#speculation.forget(endpoint);
  }

  keep(endpoints: ReadonlySet<string>): void {
    this.#speculation.keep(endpoints);
  }

  #fill(
    endpoints: readonly string[],
    walks: { device: Matches | undefined; host: Matches | undefined; shared: Matches | undefined },
    soon: (endpoint: string) => number,
  ): EventDepths {
    const listed = this.#listOf(endpoints);
    const { blockTokens } = this.#options;
    for (let at = 0; at < endpoints.length; at++) {
      if (listed.live[at] !== 1) continue;
      // One of its ranks has what was sent, and nobody knows which.
      const sent = Math.floor(soon(endpoints[at] ?? "") / ranksOf(listed, at));
      const device = blockTokens * Math.max(mean(walks.device, listed, at), sent);
      const host = Math.max(device, blockTokens * mean(walks.host, listed, at));
      listed.device[at] = device;
      listed.host[at] = host;
      listed.shared[at] = Math.max(host, blockTokens * mean(walks.shared, listed, at));
    }
    return listed;
  }

  /** Numbers of the endpoints of a list, until something is heard. */
  #listOf(endpoints: readonly string[]): Listed {
    const known = this.#lists.get(endpoints);
    if (known?.version === this.#version) return known;
    const ranks = endpoints.map((id) => this.#known.get(id)?.ranks ?? []);
    const starts = new Uint32Array(endpoints.length + 1);
    ranks.forEach((all, at) => (starts[at + 1] = (starts[at] ?? 0) + all.length));
    const listed: Listed = {
      version: this.#version,
      live: Uint8Array.from(endpoints, (id) => (this.isLive(id) ? 1 : 0)),
      device: new Uint32Array(endpoints.length),
      host: new Uint32Array(endpoints.length),
      shared: new Uint32Array(endpoints.length),
      numbers: Uint32Array.from(ranks.flat(), (rank) => rank?.number ?? NO_NUMBER),
      starts,
    };
    this.#lists.set(endpoints, listed);
    return listed;
  }

  /** The least that is known of a rank is what is known of the endpoint. */
  #judge(id: string): void {
    const known = this.#known.get(id);
    if (known === undefined) return;
    const worst = known.ranks.find((rank) => rank?.state !== "live") ?? known.ranks[0];
    const unheard = known.ranks.includes(undefined);
    const [state, cause] =
      unheard || worst === undefined ? (["blind", "unreachable"] as const) : [worst.state, worst.cause];
    if (state !== known.state) known.since = this.#now();
    known.state = state;
    known.cause = cause;
    this.#version += 1;
    this.#countLive();
  }

  #countLive(): void {
    this.#live = 0;
    for (const { state } of this.#known.values()) if (state === "live") this.#live += 1;
  }

  #now(): number {
    return this.#options.clock.monotonic();
  }
}

/** Nothing is held under it. */
const NO_NUMBER = 2 ** 32 - 1;

const ranksOf = ({ starts }: Listed, at: number): number => (starts[at + 1] as number) - (starts[at] as number);

/** Leading blocks that a rank of the endpoint at this place holds, on average. */
function mean(walk: Matches | undefined, { numbers, starts }: Listed, at: number): number {
  const [from, to] = [starts[at] as number, starts[at + 1] as number];
  if (walk === undefined || from === to) return 0;
  let sum = 0;
  for (let rank = from; rank < to; rank++) sum += walk.of(numbers[rank] as number);
  return Math.floor(sum / (to - from));
}
