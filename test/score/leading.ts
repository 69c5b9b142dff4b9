/** What a process that competes for Leases is told, and what it tells. */
import type { LeaseTimes } from "../../src/cluster/lease.ts";

/** One that was told to stop itself does so within, or not at all. */
export const AIMED_WITHIN_MS = 1500;

/** The first argument of the process, as JSON. */
export interface LeadingOptions {
  readonly kubeconfig: string;
  readonly identity: string;
  /** Deployments are scaled under the Lease that their `tandem.sh/model` names. */
  readonly leases: readonly string[];
  readonly namespace: string;
  readonly leaseNamespace: string;
  readonly times: LeaseTimes;
  readonly intervalMs: number;
  readonly seed: number;
}

/** The last line of its log, as JSON. */
export interface LeadingReport {
  /** Writes that were on their way when it was stopped: they ended, one way or the other, after it went on. */
  readonly inFlight: number;
  /** Not sent: it led no more when they were about to leave. */
  readonly withheld: number;
  /** Reads on their way then, each of which a write follows. */
  readonly reading: number;
}
