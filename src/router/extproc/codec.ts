/**
 * Messages of envoy.service.ext_proc.v3, by hand: what Envoy sends decoded to our events, our replies encoded.
 *
 * Field numbers: external_processor.proto of Envoy's data-plane-api (2026-01). Envoy sends header values as `raw_value`
 * and reads only that, so nothing else is written; `value` is read as a fallback.
 */
import { HEADER, LB_METADATA_NAMESPACE } from "../../kinds/names.ts";
import type { HeaderList } from "../headers.ts";
import {
  boolField,
  bytesField,
  eachField,
  messageField,
  prefix,
  Reader,
  textField,
  varintField,
  WireError,
} from "./wire.ts";

/** envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode, in the order of its numbers. */
export const BODY_MODES = ["NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC"] as const;
export type BodyMode = (typeof BODY_MODES)[number];

export interface Modes {
  readonly request: BodyMode;
  readonly response: BodyMode;
}

export type ProcessingRequest = { readonly modes?: Modes } & (
  | { readonly kind: "requestHeaders" | "responseHeaders"; readonly headers: HeaderList; readonly endOfStream: boolean }
  | { readonly kind: "requestBody" | "responseBody"; readonly chunk: Buffer; readonly endOfStream: boolean }
  | { readonly kind: "requestTrailers" | "responseTrailers" }
);

const KINDS: Readonly<Record<number, ProcessingRequest["kind"]>> = {
  2: "requestHeaders",
  3: "responseHeaders",
  4: "requestBody",
  5: "responseBody",
  6: "requestTrailers",
  7: "responseTrailers",
};

export function decodeRequest(bytes: Buffer): ProcessingRequest {
  let request: ProcessingRequest | undefined;
  let modes: Modes | undefined;
  eachField(new Reader(bytes), (field, reader) => {
    const kind = KINDS[field];
    if (kind !== undefined) request = decodeKind(kind, reader.message());
    else if (field === 11) modes = decodeModes(reader.message());
    else return false;
    return true;
  });
  if (request === undefined) throw new WireError("ProcessingRequest without a request");
  return modes === undefined ? request : { ...request, modes };
}

function decodeKind(kind: ProcessingRequest["kind"], reader: Reader): ProcessingRequest {
  if (kind === "requestHeaders" || kind === "responseHeaders") return { kind, ...decodeHeaders(reader) };
  if (kind === "requestBody" || kind === "responseBody") return { kind, ...decodeBody(reader) };
  return { kind };
}

function decodeHeaders(reader: Reader): { headers: HeaderList; endOfStream: boolean } {
  const headers: [string, string][] = [];
  let endOfStream = false;
  eachField(reader, (field, inner) => {
    if (field === 1) eachField(inner.message(), (entry, map) => entry === 1 && pushHeader(headers, map.message()));
    else if (field === 3) endOfStream = inner.varint() !== 0;
    else return false;
    return true;
  });
  return { headers, endOfStream };
}

function pushHeader(headers: [string, string][], reader: Reader): boolean {
  let name = "";
  let value = "";
  eachField(reader, (field, inner) => {
    if (field === 1) name = inner.text();
    else if (field === 2) value = inner.text() || value;
    // Header bytes are opaque: latin1 keeps each of them.
    else if (field === 3) value = inner.bytes().toString("latin1") || value;
    else return false;
    return true;
  });
  headers.push([name.toLowerCase(), value]);
  return true;
}

function decodeBody(reader: Reader): { chunk: Buffer; endOfStream: boolean } {
  let chunk: Buffer = Buffer.alloc(0);
  let endOfStream = false;
  eachField(reader, (field, inner) => {
    if (field === 1) chunk = inner.bytes();
    else if (field === 2) endOfStream = inner.varint() !== 0;
    else return false;
    return true;
  });
  return { chunk, endOfStream };
}

function decodeModes(reader: Reader): Modes {
  const modes: [BodyMode, BodyMode] = ["NONE", "NONE"];
  eachField(reader, (field, inner) => {
    if (field !== 1 && field !== 2) return false;
    modes[field - 1] = BODY_MODES[inner.varint()] ?? "NONE";
    return true;
  });
  return { request: modes[0], response: modes[1] };
}

export interface HeaderChanges {
  readonly set?: HeaderList;
  readonly remove?: readonly string[];
}

export type Phase = "request" | "response";

