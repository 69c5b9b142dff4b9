/** Tells the other replicas: one POST to each address, the next one when the last has ended. */
import { lookup } from "node:dns/promises";
import { Agent, request } from "undici";
import type { Clock, Log, Metrics, Timers } from "../../ports.ts";
import type { Members } from "./members.ts";
import { MAX_REPLICAS, PUSH_MS, type Peers, type Telling } from "./peers.ts";

/** A replica that takes longer is told again: what it missed is in the next message. */
const SEND_MS = 1000;
/** Replicas come and go; the cluster's DNS keeps answers for some seconds itself. */
const RESOLVE_MS = 2000;
/** The answer of a replica to itself. */
const SELF = 409;
/** Not heard for now: a stranger to that replica until its DNS knows of us, or one replica too many. */
const NOT_NOW: ReadonlySet<number> = new Set([403, 429]);
/** Then it is left alone for so long, and told all that it missed. */
const REST_MS = 1000;

export interface PushOptions {
  readonly members: Members;
  readonly token: string;
  readonly state: Peers;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Push {
  readonly stop: () => Promise<void>;
}

export function startPush(options: PushOptions): Push {
  const { members, state, clock, timers, log, metrics } = options;
  const agent = new Agent({ connections: 1, connect: { timeout: SEND_MS } });
  const busy = new Set<string>();
  const own = new Set<string>();
  const restsUntil = new Map<string, number>();
  let addresses: readonly string[] = [];
  const send = async (address: string, { body, lost, arrived }: Telling): Promise<boolean> => {
    try {
      const status = await post(agent, address, { body, token: options.token });
      if (NOT_NOW.has(status)) {
        restsUntil.set(address, clock.monotonic() + REST_MS);
        throw new Error(`status ${status}`);
      }
      // Refused or not, it is not said again: nobody is stopped by a message that another version does not take.
      arrived();
      if (lost > 0) metrics.count("tandem_router_replica_picks_lost_total", {}, lost);
      if (status === SELF) own.add(address);
      else if (status >= 400) throw new Error(`status ${status}`);
      return status !== SELF;
    } catch (error) {
      metrics.count("tandem_router_replica_failures_total");
      log.debug("replica not told", { address, error: (error as Error).message });
      return false;
    }
  };
  /** Until it knows all; one that was away catches up at once, message by message. */
  const catchUp = async (address: string): Promise<void> => {
    busy.add(address);
    for (let next = state.next(address); next !== undefined && (await send(address, next));) next = state.next(address);
    busy.delete(address);
  };
  const tell = (): void => {
    const now = clock.monotonic();
    state.advance(now);
    metrics.gauge("tandem_router_replicas", state.count + 1);
    const rests = (address: string): boolean => (restsUntil.get(address) ?? 0) > now;
    for (const address of addresses)
      if (!busy.has(address) && !own.has(address) && !rests(address)) void catchUp(address);
  };
  const resolve = async (): Promise<void> => {
    await members.refresh();
    addresses = members.addresses.slice(0, MAX_REPLICAS);
    for (const gone of [...own, ...restsUntil.keys()].filter((address) => !addresses.includes(address))) {
      own.delete(gone);
      restsUntil.delete(gone);
    }
  };
  void resolve();
  const cancels = [timers.every(PUSH_MS, tell), timers.every(RESOLVE_MS, () => void resolve())];
  return {
    stop: async () => {
      for (const cancel of cancels) cancel();
      await agent.destroy();
    },
  };
}

async function post(agent: Agent, address: string, { body, token }: { body: string; token: string }): Promise<number> {
  const { statusCode, body: answer } = await request(`http://${address}/v1/loads`, {
    dispatcher: agent,
    method: "POST",
    headers: { "content-type": "application/json", ...(token === "" ? {} : { authorization: `Bearer ${token}` }) },
    body,
    headersTimeout: SEND_MS,
    bodyTimeout: SEND_MS,
  });
  await answer.dump();
  return statusCode;
}

/**
 * Every address behind the names, as `host:port`; a name that does not resolve now has none.
 * @param peers `host:port` of a headless Service, or several with commas; empty for none
 */
export async function resolved(peers: string): Promise<readonly string[]> {
  const names = peers === "" ? [] : peers.split(",").map((name) => name.trim());
  const found = await Promise.all(names.map(addressesOf));
  return [...new Set(found.flat())].sort();
}

async function addressesOf(name: string): Promise<readonly string[]> {
  const { hostname, port } = new URL(`http://${name}`);
  try {
    const all = await lookup(hostname.replace(/^\[|\]$/g, ""), { all: true });
    return all.map(({ address, family }) => `${family === 6 ? `[${address}]` : address}:${port || "80"}`);
  } catch {
    return [];
  }
}
