/**
 * Leader election on a `coordination.k8s.io/v1` Lease.
 *
 * Compare-and-swap on resourceVersion decides who holds it. Whether another's hold has run out is judged by our own
 * monotonic clock since we last saw the Lease change, never by its timestamps: clocks of two nodes need not agree.
 * The holder stops acting when it could not renew for the renew deadline, which is shorter than the duration after which
 * others take over; `isLeader` compares clocks itself, so a process that slept through both comes back as no leader.
 */
import { hasStatus } from "../kinds/kube-error.ts";
import { isObject, type JsonObject, type KubeObject, type ObjectRef } from "../kinds/kube.ts";
import type { Clock, KubeReader, KubeWriter, Log, Random, Timers } from "../ports.ts";
import { sleep } from "./reflector.ts";

export interface LeaseOptions {
  readonly reader: KubeReader;
  readonly writer: KubeWriter;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly namespace: string;
  readonly name: string;
  /** Unique for this process. */
  readonly identity: string;
  readonly times?: LeaseTimes;
}

/** Milliseconds. `renewMs` is below `durationMs`, `retryMs` below `renewMs`. */
export interface LeaseTimes {
  readonly durationMs: number;
  readonly renewMs: number;
  readonly retryMs: number;
}

export interface Lease {
  /** True while acting is safe. Ask right before every write. */
  isLeader(): boolean;
  /** From the last moment at which this one leads to the first at which another one can, in milliseconds. */
  readonly marginMs: number;
  /** Gives the lease back, so that the next holder need not wait for it to run out. */
  stop(): Promise<void>;
}

/** The defaults of Kubernetes' own components. */
export const LEASE_TIMES: LeaseTimes = { durationMs: 15_000, renewMs: 10_000, retryMs: 2000 };

/** Leads always: for a single replica without a Lease. */
export const ALWAYS_LEADER: Lease = {
  isLeader: () => true,
  marginMs: LEASE_TIMES.durationMs - LEASE_TIMES.renewMs,
  stop: () => Promise.resolve(),
};

/** What we know of the Lease: as it was when we last saw it change, and when that was. */
interface Observation {
  readonly version: string;
  readonly holder: string;
  readonly durationMs: number;
  readonly transitions: number;
  /** Monotonic. */
  readonly since: number;
}

interface Election {
  seen: Observation | undefined;
  /** Monotonic time at which the last successful renewal was begun; undefined while not holding. */
  renewedAt: number | undefined;
}

export function createLease(options: LeaseOptions): Lease {
  const times = options.times ?? LEASE_TIMES;
  const election: Election = { seen: undefined, renewedAt: undefined };
  const abort = new AbortController();
  const isLeader = (): boolean =>
    election.renewedAt !== undefined && options.clock.monotonic() - election.renewedAt < times.renewMs;
  const running = campaign(options, times, election, abort.signal);
  return {
    isLeader,
    marginMs: times.durationMs - times.renewMs,
    stop: async () => {
      abort.abort();
      await running;
      const held = isLeader();
      election.renewedAt = undefined;
      if (held) await release(options, election);
    },
  };
}

async function campaign(
  options: LeaseOptions,
  times: LeaseTimes,
  election: Election,
  signal: AbortSignal,
): Promise<void> {
  let leading = false;
  while (!signal.aborted) {
    await attempt(options, times, election);
    const now = election.renewedAt !== undefined;
    if (now !== leading) options.log.info(now ? "leading" : "no longer leading", { lease: options.name });
    leading = now;
    // Spread by a fifth, so that candidates do not write at the same moment for ever.
    await sleep(options.timers, times.retryMs * (0.9 + 0.2 * options.random.next()), signal);
  }
}

/** Looks, and takes or renews where that is ours to do. Never throws: what failed is tried again. */
async function attempt(options: LeaseOptions, times: LeaseTimes, election: Election): Promise<void> {
  const begun = options.clock.monotonic();
  try {
    observe(options, election, await options.reader.get(leaseRef(options)));
    if (!mayTake(options, election)) {
      election.renewedAt = undefined;
      return;
    }
    observe(options, election, await take(options, times, election.seen));
    election.renewedAt = begun;
  } catch (error) {
    // A conflict says that another was faster; after anything else we may still hold it until the deadline.
    const lost = hasStatus(error, 409) || begun - (election.renewedAt ?? begun) >= times.renewMs;
    if (lost) election.renewedAt = undefined;
    options.log.debug("lease not renewed", { lease: options.name, why: (error as Error).message });
  }
}

function mayTake({ clock, identity }: LeaseOptions, { seen }: Election): boolean {
  if (seen === undefined || seen.holder === "" || seen.holder === identity) return true;
  return clock.monotonic() - seen.since >= seen.durationMs;
}

function observe({ clock }: LeaseOptions, election: Election, lease: KubeObject | undefined): void {
  const version = lease?.metadata.resourceVersion ?? "";
  if (lease === undefined) election.seen = undefined;
  else if (election.seen?.version !== version) election.seen = { ...read(lease), version, since: clock.monotonic() };
}

function read(lease: KubeObject): Omit<Observation, "version" | "since"> {
  const spec: JsonObject = isObject(lease["spec"]) ? lease["spec"] : {};
  const { holderIdentity, leaseDurationSeconds, leaseTransitions } = spec;
  return {
    holder: typeof holderIdentity === "string" ? holderIdentity : "",
    durationMs: typeof leaseDurationSeconds === "number" ? leaseDurationSeconds * 1000 : 0,
    transitions: typeof leaseTransitions === "number" ? leaseTransitions : 0,
  };
}

const leaseRef = ({ namespace, name }: LeaseOptions): ObjectRef => ({
  apiVersion: "coordination.k8s.io/v1",
  plural: "leases",
  namespace,
  name,
});

/** RFC 3339 with exactly six decimals: the API server accepts no other form of MicroTime. */
const microTime = (ms: number): string => new Date(ms).toISOString().replace("Z", "000Z");

function take(options: LeaseOptions, times: LeaseTimes, seen: Observation | undefined): Promise<KubeObject> {
  const now = microTime(options.clock.now());
  const renewed = seen?.holder === options.identity;
  const spec = {
    holderIdentity: options.identity,
    leaseDurationSeconds: Math.ceil(times.durationMs / 1000),
    renewTime: now,
    ...(renewed ? {} : { acquireTime: now, leaseTransitions: (seen?.transitions ?? -1) + 1 }),
  };
  if (seen !== undefined) return swap(options, seen, spec);
  const metadata = { name: options.name, namespace: options.namespace };
  return options.writer.create({ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec });
}

/** Fails with 409 unless the Lease is still as it was seen. */
const swap = (options: LeaseOptions, seen: Observation, spec: JsonObject): Promise<KubeObject> =>
  options.writer.patch(leaseRef(options), "merge", { metadata: { resourceVersion: seen.version }, spec });

async function release(options: LeaseOptions, { seen }: Election): Promise<void> {
  if (seen === undefined) return;
  const spec = { holderIdentity: "", leaseDurationSeconds: 1, renewTime: microTime(options.clock.now()) };
  try {
    await swap(options, seen, spec);
  } catch (error) {
    options.log.debug("lease not released", { lease: options.name, why: (error as Error).message });
  }
}