/** What we answer. `destination` goes into dynamic metadata beside the header. */
export type Reply =
  | { readonly kind: "headers"; readonly phase: Phase; readonly changes?: HeaderChanges; readonly destination?: string }
  | {
      readonly kind: "body";
      readonly phase: Phase;
      readonly changes?: HeaderChanges;
      readonly destination?: string;
      /** The new body, for BUFFERED; absent leaves it as it is. */
      readonly body?: Buffer;
    }
  | { readonly kind: "chunk"; readonly phase: Phase; readonly chunk: Buffer; readonly endOfStream: boolean }
  | { readonly kind: "trailers"; readonly phase: Phase }
  | {
      readonly kind: "immediate";
      readonly status: number;
      readonly headers: HeaderList;
      readonly body: Buffer;
      readonly details: string;
    };

const NUMBERS = { headers: [1, 2], body: [3, 4], chunk: [3, 4], trailers: [5, 6] } as const;
const fieldOf = (kind: keyof typeof NUMBERS, phase: Phase): number => NUMBERS[kind][phase === "request" ? 0 : 1];

/** The encoded ProcessingResponse, as buffers to be written one after the other: body bytes are not copied. */
export function encodeReply(reply: Reply): readonly Uint8Array[] {
  switch (reply.kind) {
    case "headers":
      return [
        messageField(fieldOf("headers", reply.phase), [commonResponse(reply.changes)]),
        metadata(reply.destination),
      ];
    case "body":
      return [
        messageField(fieldOf("body", reply.phase), [commonResponse(reply.changes, reply.body)]),
        metadata(reply.destination),
      ];
    case "chunk":
      return encodeChunk(reply.phase, reply.chunk, reply.endOfStream);
    case "trailers":
      return [messageField(fieldOf("trailers", reply.phase), [])];
    case "immediate":
      return [immediate(reply)];
  }
}

/** BodyResponse{response=1: CommonResponse{...}} or HeadersResponse, which has the same shape. */
const commonResponse = (changes?: HeaderChanges, body?: Buffer): Buffer =>
  messageField(1, [
    changes === undefined ? Buffer.alloc(0) : messageField(2, [headerMutation(changes)]),
    body === undefined ? Buffer.alloc(0) : messageField(3, [bytesField(1, body)]),
  ]);

/** Lengths are computed outside in, so that the chunk itself is the only large buffer and is not copied. */
function encodeChunk(phase: Phase, chunk: Buffer, endOfStream: boolean): readonly Uint8Array[] {
  const tail = boolField(2, endOfStream);
  const inner = prefix(1, chunk.length);
  const streamed = inner.length + chunk.length + tail.length;
  const mutation = prefix(3, streamed);
  const common = prefix(3, mutation.length + streamed);
  const response = prefix(1, common.length + mutation.length + streamed);
  const outer = prefix(fieldOf("chunk", phase), response.length + common.length + mutation.length + streamed);
  return [Buffer.concat([outer, response, common, mutation, inner]), chunk, tail];
}

/** OVERWRITE_IF_EXISTS_OR_ADD = 2, `append` unset: the pair that Envoy and other proxies read alike. */
const OVERWRITE = varintField(3, 2);

const headerMutation = (changes: HeaderChanges): Buffer =>
  Buffer.concat([...(changes.set ?? []).map(setHeader), ...(changes.remove ?? []).map((name) => textField(2, name))]);

const setHeader = ([name, value]: readonly [string, string]): Buffer =>
  messageField(1, [messageField(1, [textField(1, name), bytesField(3, Buffer.from(value, "latin1"))]), OVERWRITE]);

/** dynamic_metadata = 8: Struct{ "envoy.lb": { "x-gateway-destination-endpoint": destination } }. */
function metadata(destination: string | undefined): Buffer {
  if (destination === undefined) return Buffer.alloc(0);
  const inner = struct(HEADER.destination, textField(3, destination));
  return messageField(8, [struct(LB_METADATA_NAMESPACE, messageField(5, [inner]))]);
}

/** google.protobuf.Struct with one field: fields = 1 is a map entry of key = 1 and value = 2. */
const struct = (key: string, value: Buffer): Buffer => messageField(1, [textField(1, key), messageField(2, [value])]);

function immediate(reply: Extract<Reply, { kind: "immediate" }>): Buffer {
  return messageField(7, [
    messageField(1, [varintField(1, reply.status)]),
    messageField(2, [headerMutation({ set: reply.headers })]),
    bytesField(3, reply.body),
    textField(5, reply.details),
  ]);
}
