/** Who wrote under whose lead, by the API server's audit log: pure. */
import { AUTOSCALER, credentialOf, type AuditEvent } from "../e2e/cluster/audit.ts";

/** Whose Lease an object is scaled under; undefined for what is none of it. */
export type LeaseOf = (ref: AuditEvent["objectRef"]) => string | undefined;

export interface Judged {
  /** Writes that the API server carried out, Leases aside. */
  readonly writes: number;
  /** Of them, answered after the Lease had been asked for by another that got it. */
  readonly stale: readonly AuditEvent[];
  /** Sent by one that led no more, and refused for what they were fenced by. */
  readonly refused: number;
  /** Changes of a Lease by one that had lost it meanwhile. */
  readonly staleRenewals: number;
  /** The Lease went from one process to another. */
  readonly takeovers: number;
}

interface Term {
  readonly credential: string;
  /** When it was asked for: the earliest that it can have begun. */
  readonly since: string;
}

const isLease = ({ objectRef }: AuditEvent): boolean => objectRef.resource === "leases";
const wasDone = ({ responseStatus }: AuditEvent): boolean => (responseStatus?.code ?? 500) < 300;

/** Of one second's writes the API server tells microseconds: texts of one length, which sort as times do. */
export function judge(all: readonly AuditEvent[], leaseOf: LeaseOf): Judged {
  const events = all.filter(({ user }) => user.username === AUTOSCALER);
  const terms = termsOf(events);
  const writes = events.filter((event) => !isLease(event) && leaseOf(event.objectRef) !== undefined);
  const outside = (event: AuditEvent, at: string): boolean => {
    const holder = holderAt(terms.get(leaseOf(event.objectRef) ?? "") ?? [], at);
    return holder !== undefined && holder !== credentialOf(event);
  };
  return {
    writes: writes.filter(wasDone).length,
    stale: writes.filter((event) => wasDone(event) && outside(event, event.stageTimestamp)),
    refused: writes.filter((event) => !wasDone(event) && outside(event, event.requestReceivedTimestamp)).length,
    staleRenewals: renewals(events).filter((event) => {
      const holder = holderAt(terms.get(event.objectRef.name ?? "") ?? [], event.stageTimestamp);
      return holder !== undefined && holder !== credentialOf(event);
    }).length,
    takeovers: [...terms.values()].reduce((sum, each) => sum + each.length - 1, 0),
  };
}

const specOf = ({ requestObject }: AuditEvent): Readonly<Record<string, unknown>> =>
  (requestObject?.["spec"] ?? {}) as Readonly<Record<string, unknown>>;

const isTaking = (event: AuditEvent): boolean => specOf(event)["acquireTime"] !== undefined;
const renewals = (events: readonly AuditEvent[]): readonly AuditEvent[] =>
  events.filter((event) => isLease(event) && wasDone(event) && !isTaking(event));

function termsOf(events: readonly AuditEvent[]): ReadonlyMap<string, readonly Term[]> {
  const taken = events.filter((event) => isLease(event) && wasDone(event) && isTaking(event));
  const byLease = Map.groupBy(taken, ({ objectRef }) => objectRef.name ?? "");
  return new Map([...byLease].map(([lease, each]) => [lease, each.map(termOf).sort(bySince).filter(isChange)]));
}

const termOf = (event: AuditEvent): Term => ({
  credential: credentialOf(event),
  since: event.requestReceivedTimestamp,
});
const bySince = (one: Term, other: Term): number => (one.since < other.since ? -1 : 1);
const isChange = (term: Term, index: number, all: readonly Term[]): boolean =>
  all[index - 1]?.credential !== term.credential;

const holderAt = (terms: readonly Term[], at: string): string | undefined =>
  terms.findLast(({ since }) => since < at)?.credential;
