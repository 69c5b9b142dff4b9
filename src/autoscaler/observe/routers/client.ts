/**
 * The router's replicas, as the autoscaler hears them: statistics asked of each every five seconds, groups that requests
 * wait for as soon as a replica says so, and each told which groups may be woken.
 *
 * A replica that does not answer keeps what it said last, with the time of it, until its address is gone; one that never
 * answered counts as silent for every group that others tell of.
 */
import { Agent, request, type Dispatcher } from "undici";
import {
  KEEPALIVE_MS,
  MAX_GROUPS,
  SCALED_PATH,
  STATISTICS_PATH,
  WAKES_PATH,
  type StatisticsPage,
  type WakeableGroup,
} from "../../../kinds/statistics.ts";
import type { Cancel, Clock, Log, Metrics, Random, Timers } from "../../../ports.ts";
import type { RouterSeen } from "../../group.ts";
import { Lines, wokenGroup } from "../lines.ts";
import { decodeStatistics } from "../statistics.ts";

export interface RoutersOptions {
  /** Addresses of all replicas now, as `host:port`; it does not fail. */
  readonly resolve: () => Promise<readonly string[]>;
  /** Empty: replicas know the autoscaler by its address. */
  readonly token: () => string;
  /** A request waits for this group, `namespace/group`. */
  readonly onWake: (group: string) => void;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Routers {
  /** What each replica said last, by `namespace/group`. */
  readonly seen: () => ReadonlyMap<string, readonly RouterSeen[]>;
  /** To be said to every replica, now where it differs from what was said last, and again with every round. */
  readonly tell: (groups: readonly WakeableGroup[]) => void;
  readonly stop: () => Promise<void>;
}

const POLL_MS = 5000;
const DEADLINE_MS = 1000;
/** Names that resolve to nothing for so long mean that there is no router. */
const FORGET_MS = 60_000;
/** Of a thousand groups, each of a kilobyte. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** Replicas of one Service. */
const MAX_ROUTERS = 32;
/** Two of its lines did not come. */
const SILENT_MS = 2.5 * KEEPALIVE_MS;
const BACKOFF_MS = { first: 250, most: 10_000 } as const;

/** One replica at its address. */
interface Replica {
  readonly address: string;
  readonly abort: AbortController;
  page?: StatisticsPage;
  at: number;
  /** What it was told last of groups that may be woken. */
  told: string;
  failures: number;
  /** Groups that requests wait for, of which the page does not tell yet. */
  readonly woken: Set<string>;
}

/** Of a replica that was never heard: what it would say is not known, and not nothing. */
const unheard = (id: string): RouterSeen => ({
  ...{ id, at: -Infinity, requests: 0, promptTokens: 0, answers: 0, generatedTokens: 0 },
  ...{ backlogTokens: 0, backlogRequests: 0, heldRequests: 0, ttft: [], tpot: [] },
});

export function startRouters(options: RoutersOptions): Routers {
  return new Polling(options);
}

class Polling implements Routers {
  readonly #options: RoutersOptions;
  readonly #agent = new Agent({ connect: { timeout: DEADLINE_MS }, connections: 4 });
  readonly #replicas = new Map<string, Replica>();
  readonly #cancel: Cancel;
  #wakeable: string | undefined;
  #isStopped = false;
  #resolvedAt = -Infinity;

  constructor(options: RoutersOptions) {
    this.#options = options;
    this.#cancel = options.timers.every(POLL_MS, () => void this.#round());
    void this.#round();
  }

