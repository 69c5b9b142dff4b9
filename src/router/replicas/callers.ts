/** Who is heard at the router's own port: whoever knows the token, or, without one, speaks from a known address. */
import { timingSafeEqual } from "node:crypto";
import type { Metrics } from "../../ports.ts";

export interface CallerRule {
  /** Callers must know it, and may be anywhere; empty: they must be members. */
  readonly token: string;
  /** Without a token: whether a caller at this IP address is known. */
  readonly isMember: (remote: string | undefined) => Promise<boolean>;
  readonly metrics: Metrics;
}

export interface Caller {
  readonly authorization: string | undefined;
  readonly remote: string | undefined;
}

const REFUSED = { token: 401, stranger: 403 } as const;

/** The status that refuses the caller, counted; undefined where it is heard. */
export async function refusalOf(
  { token, isMember, metrics }: CallerRule,
  { authorization, remote }: Caller,
): Promise<401 | 403 | undefined> {
  const isHeard = token === "" ? await isMember(remote) : isKnown(authorization, token);
  if (isHeard) return undefined;
  const reason = token === "" ? "stranger" : "token";
  metrics.count("tandem_router_replica_refused_total", { reason });
  return REFUSED[reason];
}

function isKnown(given: string | undefined, token: string): boolean {
  const [a, b] = [Buffer.from(given ?? ""), Buffer.from(`Bearer ${token}`)];
  return a.length === b.length && timingSafeEqual(a, b);
}
