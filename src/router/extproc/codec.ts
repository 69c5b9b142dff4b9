/**
 * Messages of envoy.service.ext_proc.v3, by hand: what Envoy sends decoded to our events, our replies encoded.
 *
 * Field numbers: external_processor.proto of Envoy's data-plane-api (2026-01). Envoy sends header values as `raw_value`
 * and reads only that, so nothing else is written; `value` is read as a fallback.
 */
import { HEADER, LB_METADATA_NAMESPACE } from "../../kinds/names.ts";
import type { HeaderList } from "../headers.ts";
import { readAttributes, readMetadata, type Context } from "./context.ts";
import { eachField, Reader, WireError } from "./wire.ts";
import { sizeOf, Writer } from "./writer.ts";

const EMPTY = Buffer.alloc(0);

/** envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode, in the order of its numbers. */
export const BODY_MODES = ["NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC"] as const;
export type BodyMode = (typeof BODY_MODES)[number];

export interface Modes {
  readonly request: BodyMode;
  readonly response: BodyMode;
  /** `send_body_without_waiting_for_header_response`: of STREAMED, chunks come before the headers are answered. */
  readonly early?: boolean;
}

/** What may come with any message. */
interface Beside extends Readonly<Context> {
  /** In the first message only. */
  readonly modes?: Modes;
  /** `observability_mode`: Envoy tells and does not listen. */
  readonly observed?: boolean;
}

