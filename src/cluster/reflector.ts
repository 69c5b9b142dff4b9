/**
 * The reflector of one kind: list, then watch, for ever; the store always holds what the server last said.
 *
 * The client library's informer is not used: it stops on errors other than 410, never notices a silent connection, and
 * reads whole lists without pages. Here one loop does one thing at a time, so no two requests of a kind ever race:
 * - list in pages of 500; an expired page token begins the list anew;
 * - watch with bookmarks. The server is asked to end each watch after 20 to 30 s (spread, so that a fleet does not come
 *   back at once), and 45 s of silence end it here: a connection that died without a word, as behind a proxy or a NAT that
 *   forgot it, is found in that time. Bookmarks come once a minute at best, and none for a kind of which nothing ever
 *   changed; a PING is answered by the next hop, and a second request goes over another connection; that the watch's own
 *   end comes back proves the whole way. It costs a process half a request a second for all of its kinds;
 * - 410, an ERROR event, or a third failure in a row: list again; any other end: watch again from the last version;
 * - failures wait by full jitter, 0.5 s doubling to 30 s;
 * - 404 on an optional API: known to be absent, asked again every 30 s, so installing it later just works.
 */
import { KubeError, hasStatus } from "../kinds/kube-error.ts";
import { isObject, type KubeObject, type ObjectRef } from "../kinds/kube.ts";
import type { Clock, Log, Metrics, Random, Timers } from "../ports.ts";
import { asObject, asPage, collectionPath, PAGE_SIZE, type Page } from "./client.ts";
import type { Store } from "./store.ts";
import { malformed, type Transport } from "./transport.ts";

export interface ReflectorPorts {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface WatchedKind<T extends KubeObject> {
  /** Name in logs and metrics. */
  readonly kind: string;
  readonly resource: Omit<ObjectRef, "name">;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** The API may be missing. */
  readonly optional?: boolean;
  readonly slim: (object: KubeObject) => T;
}

export interface ReflectorOptions<T extends KubeObject> extends ReflectorPorts {
  readonly transport: Transport;
  readonly watched: WatchedKind<T>;
  readonly store: Store<T>;
  readonly signal: AbortSignal;
}

export const LIMITS = {
  idleMs: 45_000,
  serverTimeoutSeconds: { least: 20, most: 30 },
  backoffMs: { first: 500, most: 30_000 },
  absentMs: 30_000,
  /** A watch that ended sooner, without an event, counts as a failure: else a broken proxy makes a hot loop. */
  shortMs: 1000,
  failuresBeforeList: 3,
} as const;

interface Progress {
  /** Where the watch goes on; undefined: list first. */
  version: string | undefined;
  failures: number;
}

/** Runs until the signal aborts. Never throws. */
export async function runReflector<T extends KubeObject>(options: ReflectorOptions<T>): Promise<void> {
  const progress: Progress = { version: undefined, failures: 0 };
  while (!options.signal.aborted) {
    const delay = await step(options, progress);
    if (delay > 0) await sleep(options.timers, delay, options.signal);
  }
}

/** One list or one watch; gives the milliseconds to wait before the next. */
async function step<T extends KubeObject>(options: ReflectorOptions<T>, progress: Progress): Promise<number> {
  try {
    if (progress.version === undefined) {
      progress.version = await relist(options);
      return 0;
    }
    await watch(options, progress);
    return 0;
  } catch (error) {
    return options.signal.aborted ? 0 : afterFailure(options, progress, error);
  }
}

async function relist<T extends KubeObject>(options: ReflectorOptions<T>): Promise<string> {
  const items: T[] = [];
  let [version, asked]: [string, Asked | undefined] = ["", askFor(options, undefined)];
  while (asked !== undefined) {
    const page: Page = asPage(await asked.answer);
    for (const item of page.items) items.push(options.watched.slim(item));
    version = page.version;
    if (page.next !== asked.next?.token) asked.next = page.next === undefined ? undefined : askFor(options, page.next);
    asked = asked.next;
  }
  options.store.replace(items);
  return version;
}

/** A page that was asked for, and the one behind it as soon as its token is known. */
interface Asked {
  readonly token: string | undefined;
  readonly answer: Promise<unknown>;
  next: Asked | undefined;
}

/** The server prepares the next page while this one is decoded: of 50,000 pods that is a third of the time. */
function askFor<T extends KubeObject>(options: ReflectorOptions<T>, token: string | undefined): Asked {
  const { transport, watched, signal } = options;
  const query = { ...selectors(watched), limit: String(PAGE_SIZE), continue: token };
  const early = (beginning: string): void => {
    const following = FOLLOWING.exec(beginning)?.[1];
    if (following !== undefined) asked.next = askFor(options, following);
  };
  const answer = transport.call({ method: "GET", path: collectionPath(watched.resource), query, signal, early });
  // Of a list that fails before, nobody comes for this page.
  answer.catch(() => undefined);
  const asked: Asked = { token, answer, next: undefined };
  return asked;
}

/** The token in the metadata of a list, which the server puts before its items; of custom resources it may come last. */
const FOLLOWING = /^[^[]*"metadata":\{[^{}[]*"continue":"([^"\\]+)"/;

const selectors = <T extends KubeObject>(watched: WatchedKind<T>): Record<string, string | undefined> => ({
  labelSelector: watched.labelSelector,
  fieldSelector: watched.fieldSelector,
});

/** Reads one watch to its end. Throws where that end is not the server's ordinary one. */
async function watch<T extends KubeObject>(options: ReflectorOptions<T>, progress: Progress): Promise<void> {
  const { transport, watched, clock } = options;
  const idle = idleGuard(options);
  const begun = clock.monotonic();
  let events = 0;
  try {
    const path = collectionPath(watched.resource);
    const query = { ...selectors(watched), ...watchQuery(options, progress.version ?? "") };
    for await (const line of transport.lines({ method: "GET", path, query, signal: idle.signal }, idle.heard)) {
      idle.heard();
      takeEvent(options, progress, line);
      events += 1;
    }
  } catch (error) {
    if (!idle.fellSilent()) throw error;
    options.log.debug("watch was silent", { kind: watched.kind });
  } finally {
    idle.stop();
  }
  if (options.signal.aborted) return;
  if (events === 0 && clock.monotonic() - begun < LIMITS.shortMs) throw failed("Short", "the watch ended at once");
  progress.failures = 0;
}

function watchQuery<T extends KubeObject>(
  { random }: ReflectorOptions<T>,
  resourceVersion: string,
): Record<string, string> {
  const { least, most } = LIMITS.serverTimeoutSeconds;
  const timeoutSeconds = String(Math.round(least + random.next() * (most - least)));
  return { watch: "true", allowWatchBookmarks: "true", resourceVersion, timeoutSeconds };
}

interface IdleGuard {
  readonly signal: AbortSignal;
  readonly heard: () => void;
  /** It ended a watch that had begun. */
  fellSilent(): boolean;
  stop(): void;
}

/** Aborts the watch after 45 s in which nothing came, not even the answer's head. */
function idleGuard<T extends KubeObject>({ timers, signal, store }: ReflectorOptions<T>): IdleGuard {
  const silence = new AbortController();
  const arm = (): (() => void) => timers.after(LIMITS.idleMs, () => silence.abort());
  let cancel = arm();
  let begun = false;
  return {
    signal: AbortSignal.any([silence.signal, signal]),
    heard: () => {
      begun = true;
      store.heard();
      cancel();
      cancel = arm();
    },
    fellSilent: () => begun && silence.signal.aborted && !signal.aborted,
    stop: () => cancel(),
  };
}

function takeEvent<T extends KubeObject>(
  { store, watched }: ReflectorOptions<T>,
  progress: Progress,
  line: string,
): void {
  const { type, object } = decodeEvent(line);
  if (type === "ERROR") {
    progress.version = undefined;
    throw errorEvent(object);
  }
  const item = asObject(object);
  const version = item.metadata.resourceVersion;
  if (version === undefined || version === "") throw malformed("a watch event without resourceVersion");
  if (type === "DELETED") store.remove(item);
  else if (type !== "BOOKMARK") store.put(watched.slim(item));
  progress.version = version;
  progress.failures = 0;
}

const EVENT_TYPES = new Set(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]);

function decodeEvent(line: string): { type: string; object: unknown } {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    throw malformed("a watch line is not JSON");
  }
  if (!isObject(event) || typeof event["type"] !== "string" || !EVENT_TYPES.has(event["type"]))
    throw malformed("a watch line is not an event");
  return { type: event["type"], object: event["object"] };
}

