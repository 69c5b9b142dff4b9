/**
 * What the outside world looks like from the inside: interfaces, no code.
 *
 * Time, randomness, timers, logs, metrics, the API server and the engines reach every capability through these, so a
 * decision can be replayed from its inputs and the simulator runs the code that production runs.
 */
import type { KubeObject, ObjectRef } from "./kinds/kube.ts";
import type { Verdict } from "./kinds/verdict.ts";

/** Time as an argument. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Milliseconds of a clock that never goes back; only differences mean something. */
  readonly monotonic: () => number;
}

/** The only source of randomness. */
export interface Random {
  /** A number in [0, 1). */
  readonly next: () => number;
  /** A fresh identifier, unguessable, of lower-case hexadecimal digits and dashes. */
  readonly id: () => string;
}

/** Stops what it belongs to; calling it twice is harmless. */
export type Cancel = () => void;

export interface Timers {
  /** Calls once, after `ms` milliseconds. */
  readonly after: (ms: number, task: () => void) => Cancel;
  /** Calls every `ms` milliseconds until cancelled. */
  readonly every: (ms: number, task: () => void) => Cancel;
}

export type LogFields = Readonly<Record<string, unknown>>;

/** Structured log. Never given prompts, salts, keys or header values. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose every line carries `fields`. */
  with(fields: LogFields): Log;
}

export type MetricLabels = Readonly<Record<string, string>>;

/** Metrics by the names of `kinds/metric-names.ts`; an undeclared name is a bug and throws. */
export interface Metrics {
  count(name: string, labels?: MetricLabels, by?: number): void;
  gauge(name: string, value: number, labels?: MetricLabels): void;
  /** Histogram observation, in the unit that the name ends in. */
  observe(name: string, value: number, labels?: MetricLabels): void;
}

/** Metrics whose series come and go with what they tell of. */
export interface MetricSeries extends Metrics {
  /** Takes a series off the page; one that is not there is no mistake. */
  drop(name: string, labels: MetricLabels): void;
}

/** One read of the API server, outside the watch: for commands and for checks just before a write. */
export interface KubeReader {
  /** The object, or undefined where the server says 404. */
  get(ref: ObjectRef): Promise<KubeObject | undefined>;
  list(kind: Omit<ObjectRef, "name">, selector?: string): Promise<readonly KubeObject[]>;
}

export type PatchType = "json" | "merge" | "strategic";

/** The only way anything is written to the API server. Every call has a deadline. */
export interface KubeWriter {
  /** Server-side apply under our field manager. */
  apply(object: KubeObject, manager: string): Promise<KubeObject>;
  create(object: KubeObject): Promise<KubeObject>;
  patch(ref: ObjectRef, type: PatchType, body: unknown): Promise<KubeObject>;
  /**
   * Deleting what is already gone succeeds. With `uid`, only that incarnation goes. With `version`, only as it was read:
   * throws a KubeError 409 where it has changed since.
   */
  remove(ref: ObjectRef, uid?: string, version?: string): Promise<void>;
  /** An Event on an object, told once for the same object, reason and message. */
  event(about: KubeObject, verdict: Verdict): Promise<void>;
}

/** Binds pods to nodes, which is a scheduler's work; the extender's only where it is told to. */
export interface PodBinder {
  /** Throws a KubeError: 409 where the pod is bound already or is going, 404 where that incarnation is gone. */
  bind(
    pod: { readonly namespace: string; readonly name: string; readonly uid: string },
    node: string,
    timeoutMs: number,
  ): Promise<void>;
}

/** An immutable view of everything of one kind, with a version that grows with every change. */
export interface Snapshot<T> {
  readonly version: number;
  readonly items: readonly T[];
}

/** A watched kind: one writer (the reflector), readers take snapshots. */
export interface Source<T> {
  snapshot(): Snapshot<T>;
  /** True after the first full list. */
  synced(): boolean;
  /** Called after a change, at most once a turn of the event loop. */
  onChange(listener: () => void): Cancel;
}

export interface EngineRequest {
  /** `ip:port` */
  readonly address: string;
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Called once a connection stands and the request is on its way; never where it comes to none. */
  readonly onSent?: () => void;
  /** Over plain HTTP and without the router's credential: a server beside the engine's API. */
  readonly plain?: true;
}

/**
 * What became of a call to an engine. `refused`: nothing was sent, so trying elsewhere is free of doubt. `lost`: the
 * engine may have begun. `late`: the deadline passed. `aborted`: our own signal.
 */
export type EngineReply =
  | {
      readonly kind: "answer";
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly body: Uint8Array;
    }
  | { readonly kind: "refused" | "lost" | "late" | "aborted"; readonly detail: string };

/** HTTP towards engines. Never throws: every ending is an EngineReply. */
export interface EngineClient {
  send(request: EngineRequest): Promise<EngineReply>;
}

/** A thread beside the one that serves: started again when it fails, so both sides say all they know when it starts. */
export interface Thread {
  /** Copied, as `postMessage` does; lost while the thread is down. */
  post(message: unknown): void;
  stop(): void;
}

/** The same connection seen from the thread. */
export interface ThreadPort {
  post(message: unknown, transfer?: readonly ArrayBuffer[]): void;
  onMessage(listener: (message: unknown) => void): void;
}
