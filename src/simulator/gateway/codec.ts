/** Envoy's side of the ext_proc messages: requests encoded, replies decoded. The mirror of `router/extproc/codec.ts`. */
import { BODY_MODES, type Modes } from "../../router/extproc/codec.ts";
import {
  boolField,
  bytesField,
  eachField,
  messageField,
  Reader,
  textField,
  varintField,
} from "../../router/extproc/wire.ts";
import type { HeaderList } from "../../router/headers.ts";

type HeadersKind = "requestHeaders" | "responseHeaders";
type BodyKind = "requestBody" | "responseBody";
type TrailersKind = "requestTrailers" | "responseTrailers";

const FIELDS = {
  requestHeaders: 2,
  responseHeaders: 3,
  requestBody: 4,
  responseBody: 5,
  requestTrailers: 6,
  responseTrailers: 7,
} as const;

export function encodeHeaders(kind: HeadersKind, headers: HeaderList, endOfStream: boolean, modes?: Modes): Buffer {
  const list = headers.map(([name, value]) =>
    messageField(1, [textField(1, name), bytesField(3, Buffer.from(value, "latin1"))]),
  );
  const message = messageField(FIELDS[kind], [messageField(1, list), boolField(3, endOfStream)]);
  return modes === undefined ? message : Buffer.concat([message, messageField(11, [encodeModes(modes)])]);
}

const encodeModes = (modes: Modes): Buffer =>
  Buffer.concat([
    varintField(1, BODY_MODES.indexOf(modes.request)),
    varintField(2, BODY_MODES.indexOf(modes.response)),
    boolField(3, modes.early === true),
  ]);

export const encodeBody = (kind: BodyKind, chunk: Buffer, endOfStream: boolean): Buffer =>
  messageField(FIELDS[kind], [bytesField(1, chunk), boolField(2, endOfStream)]);

export const encodeTrailers = (kind: TrailersKind): Buffer => messageField(FIELDS[kind], [messageField(1, [])]);

export interface DecodedReply {
  kind: "headers" | "body" | "trailers" | "immediate" | "unknown";
  phase: "request" | "response";
  set: [string, string][];
  remove: string[];
  /** BodyMutation.body */
  body?: Buffer;
  /** StreamedBodyResponse */
  streamed?: { chunk: Buffer; endOfStream: boolean };
  status?: number;
  /** override_message_timeout */
  waitMs?: number;
  /** dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"] */
  destination?: string;
}

const KINDS: Readonly<Record<number, readonly [DecodedReply["kind"], DecodedReply["phase"]]>> = {
  1: ["headers", "request"],
  2: ["headers", "response"],
  3: ["body", "request"],
  4: ["body", "response"],
  5: ["trailers", "request"],
  6: ["trailers", "response"],
  7: ["immediate", "response"],
};

export function decodeReply(bytes: Buffer): DecodedReply {
  const reply: DecodedReply = { kind: "unknown", phase: "request", set: [], remove: [] };
  eachField(new Reader(bytes), (field, reader) => {
    const kind = KINDS[field];
    if (kind !== undefined) {
      [reply.kind, reply.phase] = kind;
      if (field === 7) decodeImmediate(reader.message(), reply);
      else if (field < 5)
        eachField(reader.message(), (inner, common) => inner === 1 && decodeCommon(common.message(), reply));
      else eachField(reader.message(), (inner, trailers) => inner === 1 && decodeMutation(trailers.message(), reply));
    } else if (field === 8) reply.destination = decodeMetadata(reader.message());
    else if (field === 10) reply.waitMs = decodeDuration(reader.message());
    else return false;
    return true;
  });
  return reply;
}

function decodeCommon(reader: Reader, reply: DecodedReply): boolean {
  eachField(reader, (field, inner) => {
    if (field === 2) return decodeMutation(inner.message(), reply);
    return field === 3 && decodeBodyMutation(inner.message(), reply);
  });
  return true;
}

function decodeBodyMutation(reader: Reader, reply: DecodedReply): boolean {
  eachField(reader, (field, inner) => {
    if (field === 1) reply.body = inner.bytes();
    else if (field === 3) reply.streamed = decodeStreamed(inner.message());
    else return false;
    return true;
  });
  return true;
}

function decodeStreamed(reader: Reader): { chunk: Buffer; endOfStream: boolean } {
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

function decodeMutation(reader: Reader, reply: DecodedReply): boolean {
  eachField(reader, (field, inner) => {
    if (field === 1) eachField(inner.message(), (option, value) => option === 1 && decodeSet(value.message(), reply));
    else if (field === 2) reply.remove.push(inner.text());
    else return false;
    return true;
  });
  return true;
}

/** As Envoy reads it: only `raw_value` counts. */
function decodeSet(reader: Reader, reply: DecodedReply): boolean {
  let name = "";
  let value = "";
  eachField(reader, (field, inner) => {
    if (field === 1) name = inner.text();
    else if (field === 3) value = inner.bytes().toString("latin1");
    else return false;
    return true;
  });
  reply.set.push([name, value]);
  return true;
}

function decodeImmediate(reader: Reader, reply: DecodedReply): void {
  eachField(reader, (field, inner) => {
    if (field === 1) eachField(inner.message(), (_, status) => ((reply.status = status.varint()), true));
    else if (field === 2) decodeMutation(inner.message(), reply);
    else if (field === 3) reply.body = inner.bytes();
    else return false;
    return true;
  });
}

/** Duration{seconds=1, nanos=2}, in milliseconds. */
function decodeDuration(reader: Reader): number {
  let ms = 0;
  eachField(reader, (field, inner) => {
    if (field !== 1 && field !== 2) return false;
    ms += field === 1 ? inner.varint() * 1000 : inner.varint() / 1e6;
    return true;
  });
  return ms;
}

/** Struct of Struct of string: the one path that a destination has. */
function decodeMetadata(reader: Reader): string {
  let found = "";
  const walk = (struct: Reader): void =>
    eachField(struct, (field, inner) => field === 1 && (eachField(inner.message(), entry), true));
  const entry = (field: number, inner: Reader): boolean => {
    if (field !== 2) return false;
    eachField(inner.message(), (kind, value) => {
      if (kind === 3) found = value.text();
      else if (kind === 5) walk(value.message());
      else return false;
      return true;
    });
    return true;
  };
  walk(reader);
  return found;
}