function errorEvent(object: unknown): KubeError {
  const status = isObject(object) ? object : {};
  return new KubeError({
    status: typeof status["code"] === "number" ? status["code"] : 500,
    reason: typeof status["reason"] === "string" ? status["reason"] : "ErrorEvent",
    message: typeof status["message"] === "string" ? status["message"] : "the watch sent an error",
  });
}

function afterFailure<T extends KubeObject>(options: ReflectorOptions<T>, progress: Progress, error: unknown): number {
  const { watched, store, metrics, log } = options;
  if (watched.optional === true && hasStatus(error, 404)) {
    store.absent();
    progress.version = undefined;
    return LIMITS.absentMs;
  }
  progress.failures += 1;
  metrics.count("tandem_cluster_watch_restarts_total", { kind: watched.kind });
  // An expired version is the server's ordinary answer to a reader that was away; the first one needs no waiting.
  const expired = hasStatus(error, 410);
  if (expired || hasStatus(error, 404) || progress.failures >= LIMITS.failuresBeforeList) progress.version = undefined;
  const delay = expired && progress.failures === 1 ? 0 : backoff(options.random, progress.failures);
  log[expired || isRepetition(progress.failures) ? "debug" : "warn"]("watch interrupted", {
    kind: watched.kind,
    why: (error as Error).message,
    again: Math.round(delay),
  });
  return delay;
}

/** Of a server that stays away, one line in ten is enough. */
const isRepetition = (failures: number): boolean => failures > 3 && failures % 10 !== 0;

function backoff(random: Random, failures: number): number {
  const { first, most } = LIMITS.backoffMs;
  return random.next() * Math.min(most, first * 2 ** (failures - 1));
}

const failed = (reason: string, message: string): KubeError => new KubeError({ status: 0, reason, message });

/** Resolves after `ms`, or at once when the signal aborts. */
export function sleep(timers: Timers, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      cancel();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const cancel = timers.after(ms, done);
    signal.addEventListener("abort", done, { once: true });
  });
}