  readonly seen = (): ReadonlyMap<string, readonly RouterSeen[]> => {
    const rows = [...this.#replicas.values()].flatMap(({ page, at }) =>
      Object.entries(page?.groups ?? {}).map(([group, said]) => ({ group, seen: { id: page?.id ?? "", at, ...said } })),
    );
    const silent = [...this.#replicas.values()].filter(({ page }) => page === undefined);
    const unknown = silent.map(({ address }) => unheard(address));
    const groups = Map.groupBy(rows, ({ group }) => group);
    return new Map([...groups].map(([group, all]) => [group, [...all.map(({ seen }) => seen), ...unknown]]));
  };

  readonly tell = (groups: readonly WakeableGroup[]): void => {
    const text = JSON.stringify({ groups });
    if (text === this.#wakeable) return;
    this.#wakeable = text;
    for (const replica of this.#replicas.values()) void this.#say(replica);
  };

  readonly stop = async (): Promise<void> => {
    this.#isStopped = true;
    this.#cancel();
    for (const { abort } of this.#replicas.values()) abort.abort();
    await this.#agent.destroy();
  };

  async #round(): Promise<void> {
    const addresses = (await this.#options.resolve()).slice(0, MAX_ROUTERS);
    if (this.#isStopped) return;
    const now = this.#options.clock.monotonic();
    if (addresses.length > 0) this.#resolvedAt = now;
    // A name server that hiccups is no end of all routers.
    if (addresses.length > 0 || now - this.#resolvedAt > FORGET_MS) this.#keep(new Set(addresses));
    await Promise.all([...this.#replicas.values()].map((replica) => this.#poll(replica)));
    this.#options.metrics.gauge("tandem_autoscaler_routers", this.#heard());
  }

  /** Replicas that answered the last round. */
  #heard(): number {
    const since = this.#options.clock.monotonic() - POLL_MS;
    return [...this.#replicas.values()].filter(({ at }) => at >= since).length;
  }

  #keep(addresses: ReadonlySet<string>): void {
    for (const [address, { abort }] of this.#replicas)
      if (!addresses.has(address)) {
        abort.abort();
        this.#replicas.delete(address);
      }
    for (const address of addresses) if (!this.#replicas.has(address)) this.#begin(address);
  }

  #begin(address: string): void {
    const replica: Replica = {
      address,
      abort: new AbortController(),
      at: -Infinity,
      told: "",
      failures: 0,
      woken: new Set(),
    };
    this.#replicas.set(address, replica);
    void this.#follow(replica);
  }

  async #poll(replica: Replica): Promise<void> {
    const [text] = await Promise.all([
      this.#ask(replica, { path: STATISTICS_PATH, method: "GET" }),
      this.#say(replica),
    ]);
    const page = text === undefined ? undefined : decodeStatistics(text);
    if (page === undefined) return;
    // A new process behind the address knows nothing of what the last one was told.
    if (page.id !== replica.page?.id) replica.told = "";
    replica.page = page;
    replica.at = this.#options.clock.monotonic();
    if (replica.told === "") void this.#say(replica);
  }

  async #say(replica: Replica): Promise<void> {
    const body = this.#wakeable;
    if (body === undefined || replica.told === body) return;
    const answer = await this.#ask(replica, { path: SCALED_PATH, method: "POST", body });
    if (answer !== undefined) replica.told = body;
  }

  /** The body of an answer in time; undefined where there is none. */
  async #ask({ address, abort }: Replica, what: Pick<Dispatcher.RequestOptions, "path" | "method" | "body">) {
    const { metrics, log } = this.#options;
    try {
      const signal = AbortSignal.any([abort.signal, AbortSignal.timeout(DEADLINE_MS)]);
      const { statusCode, body } = await request(`http://${address}${what.path}`, {
        ...{ dispatcher: this.#agent, method: what.method, body: what.body ?? null, signal },
        headers: { ...this.#headers(), ...(what.body === undefined ? {} : { "content-type": "application/json" }) },
      });
      const text = await collect(body);
      if (statusCode >= 300) throw new Error(`status ${statusCode}`);
      return text;
    } catch (error) {
      if (this.#isStopped) return undefined;
      metrics.count("tandem_autoscaler_router_failures_total", { path: what.path });
      log.debug("router not asked", { address, path: what.path, error: (error as Error).message });
      return undefined;
    }
  }

  #headers(): Record<string, string> {
    const token = this.#options.token();
    return token === "" ? {} : { authorization: `Bearer ${token}` };
  }

  /** Until the replica's address is gone. */
  async #follow(replica: Replica): Promise<void> {
    const { signal } = replica.abort;
    while (!signal.aborted) {
      try {
        await this.#listen(replica);
      } catch (error) {
        const { metrics, log } = this.#options;
        metrics.count("tandem_autoscaler_router_failures_total", { path: WAKES_PATH });
        log.debug("router not followed", { address: replica.address, error: (error as Error).message });
      }
      await this.#pause(replica);
    }
  }

  async #listen(replica: Replica): Promise<void> {
    const { statusCode, body } = await request(`http://${replica.address}${WAKES_PATH}`, {
      ...{ dispatcher: this.#agent, method: "GET", headers: this.#headers(), signal: replica.abort.signal },
      ...{ headersTimeout: DEADLINE_MS, bodyTimeout: SILENT_MS },
    });
    if (statusCode !== 200) {
      await body.dump();
      throw new Error(`status ${statusCode}`);
    }
    const lines = new Lines();
    body.setEncoding("utf8");
    for await (const chunk of body as AsyncIterable<string>)
      for (const line of lines.push(chunk)) {
        replica.failures = 0;
        const group = wokenGroup(line);
        if (group !== undefined) void this.#wake(replica, group);
      }
  }

  /** The page says how much waits, and is read first: once for all groups that are woken until it has come. */
  async #wake(replica: Replica, group: string): Promise<void> {
    const { woken } = replica;
    const isAsking = woken.size > 0;
    if (woken.size < MAX_GROUPS) woken.add(group);
    while (!isAsking && woken.size > 0 && !this.#isStopped) {
      const groups = [...woken];
      await this.#poll(replica);
      for (const one of groups) {
        woken.delete(one);
        this.#options.onWake(one);
      }
    }
  }

  /** Half of it is jitter, so that replicas that come back together are not asked together. */
  async #pause(replica: Replica): Promise<void> {
    const { timers, random } = this.#options;
    const { signal } = replica.abort;
    const most = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** Math.min(replica.failures, 10));
    replica.failures += 1;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const end = (): void => resolve(undefined);
    const cancel = timers.after(most * (0.5 + random.next() / 2), end);
    signal.addEventListener("abort", end);
    await promise;
    signal.removeEventListener("abort", end);
    cancel();
  }
}

async function collect(body: Dispatcher.ResponseData["body"]): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_PAGE_BYTES) throw new Error(`answer larger than ${MAX_PAGE_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