export type ProcessingRequest = Beside &
  (
    | {
        readonly kind: "requestHeaders" | "responseHeaders";
        readonly headers: HeaderList;
        readonly endOfStream: boolean;
      }
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

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Throws WireError. A `request` of a kind that is not known is none: unknown fields are skipped. */
export function decodeRequest(bytes: Buffer): ProcessingRequest {
  const reader = new Reader(bytes);
  let request: ProcessingRequest | undefined;
  let beside: Mutable<Beside> | undefined;
  for (let field = reader.field(); field > 0; field = reader.field()) {
    const kind = KINDS[field];
    if (kind !== undefined) request = decodeKind(kind, reader);
    else if (!decodeBeside(field, reader, (beside ??= {}))) reader.pass();
  }
  if (request === undefined) throw new WireError("ProcessingRequest without a request");
  return beside === undefined ? request : Object.assign(request, beside);
}

function decodeBeside(field: number, reader: Reader, into: Mutable<Beside>): boolean {
  if (field === 8) readMetadata(reader.message(), into);
  else if (field === 9) readAttributes(reader.message(), into);
  else if (field === 10) into.observed = reader.varint() !== 0;
  else if (field === 11) into.modes = decodeModes(reader.message());
  else return false;
  return true;
}

function decodeKind(kind: ProcessingRequest["kind"], reader: Reader): ProcessingRequest {
  const outer = reader.enter();
  const request = decodeFields(kind, reader);
  reader.leave(outer);
  return request;
}

function decodeFields(kind: ProcessingRequest["kind"], reader: Reader): ProcessingRequest {
  if (kind === "requestHeaders" || kind === "responseHeaders") return decodeHeaders(kind, reader);
  if (kind === "requestBody" || kind === "responseBody") return decodeBody(kind, reader);
  while (reader.field() > 0) reader.pass();
  return { kind };
}

/** Envoy's own headers are 60 KiB at most, unless it is told otherwise. */
const MAX_SHARED_BYTES = 65_536;

type Text = ReturnType<Reader["latin1"]> | undefined;

function decodeHeaders(kind: "requestHeaders" | "responseHeaders", reader: Reader): ProcessingRequest {
  const headers: [string, string][] = [];
  let endOfStream = false;
  // One string for all of them, of which each is a piece: a call into the engine for each would cost as much as the pick.
  // A piece keeps the whole, so headers that are a small part of a large message are strings of their own.
  const all = reader.left > MAX_SHARED_BYTES ? undefined : reader.latin1();
  for (let field = reader.field(); field > 0; field = reader.field()) {
    if (field === 1) pushHeaders(headers, reader, all);
    else if (field === 3) endOfStream = reader.varint() !== 0;
    else reader.pass();
  }
  return { kind, headers, endOfStream };
}

/** HeaderMap{headers = 1}. */
function pushHeaders(headers: [string, string][], reader: Reader, all: Text): void {
  const outer = reader.enter();
  for (let field = reader.field(); field > 0; field = reader.field()) {
    if (field === 1) headers.push(decodeHeader(reader, all));
    else reader.pass();
  }
  reader.leave(outer);
}

/** HeaderValue{key = 1, value = 2, raw_value = 3}. Header bytes are opaque: latin1 keeps each of them. */
function decodeHeader(reader: Reader, all: Text): [string, string] {
  let name = "";
  let value = "";
  const outer = reader.enter();
  for (let field = reader.field(); field > 0; field = reader.field()) {
    if (field === 1) name = reader.piece(all);
    else if (field === 2) value = reader.text() || value;
    else if (field === 3) value = reader.piece(all) || value;
    else reader.pass();
  }
  reader.leave(outer);
  return [name.toLowerCase(), value];
}

function decodeBody(kind: "requestBody" | "responseBody", reader: Reader): ProcessingRequest {
  let chunk: Buffer = EMPTY;
  let endOfStream = false;
  for (let field = reader.field(); field > 0; field = reader.field()) {
    if (field === 1) chunk = reader.bytes();
    else if (field === 2) endOfStream = reader.varint() !== 0;
    else reader.pass();
  }
  return { kind, chunk, endOfStream };
}

function decodeModes(reader: Reader): Modes {
  const modes: Mutable<Modes> = { request: "NONE", response: "NONE", early: false };
  eachField(reader, (field, inner) => {
    if (field === 1) modes.request = modeOf(inner.varint());
    else if (field === 2) modes.response = modeOf(inner.varint());
    else if (field === 3) modes.early = inner.varint() !== 0;
    else return false;
    return true;
  });
  return modes;
}

/** A mode that is newer than this list is refused as GRPC is. */
const modeOf = (number: number): BodyMode => BODY_MODES[number] ?? "GRPC";

export interface HeaderChanges {
  readonly set?: HeaderList;
  readonly remove?: readonly string[];
}

export type Phase = "request" | "response";

/** What we answer. `destination` goes into dynamic metadata beside the header. */
export type Reply =
  | {
      readonly kind: "headers";
      readonly phase: Phase;
      readonly changes?: HeaderChanges;
      readonly destination?: string;
      /** Asks for the trailers of the answer as well, with the modes that are in force: Envoy takes them where it may. */
      readonly trailers?: Modes;
    }
  | {
      readonly kind: "body";
      readonly phase: Phase;
      readonly changes?: HeaderChanges;
      readonly destination?: string;
      /** Put in the place of what came; `clear`: nothing is; absent: it stays. */
      readonly body?: Buffer | "clear";
    }
  | { readonly kind: "chunk"; readonly phase: Phase; readonly chunk: Buffer; readonly endOfStream: boolean }
  | { readonly kind: "trailers"; readonly phase: Phase }
  | {
      readonly kind: "immediate";
      readonly status: number;
      readonly headers: HeaderList;
      readonly body: Buffer;
      readonly details: string;
    }
  /** The answer to the message that waits takes longer than its timer allows. */
  | { readonly kind: "wait"; readonly ms: number };

const NUMBERS = { headers: [1, 2], body: [3, 4], chunk: [3, 4], trailers: [5, 6] } as const;
const fieldOf = (kind: keyof typeof NUMBERS, phase: Phase): number => NUMBERS[kind][phase === "request" ? 0 : 1];

/** The replies as gRPC messages, in buffers to be written one after the other. Large bodies are not copied. */
export function encodeReplies(replies: readonly Reply[]): readonly Uint8Array[] {
  const out = new Writer();
  for (const reply of replies) out.frame(() => writeReply(out, reply));
  return out.parts();
}

function writeReply(out: Writer, reply: Reply): void {
  switch (reply.kind) {
    case "headers": {
      writeHeaders(out, reply);
      return;
    }
    case "body": {
      writeBody(out, reply);
      return;
    }
    case "chunk": {
      writeChunk(out, reply);
      return;
    }
    case "trailers": {
      out.message(fieldOf("trailers", reply.phase), () => undefined);
      return;
    }
    case "immediate": {
      writeImmediate(out, reply);
      return;
    }
    case "wait": {
      writeWait(out, reply.ms);
      return;
    }
  }
}

/** override_message_timeout = 10: Duration{seconds=1, nanos=2}. */
function writeWait(out: Writer, ms: number): void {
  out.message(10, () => {
    out.number(1, Math.floor(ms / 1000));
    out.number(2, (ms % 1000) * 1e6);
  });
}

/** HeadersResponse{response=1: CommonResponse{header_mutation=2}}. */
function writeHeaders(
  out: Writer,
  { phase, changes, destination, trailers }: Extract<Reply, { kind: "headers" }>,
): void {
  out.message(fieldOf("headers", phase), () => out.message(1, () => writeChanges(out, changes)));
  writeMetadata(out, destination);
  if (trailers !== undefined) writeOverride(out, trailers);
}

/** HeaderSendMode. */
const SEND = 1;

/**
 * mode_override = 9: ProcessingMode{response_header_mode=2, request_body_mode=3, response_body_mode=4,
 * response_trailer_mode=6}. It takes the place of the filter's own, but for the modes of the request's headers.
 */
function writeOverride(out: Writer, { request, response }: Modes): void {
  out.message(9, () => {
    out.number(2, SEND);
    out.number(3, BODY_MODES.indexOf(request));
    out.number(4, BODY_MODES.indexOf(response));
    out.number(6, SEND);
  });
}

/**
 * BodyResponse, which has the same shape, with body_mutation=3{body=1} or {clear_body=2}: behind the headers, whose size
 * is not known yet.
 */
function writeBody(out: Writer, { phase, changes, body, destination }: Extract<Reply, { kind: "body" }>): void {
  const head = new Writer();
  writeChanges(head, changes);
  if (body === "clear") head.message(3, () => head.number(2, 1));
  const [mutation = EMPTY] = head.parts();
  const bytes = body === "clear" ? undefined : body;
  const lengths = bytes === undefined ? [] : nested([3, 1], bytes.length);
  const common = mutation.length + (lengths[0]?.size ?? 0);
  for (const { field, length } of nested([fieldOf("body", phase), 1], common)) out.prefix(field, length);
  out.copy(mutation);
  for (const { field, length } of lengths) out.prefix(field, length);
  if (bytes !== undefined) out.raw(bytes);
  writeMetadata(out, destination);
}

/** BodyResponse{response=1{body_mutation=3{streamed_response=3{body=1, end_of_stream=2}}}}. */
function writeChunk(out: Writer, { phase, chunk, endOfStream }: Extract<Reply, { kind: "chunk" }>): void {
  const tail = endOfStream ? 2 : 0;
  const [body] = nested([1], chunk.length);
  const outer = nested([fieldOf("chunk", phase), 1, 3, 3], (body?.size ?? 0) + tail);
  for (const { field, length } of outer) out.prefix(field, length);
  out.prefix(1, chunk.length);
  out.raw(chunk);
  out.number(2, endOfStream ? 1 : 0);
}

/** Messages one inside the other, the outermost first: the length of each, and its size with key and length. */
function nested(fields: readonly number[], innermost: number): { field: number; length: number; size: number }[] {
  let length = innermost;
  return fields
    .toReversed()
    .map((field) => {
      const level = { field, length, size: sizeOf(field * 8 + 2) + sizeOf(length) + length };
      length = level.size;
      return level;
    })
    .reverse();
}

function writeChanges(out: Writer, changes: HeaderChanges | undefined): void {
  if (changes !== undefined) out.message(2, () => writeMutation(out, changes));
}

/** OVERWRITE_IF_EXISTS_OR_ADD = 2, `append` unset: the pair that Envoy and other proxies read alike. */
const OVERWRITE = 2;

function writeMutation(out: Writer, { set = [], remove = [] }: HeaderChanges): void {
  for (const [name, value] of set) writeHeader(out, name, value);
  if (remove.length > 0) out.copy(removal(remove));
}

/** HeaderValueOption{header=1{key=1, raw_value=3}, append_action=3}, as set_headers = 1. */
function writeHeader(out: Writer, name: string, value: string): void {
  const length = Buffer.byteLength(name);
  const header = 1 + sizeOf(length) + length + 1 + sizeOf(value.length) + value.length;
  out.prefix(1, 1 + sizeOf(header) + header + 2);
  out.prefix(1, header);
  out.text(1, name);
  out.latin1(3, value);
  out.number(3, OVERWRITE);
}

/** remove_headers = 2 of each name: the same list with every request. */
function removal(names: readonly string[]): Buffer {
  const known = REMOVALS.get(names);
  if (known !== undefined) return known;
  const out = new Writer();
  for (const name of names) out.text(2, name);
  const bytes = Buffer.concat(out.parts());
  REMOVALS.set(names, bytes);
  return bytes;
}

const REMOVALS = new WeakMap<readonly string[], Buffer>();

/** Destinations whose metadata is kept: 100 bytes each. */
const MAX_KEPT = 4096;
const METADATA = new Map<string, Uint8Array>();

/** dynamic_metadata = 8, the same for every request to an endpoint. */
function writeMetadata(out: Writer, destination: string | undefined): void {
  if (destination !== undefined) out.copy(METADATA.get(destination) ?? keepMetadata(destination));
}

function keepMetadata(destination: string): Uint8Array {
  const bytes = Buffer.concat(metadataOf(destination).parts());
  if (METADATA.size === MAX_KEPT) METADATA.clear();
  METADATA.set(destination, bytes);
  return bytes;
}

/** Struct{ "envoy.lb": { "x-gateway-destination-endpoint": destination } }. */
function metadataOf(destination: string): Writer {
  const out = new Writer();
  const inner = (): void => writeStruct(out, HEADER.destination, () => out.text(3, destination));
  out.message(8, () => writeStruct(out, LB_METADATA_NAMESPACE, () => out.message(5, inner)));
  return out;
}

/** google.protobuf.Struct with one field: fields = 1 is a map entry of key = 1 and value = 2. */
const writeStruct = (out: Writer, key: string, value: () => void): void =>
  out.message(1, () => {
    out.text(1, key);
    out.message(2, value);
  });

/** ImmediateResponse{status=1{code=1}, headers=2, body=3, details=5}; the body may be an engine's, of megabytes. */
function writeImmediate(out: Writer, { status, headers, body, details }: Extract<Reply, { kind: "immediate" }>): void {
  const head = new Writer();
  head.message(1, () => head.number(1, status));
  head.message(2, () => writeMutation(head, { set: headers }));
  const tail = new Writer();
  tail.text(5, details);
  const [before = EMPTY, after = EMPTY] = [head.parts()[0], tail.parts()[0]];
  const [inner] = nested([3], body.length);
  out.prefix(7, before.length + (inner?.size ?? 0) + after.length);
  out.raw(before);
  out.prefix(3, body.length);
  out.raw(body);
  out.raw(after);
}
