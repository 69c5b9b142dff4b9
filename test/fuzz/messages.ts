/** ext_proc messages of a proxy that has gone wrong: true ones in any order, some of their bytes changed. From a seed. */
import { BODY_MODES, type Modes } from "../../src/router/extproc/codec.ts";
import { boolField, bytesField, messageField, textField, varintField } from "../../src/router/extproc/wire.ts";
import type { HeaderList } from "../../src/router/headers.ts";
import { HEADER, LB_METADATA_NAMESPACE, SUBSET_METADATA_NAMESPACE } from "../../src/kinds/names.ts";
import { encodeBody, encodeHeaders, encodeTrailers } from "../../src/simulator/gateway/codec.ts";
import { mutant } from "../support/mutants.ts";

/** Numbers from 0 to below 1. */
export type Random = () => number;
export const below = (random: Random, limit: number): number => Math.floor(random() * limit);
export const oneOf = <T>(random: Random, values: readonly T[]): T => values[below(random, values.length)] as T;
export const times = <T>(random: Random, most: number, make: () => T): T[] =>
  Array.from({ length: below(random, most + 1) }, make);

const modesOf = (random: Random): Modes => ({
  request: random() < 0.5 ? "FULL_DUPLEX_STREAMED" : oneOf(random, BODY_MODES),
  response: oneOf(random, BODY_MODES),
  early: random() < 0.3,
});

const POST: HeaderList = [
  [":method", "POST"],
  [":path", "/v1/completions"],
  ["content-type", "application/json"],
];
const DESTINATIONS = ["127.0.0.1:9", "127.0.0.1", "10.0.0.1:80", "", ",,", "[::1]:9", "x".repeat(300)] as const;

const struct = (key: string, value: Buffer): Buffer => messageField(1, [textField(1, key), messageField(2, [value])]);
const nestedStruct = (depth: number): Buffer =>
  depth === 0 ? textField(3, "x") : messageField(5, [struct("a", nestedStruct(depth - 1))]);

/** `metadata_context`: a subset, a served endpoint, or nothing that is known. */
function metadata(random: Random): Buffer {
  const texts = times(random, 5, () => textField(3, oneOf(random, DESTINATIONS)));
  const list = messageField(
    6,
    texts.map((text) => messageField(1, [text])),
  );
  const value = random() < 0.5 ? list : random() < 0.5 ? textField(3, DESTINATIONS.join()) : nestedStruct(40);
  const [namespace, key] =
    random() < 0.5
      ? [SUBSET_METADATA_NAMESPACE, HEADER.destinationSubset]
      : [LB_METADATA_NAMESPACE, HEADER.destinationServed];
  return messageField(8, [messageField(1, [textField(1, namespace), messageField(2, [struct(key, value)])])]);
}

const attributes = (random: Random): Buffer =>
  messageField(9, [
    textField(1, "envoy.filters.http.ext_proc"),
    messageField(2, [struct("upstream.address", textField(3, oneOf(random, DESTINATIONS)))]),
  ]);

function beside(random: Random, message: Buffer): Buffer {
  const more = [
    ...(random() < 0.15 ? [metadata(random)] : []),
    ...(random() < 0.15 ? [attributes(random)] : []),
    ...(random() < 0.03 ? [boolField(10, true)] : []),
    ...(random() < 0.05 ? [bytesField(oneOf(random, [1, 12, 99, 2 ** 28]), Buffer.alloc(below(random, 100)))] : []),
  ];
  return Buffer.concat([message, ...more]);
}

/** A request as it should be, its body nearly so, in some chunks. */
function request(random: Random): Buffer[] {
  const { path, headers, body } = mutant(random);
  const first: HeaderList = [[":method", "POST"], [":path", path], ...headers];
  const cuts = [0, ...times(random, 4, () => below(random, body.length + 1)), body.length].sort((a, b) => a - b);
  const chunks = cuts.slice(1).map((end, index) => body.subarray(cuts[index], end));
  return [
    encodeHeaders("requestHeaders", first, false, modesOf(random)),
    ...chunks.map((chunk, index) => encodeBody("requestBody", chunk, index === chunks.length - 1)),
  ];
}

const USAGE = Buffer.from('data: {"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n');
const SINGLE: readonly ((random: Random) => Buffer)[] = [
  (random) => encodeHeaders("requestHeaders", POST, random() < 0.3, modesOf(random)),
  (random) => encodeBody("requestBody", Buffer.from('{"model":"m","prompt":"hi"}'), random() < 0.7),
  (random) => encodeBody("requestBody", Buffer.alloc(below(random, 3000), "x"), random() < 0.3),
  () => encodeTrailers("requestTrailers"),
  (random) => encodeHeaders("responseHeaders", [[":status", oneOf(random, ["200", "503", "x"])]], random() < 0.3),
  (random) => encodeBody("responseBody", USAGE.subarray(0, below(random, USAGE.length + 1)), random() < 0.3),
  () => encodeTrailers("responseTrailers"),
];

const HUGE = [
  Buffer.from("ffffffffffffffffff01", "hex"),
  Buffer.from("ffffffffffffffffffff01", "hex"),
  Buffer.from("80808080808080808000", "hex"),
  Buffer.from("ffffffff0f", "hex"),
  Buffer.from("ffffffffffffff0f", "hex"),
];

const BREAKS: readonly ((random: Random, message: Buffer) => Buffer)[] = [
  (random, message) => message.subarray(0, below(random, message.length + 1)),
  (random, message) => {
    const changed = Buffer.from(message);
    for (let n = 0; n <= below(random, 4); n++) changed[below(random, changed.length)] = below(random, 256);
    return changed;
  },
  (random, message) => {
    const at = below(random, message.length + 1);
    return Buffer.concat([message.subarray(0, at), oneOf(random, HUGE), message.subarray(at)]);
  },
  (random, message) => {
    const at = below(random, message.length + 1);
    return Buffer.concat([message.subarray(0, at), oneOf(random, HUGE)]);
  },
  (random, message) => Buffer.concat([message, varintField(1 + below(random, 12), below(random, 2 ** 31)), message]),
  (random, message) => Buffer.concat(Array.from({ length: 1 + below(random, 30) }, () => message)),
  (random) => Buffer.from(Array.from({ length: below(random, 60) }, () => below(random, 256))),
];

/** Messages of one stream. */
export function messagesOf(random: Random): Buffer[] {
  const whole = random() < 0.7 ? request(random) : [];
  const others = times(random, 5, () => oneOf(random, SINGLE)(random));
  const all = [...whole, ...others].map((message) => beside(random, message));
  for (let n = below(random, 3); n > 0 && all.length > 0; n--) {
    const at = below(random, all.length);
    if (random() < 0.3) all.splice(at, 1);
    else if (random() < 0.3) all.splice(below(random, all.length), 0, all[at] ?? Buffer.alloc(0));
    else all[at] = oneOf(random, BREAKS)(random, all[at] ?? Buffer.alloc(0));
  }
  return all;
}
