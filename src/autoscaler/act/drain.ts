/**
 * How far the drain of an instance is: from its engine's metrics pages, from clocks, and from what is remembered of the
 * drain. It never ends before pages read after its beginning say that the engine is idle, or its time is over.
 *
 * Memory only spares time: a process that has none begins to wait for the idle engine anew, while the time at which the
 * drain began is on the pods.
 */
import type { Role } from "../../kinds/endpoint.ts";
import type { EngineSeen } from "../group.ts";
import type { Instance } from "./instances.ts";

export interface DrainRules {
  readonly role: Role;
  readonly drainTimeoutMs: number;
  readonly standbyMs: number;
  /** An engine is idle that has been so for as long: a decode leg follows its prefill leg by seconds. */
  readonly quietMs: number;
  /** A prefill engine that still holds KV waits so long for decode engines to fetch it. */
  readonly kvLeaseMs: number;
}

/** Of one drain, on the monotonic clock. */
export interface DrainMemory {
  /** When it was first seen: routers have been told by then, or soon after. */
  readonly seenAt: number;
  /** Time of the first page of those in a row that say idle. */
  readonly idleSince?: number;
  readonly doneAt?: number;
}

/** `idle`: nothing is lost; `late`: the time was over before; `unserving`: it was not ready, and was given nothing. */
export type DrainEnd = "idle" | "late" | "unserving";

export interface DrainState {
  readonly memory: DrainMemory;
  /** Undefined while it drains. */
  readonly end?: DrainEnd;
  /** It may be deleted: it is done, and has stood by for as long as it should. */
  readonly ripe: boolean;
}

export interface Moment {
  /** Monotonic milliseconds. */
  readonly now: number;
  /** Milliseconds since the Unix epoch. */
  readonly wallClock: number;
}

/** Routers follow pods by a watch; what they sent before they heard has arrived by then. */
const HEARD_MS = 2000;
/** Share of the KV cache that an engine without requests may report for what it keeps of its own. */
const EMPTY_KV = 0.001;
/** A page that is older says nothing of now: three scrapes were missed. */
const FRESH_MS = 15_000;

/** `since` is when the drain began, in milliseconds since the epoch; undefined where nobody knows. */
export function drainState(
  instance: Instance,
  { since, before }: { readonly since: number | undefined; readonly before: DrainMemory | undefined },
  rules: DrainRules,
  moment: Moment,
): DrainState {
  const seenAt = before?.seenAt ?? moment.now;
  const idleSince = idleFrom(instance.engine, seenAt, before?.idleSince);
  const memory: DrainMemory = { seenAt, ...(idleSince === undefined ? {} : { idleSince }) };
  const end = endOf(instance, memory, { since, rules, moment });
  if (end === undefined) return { memory, ripe: false };
  const doneAt = before?.doneAt ?? moment.now;
  const ripe = end === "unserving" || moment.now - doneAt >= rules.standbyMs;
  return { memory: { ...memory, doneAt }, end, ripe };
}

const isIdle = ({ running, waiting }: EngineSeen): boolean => running === 0 && waiting === 0;

function idleFrom(engine: EngineSeen | undefined, seenAt: number, before: number | undefined): number | undefined {
  if (engine === undefined || engine.at < seenAt + HEARD_MS) return before;
  return isIdle(engine) ? (before ?? engine.at) : undefined;
}

interface Judged {
  readonly since: number | undefined;
  readonly rules: DrainRules;
  readonly moment: Moment;
}

function endOf(instance: Instance, memory: DrainMemory, judged: Judged): DrainEnd | undefined {
  if (!instance.ready && !instance.lapsed && !isBusy(instance.engine, judged.moment)) return "unserving";
  if (isQuiet(instance.engine, memory, judged)) return "idle";
  return elapsed(memory, judged) >= judged.rules.drainTimeoutMs ? "late" : undefined;
}

/** Of an engine out of routing: what it runs may still come to its end. */
const isBusy = (engine: EngineSeen | undefined, { now }: Moment): boolean =>
  engine !== undefined && now - engine.at < FRESH_MS && !isIdle(engine);

function isQuiet(engine: EngineSeen | undefined, { idleSince }: DrainMemory, { rules, moment }: Judged): boolean {
  if (engine === undefined || idleSince === undefined || moment.now - engine.at >= FRESH_MS) return false;
  const quietMs = engine.at - idleSince;
  const holdsKv = rules.role === "prefill" && engine.kvUsage > EMPTY_KV;
  return quietMs >= (holdsKv ? Math.max(rules.quietMs, rules.kvLeaseMs) : rules.quietMs);
}

/** The clock of who began it may have been wrong; a drain that was seen for so long has lasted for so long. */
const elapsed = ({ seenAt }: DrainMemory, { since, moment }: Judged): number =>
  Math.max(moment.now - seenAt, moment.wallClock - (since ?? moment.wallClock));
