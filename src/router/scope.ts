/**
 * Which decode endpoints a request may be sent to, whatever it asks for: those that the proxy allows, and those that are
 * safe for a body nobody has read. Says nothing of prefill endpoints: no proxy sends a client there.
 */
import type { Config } from "../config/schema.ts";
import type { Problem } from "./answers.ts";
import type { KnownEndpoint } from "./directory.ts";
import type { CompleteRequest, Subset } from "./exchange.ts";

export type Scope = Pick<CompleteRequest, "namespace" | "subset" | "extent">;

/** Those of `decode` that may be picked, or why none may. `decode` has at least one. */
export function withinScope(
  decode: readonly KnownEndpoint[],
  { subset, extent = "whole" }: Scope,
  config: Pick<Config["router"], "unseenBodies">,
): readonly KnownEndpoint[] | Problem {
  const safe = extent === "whole" || config.unseenBodies === "any" ? decode : decode.filter(takesNoParameters);
  if (safe.length === 0) return UNSEEN;
  if (subset === undefined) return safe;
  if ("malformed" in subset) return malformed(subset.malformed);
  const allowed = safe.filter(({ endpoint }) => isAllowed(endpoint.address, subset));
  return allowed.length > 0 ? allowed : NONE_ALLOWED;
}

export const isScoped = (value: readonly KnownEndpoint[] | Problem): value is readonly KnownEndpoint[] =>
  Array.isArray(value);

/** A client could name a host in transfer parameters that nobody took out of the body. */
const takesNoParameters = ({ endpoint }: KnownEndpoint): boolean => endpoint.compatibility.connector === "none";

/** `ip:port` exactly; an address alone allows every port of it. */
function isAllowed(address: string, { addresses }: Exclude<Subset, { malformed: string }>): boolean {
  if (addresses.has(address)) return true;
  const host = address.slice(0, address.lastIndexOf(":"));
  return addresses.has(host) || (host.startsWith("[") && addresses.has(host.slice(1, -1)));
}

const NONE_ALLOWED: Problem = {
  status: 503,
  reason: "SubsetEmpty",
  message: "none of the endpoints that the proxy allows can take requests now",
};

const malformed = (what: string): Problem => ({
  status: 500,
  reason: "SubsetMalformed",
  message: `the proxy's list of allowed endpoints cannot be read: ${what}`,
});

const UNSEEN: Problem = {
  status: 503,
  reason: "BodyUnseen",
  message:
    "the body is not seen whole, and every endpoint takes KV transfer parameters from bodies; " +
    "let Envoy send it (FULL_DUPLEX_STREAMED, BUFFERED), or set router.unseenBodies",
};
