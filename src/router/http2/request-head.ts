/** Whether the headers of a request are well-formed (RFC 9113, sections 8.1 to 8.3). What is not is reset. */
import type { HeaderList } from "../headers.ts";

/** What a list of headers says of its request. */
export interface RequestHead {
  /** Why it is malformed. */
  readonly fault?: string;
  /** Bytes of the body as announced; -1: not announced. */
  readonly length: number;
}

/** Those of a request; `:protocol` only where we had announced extended CONNECT. */
const PSEUDO = new Set([":method", ":scheme", ":authority", ":path"]);
/** They speak of one HTTP/1 connection. */
const OF_HTTP1 = new Set(["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"]);
/** A token (RFC 9110, section 5.6.2) without upper case. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const BAD_VALUE = /[\0\r\n]|^[ \t]|[ \t]$/;
const LENGTH = /^\d{1,15}$/;

export function requestHead(headers: HeaderList): RequestHead {
  const lengths = new Set(headers.filter(([name]) => name === "content-length").map(([, value]) => value));
  const [length = "-1"] = lengths;
  const isAnnounced = lengths.size > 0;
  const fault =
    pseudoFault(headers) ??
    fieldsFault(headers.filter(([name]) => !name.startsWith(":"))) ??
    (isAnnounced && (lengths.size > 1 || !LENGTH.test(length)) ? "content-length" : undefined);
  return { ...(fault === undefined ? {} : { fault }), length: Number(length) };
}

/** Why trailers are malformed. */
export const trailersFault = (headers: HeaderList): string | undefined =>
  headers.some(([name]) => name.startsWith(":")) ? "pseudo-header in trailers" : fieldsFault(headers);

function pseudoFault(headers: HeaderList): string | undefined {
  const count = headers.filter(([name]) => name.startsWith(":")).length;
  const pseudo = new Map(headers.slice(0, count));
  for (const [name, value] of pseudo) {
    if (!PSEUDO.has(name)) return name.startsWith(":") ? "unknown pseudo-header" : "pseudo-header behind a header";
    if (BAD_VALUE.test(value)) return `value of ${name}`;
  }
  if (pseudo.size < count) return "pseudo-header given twice";
  return missing(pseudo);
}

function missing(pseudo: ReadonlyMap<string, string>): string | undefined {
  if (pseudo.get(":method") === "CONNECT")
    return pseudo.has(":scheme") || pseudo.has(":path") ? "CONNECT with a path" : undefined;
  return [":method", ":scheme", ":path"].find((name) => (pseudo.get(name) ?? "") === "");
}

function fieldsFault(headers: HeaderList): string | undefined {
  for (const [name, value] of headers) {
    if (!NAME.test(name)) return "name of a header";
    if (BAD_VALUE.test(value)) return "value of a header";
    if (OF_HTTP1.has(name) || (name === "te" && value !== "trailers")) return name;
  }
  return undefined;
}
