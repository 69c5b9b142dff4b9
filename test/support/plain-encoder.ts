/**
 * Replies encoded the plain way, a buffer for each message: what the fast encoder must equal, byte for byte. The whole
 * gRPC message, prefix and all.
 */
import { HEADER, LB_METADATA_NAMESPACE } from "../../src/kinds/names.ts";
import type { HeaderChanges, Phase, Reply } from "../../src/router/extproc/codec.ts";
import { frame } from "../../src/router/extproc/grpc.ts";
import { boolField, bytesField, messageField, prefix, textField, varintField } from "../../src/router/extproc/wire.ts";

export const plainReplies = (replies: readonly Reply[]): Buffer =>
  Buffer.concat(replies.flatMap((reply) => frame(encodeReply(reply))));

const NUMBERS = { headers: [1, 2], body: [3, 4], chunk: [3, 4], trailers: [5, 6] } as const;
const fieldOf = (kind: keyof typeof NUMBERS, phase: Phase): number => NUMBERS[kind][phase === "request" ? 0 : 1];

/** The encoded ProcessingResponse, as buffers to be written one after the other: body bytes are not copied. */
function encodeReply(reply: Reply): readonly Uint8Array[] {
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
    case "wait":
      return [messageField(10, [varintField(1, Math.floor(reply.ms / 1000)), varintField(2, (reply.ms % 1000) * 1e6)])];
  }
}

/** BodyResponse{response=1: CommonResponse{...}} or HeadersResponse, which has the same shape. */
const commonResponse = (changes?: HeaderChanges, body?: Buffer | "clear"): Buffer =>
  messageField(1, [
    changes === undefined ? Buffer.alloc(0) : messageField(2, [headerMutation(changes)]),
    body === undefined
      ? Buffer.alloc(0)
      : messageField(3, [body === "clear" ? boolField(2, true) : bytesField(1, body)]),
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
