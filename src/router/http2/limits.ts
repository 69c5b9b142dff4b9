/** What one connection may take, and how often its peer may do what costs us more than it. */
import type { Clock } from "../../ports.ts";
import { Budget } from "./budget.ts";

export interface Limits {
  readonly maxStreams: number;
  /** Bytes that a peer may send of one stream, and over all, before they are taken. */
  readonly streamWindow: number;
  readonly connectionWindow: number;
  readonly maxHeaderBytes: number;
  /** Streams reset, or refused, a second; those reset before a byte of their answer are bounded by `maxStreams`. */
  readonly resetsPerSecond: number;
  /** WINDOW_UPDATE frames a second. */
  readonly grantsPerSecond: number;
  /** Frames a second that carry nothing: PING, PRIORITY, empty DATA and requests, what is unknown or of closed streams. */
  readonly idleFramesPerSecond: number;
  /** SETTINGS a second: each may touch every stream. */
  readonly settingsPerSecond: number;
  /** Faults of the peer a second, each of which costs it a stream only. */
  readonly faultsPerSecond: number;
}

export interface Budgets {
  readonly resets: Budget;
  readonly early: Budget;
  readonly grants: Budget;
  readonly idle: Budget;
  readonly settings: Budget;
  readonly faults: Budget;
}

export const budgetsOf = (limits: Limits, clock: Clock): Budgets => ({
  resets: new Budget(limits.resetsPerSecond, clock, "resets"),
  early: new Budget(limits.maxStreams, clock, "resets of requests that run"),
  grants: new Budget(limits.grantsPerSecond, clock, "window updates"),
  idle: new Budget(limits.idleFramesPerSecond, clock, "frames that carry nothing"),
  settings: new Budget(limits.settingsPerSecond, clock, "SETTINGS"),
  faults: new Budget(limits.faultsPerSecond, clock, "faults"),
});
