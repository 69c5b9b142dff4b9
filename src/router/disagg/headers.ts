/**
 * Which headers of a client go along on the prefill leg: those of a configured list, and never one by which a client
 * could route, frame the message or speak in the router's name.
 */
import { HEADER, UNTRUSTED_HEADERS } from "../../kinds/names.ts";
import { headerOf, type HeaderList } from "../headers.ts";

/** Of the connection (RFC 9110, 7.6.1) and of the message, which the router makes itself; and what only the router says. */
const OWN = [
  ...["connection", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"],
  ...[
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-encoding",
    "content-length",
    "content-type",
    "forwarded",
  ],
  HEADER.requestId,
];
const NEVER = new Set([...UNTRUSTED_HEADERS, ...OWN]);

/** False where a list of headers must not hold the name. */
export const mayGoAlong = (name: string): boolean => !NEVER.has(name) && !/^(:|x-gateway-|x-envoy-)/.test(name);

/** Headers of one prefill leg. Of a name that comes twice the first counts. */
export function legHeaders(
  headers: HeaderList,
  names: readonly string[],
  requestId: string,
): Readonly<Record<string, string>> {
  const along = names
    .filter(mayGoAlong)
    .map((name) => [name, headerOf(headers, name)] as const)
    .filter(([, value]) => value !== "");
  return Object.fromEntries([...along, ["content-type", "application/json"], [HEADER.requestId, requestId]]);
}
