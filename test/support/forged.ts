/** Requests of a client that would choose where it is sent: every routing header, in every form that HTTP/1 can carry. */
import { UNTRUSTED_HEADERS } from "../../src/kinds/names.ts";

/** A request as its bytes; `{address}` stands for where the forger would go. */
export interface Forgery {
  readonly name: string;
  readonly method: "GET" | "POST";
  readonly path: string;
  /** Lines between the request line and the body, each with its own end. */
  readonly lines: string;
  readonly body: string;
}

type Change = readonly [name: string, change: (text: string) => string];

/** Beside ours: what proxies and clusters of type ORIGINAL_DST go by, and Envoy's own. */
const NAMES = [
  ...UNTRUSTED_HEADERS,
  "x-envoy-original-dst-host",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-retry-on",
  "x-envoy-max-retries",
];

const alternating = (text: string): string =>
  text.replace(/[^]/g, (letter, index: number) => (index % 2 === 0 ? letter.toUpperCase() : letter));

const SPELLINGS: readonly Change[] = [
  ["as it is", (name) => name],
  ["upper case", (name) => name.toUpperCase()],
  ["mixed case", alternating],
  ["underscores", (name) => name.replaceAll("-", "_")],
  ["one underscore", (name) => name.replace("-", "_")],
  ["upper case with underscores", (name) => name.toUpperCase().replaceAll("-", "_")],
];

const VALUES: readonly Change[] = [
  ["an address", (address) => address],
  ["a list", (address) => `${address},${address}`],
  ["blanks around", (address) => `  ${address}\t`],
  ["quoted", (address) => `"${address}"`],
  ["mapped to IPv6", (address) => `[::ffff:${address.replace(":", "]:")}`],
  ["a name", (address) => address.replace("127.0.0.1", "localhost")],
  ["nothing", () => ""],
  ["escaped line ends", (address) => `${address}%0d%0ax-gateway-destination-endpoint: ${address}`],
];

const line = (name: string, value: string): string => `${name}: ${value}\r\n`;

/** How one header is put into the head. Some of it is no HTTP, and refused. */
const PLACES: readonly (readonly [name: string, put: (name: string, value: string) => string])[] = [
  ["once", line],
  ["twice", (name, value) => line(name, value) + line(name, value)],
  ["twice, empty first", (name, value) => line(name, "") + line(name, value)],
  ["thrice among others", (name, value) => `${line(name, value)}x-a: 1\r\n${line(name, value)}${line(name, value)}`],
  ["blank before the colon", (name, value) => `${name} : ${value}\r\n`],
  ["folded", (name, value) => `${name}:\r\n ${value}\r\n`],
  ["folded into another", (name, value) => `x-a: 1\r\n ${name}: ${value}\r\n`],
  ["a bare line feed", (name, value) => `x-a: 1\n${name}: ${value}\r\n`],
  ["a bare carriage return", (name, value) => `x-a: 1\r${name}: ${value}\r\n`],
  ["named by connection", (name, value) => `connection: ${name}\r\n${line(name, value)}`],
];

const SERVED = JSON.stringify({ model: "m", prompt: "hello", max_tokens: 1 });
const json = "content-type: application/json\r\n";

interface Kind {
  readonly name: string;
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body: string;
}

/** What becomes of it apart from its headers: forwarded, answered by the router, refused by it, or by Envoy. */
const KINDS: readonly Kind[] = [
  { name: "forwarded", method: "POST", path: "/v1/completions", body: SERVED },
  { name: "passed, GET", method: "GET", path: "/v1/passed", body: "" },
  { name: "answered, GET", method: "GET", path: "/v1/models", body: "" },
  { name: "unknown model", method: "POST", path: "/v1/completions", body: SERVED.replace('"m"', '"none"') },
  { name: "broken body", method: "POST", path: "/v1/completions", body: "{" },
  { name: "no such path", method: "POST", path: "/metrics", body: SERVED },
];

const chunked = (body: string, trailers: string): string =>
  `${body.length.toString(16)}\r\n${body}\r\n0\r\n${trailers}\r\n`;

/** Chunked with the header in the trailers, where nobody should look. */
function inTrailers(kind: Kind, header: string): Pick<Forgery, "lines" | "body"> {
  return { lines: `${json}transfer-encoding: chunked\r\n`, body: chunked(kind.body, header) };
}

const inHead = (kind: Kind, header: string): Pick<Forgery, "lines" | "body"> => ({
  lines: `${kind.body === "" ? "" : `${json}content-length: ${kind.body.length}\r\n`}${header}`,
  body: kind.body,
});

/** All forms: names x spellings x values x places x kinds, each once in the head; and in trailers where it has a body. */
export function* forgeries(address: string): Generator<Forgery> {
  for (const kind of KINDS)
    for (const header of headers(address)) {
      const { name: kindName, method, path } = kind;
      const named = { name: `${kindName}: ${header.name}`, method, path };
      yield { ...named, ...inHead(kind, header.lines) };
      if (kind.body !== "") yield { ...named, name: `${named.name}, in trailers`, ...inTrailers(kind, header.lines) };
    }
}

function* headers(address: string): Generator<{ readonly name: string; readonly lines: string }> {
  for (const name of NAMES)
    for (const [spelling, spell] of SPELLINGS) yield* placed(`${name}, ${spelling}`, spell(name), address);
}

function* placed(
  called: string,
  name: string,
  address: string,
): Generator<{ readonly name: string; readonly lines: string }> {
  for (const [what, value] of VALUES)
    for (const [where, place] of PLACES)
      yield { name: `${called}, ${what}, ${where}`, lines: place(name, value(address)) };
}

const SPOOFED = new Set(NAMES);

/**
 * Names of the headers that are a forger's, as `raw` (name, value, name, value) has them; `own` is the one destination that
 * the router may have set.
 */
export function survivors(raw: readonly string[], own: string): readonly string[] {
  const names = raw.filter((_, index) => index % 2 === 0);
  const set = raw.findIndex((text, index) => index % 2 === 0 && text === OURS && raw[index + 1] === own);
  return names.filter((name, index) => SPOOFED.has(name.toLowerCase().replaceAll("_", "-")) && index * 2 !== set);
}
const OURS = "x-gateway-destination-endpoint";
