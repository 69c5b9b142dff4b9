/**
 * Messages of an engine's two sockets: what is published, and what is sent again on request.
 *
 * Published: topic, number, payload. Sent again, behind an empty delimiter: number and payload, from vLLM 0.25 on with a topic
 * before them; at the end the number -1 with an empty payload. The topic says nothing that the connection does not.
 */
import { frame, numberAt } from "./zmtp.ts";

export interface Framed {
  readonly sequence: number;
  /** Where the payload stands. */
  readonly from: number;
  readonly to: number;
}

/** All that an engine has sent again ends with this. */
export const END = "end";

/** A published message; undefined where it is none. */
export function published(bytes: Uint8Array, frames: Int32Array, count: number): Framed | undefined {
  return count === 3 ? numbered(bytes, frames, 1) : undefined;
}

/** A message of a replay, or its end; undefined where it is neither. */
export function replayedFrame(bytes: Uint8Array, frames: Int32Array, count: number): Framed | typeof END | undefined {
  // A dealer is given the delimiter as well.
  const first = count > 0 && frames[0] === frames[1] && count > 2 ? 1 : 0;
  const at = first + (count - first === 3 ? 1 : 0);
  if (count - at !== 2) return undefined;
  const framed = numbered(bytes, frames, at);
  if (framed !== undefined) return framed;
  return isEnd(bytes, frames, at) ? END : undefined;
}

function numbered(bytes: Uint8Array, frames: Int32Array, at: number): Framed | undefined {
  const start = frames[2 * at] as number;
  if ((frames[2 * at + 1] as number) - start !== 8) return undefined;
  const sequence = numberAt(bytes, start);
  if (!Number.isSafeInteger(sequence)) return undefined;
  return { sequence, from: frames[2 * at + 2] as number, to: frames[2 * at + 3] as number };
}

/** -1, as eight bytes. */
function isEnd(bytes: Uint8Array, frames: Int32Array, at: number): boolean {
  const start = frames[2 * at] as number;
  if ((frames[2 * at + 1] as number) - start !== 8) return false;
  for (let byte = start; byte < start + 8; byte++) if (bytes[byte] !== 0xff) return false;
  return true;
}

/** Asks for all messages from this number on. */
export function replayRequest(from: number): Uint8Array {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(from));
  return Buffer.concat([frame(new Uint8Array(0), true), frame(number)]);
}
