/** The bytes of one connection: streams of messages in HTTP/2 frames, some of them changed. From a seed. */
import { FLAG, FRAME, PREFACE, SETTING, frameOf, settingsFrame, words } from "../../src/router/http2/frames.ts";
import { blockOf } from "../../src/router/http2/hpack.ts";
import { frame } from "../../src/router/extproc/grpc.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import { below, messagesOf, oneOf, times, type Random } from "./messages.ts";

export interface Case {
  /** Written one after the other; between them the router may answer. */
  readonly writes: readonly Buffer[];
  readonly reads: boolean;
  /** `stay`: until the router has had a moment to answer. */
  readonly leaves: "stay" | "end" | "destroy";
}

const PATH = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const head = (path: string): Buffer =>
  blockOf([
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
  ]);
const HEAD = head(PATH);
const MOST_STREAMS = 12;
/** DATA of a stream stays within its window of 1 MiB: more is a fault that the frames' own changes make. */
const MOST_DATA = 16_384;

function framed(random: Random, message: Buffer): Buffer {
  const bytes = Buffer.concat(frame([message]));
  if (random() > 0.02) return bytes;
  bytes[below(random, 5)] = below(random, 256);
  return bytes;
}

/** DATA frames, cut wherever. */
function dataFrames(random: Random, stream: number, bytes: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  const small = random() < 0.1 && bytes.length < 2000;
  for (let at = 0; at < bytes.length;) {
    const size = 1 + below(random, small ? 3 : MOST_DATA);
    frames.push(frameOf(FRAME.data, 0, stream, bytes.subarray(at, at + size)));
    at += size;
  }
  return frames;
}

/** One stream, from its HEADERS to how its proxy leaves it. */
function streamFrames(random: Random, stream: number): Buffer[] {
  const block = random() < 0.98 ? HEAD : head(oneOf(random, ["/", "/x", `${PATH}/`]));
  const bytes = Buffer.concat(messagesOf(random).map((message) => framed(random, message)));
  const last = oneOf(random, [
    [],
    [frameOf(FRAME.data, FLAG.endStream, stream, Buffer.alloc(0))],
    [frameOf(FRAME.reset, 0, stream, words(8))],
  ]);
  return [frameOf(FRAME.headers, FLAG.endHeaders, stream, block), ...dataFrames(random, stream, bytes), ...last];
}

/** In turns, each stream's own order kept. */
function interleaved(random: Random, streams: Buffer[][]): Buffer[] {
  const all: Buffer[] = [];
  const left = streams.filter((frames) => frames.length > 0);
  while (left.length > 0) {
    const at = below(random, left.length);
    all.push(...(left[at]?.splice(0, 1 + below(random, 4)) ?? []));
    if (left[at]?.length === 0) left.splice(at, 1);
  }
  return all;
}

const any = (random: Random): Buffer =>
  frameOf(
    below(random, 12),
    below(random, 256),
    below(random, 4) === 0 ? 0 : below(random, 30),
    Buffer.from(Array.from({ length: oneOf(random, [0, 4, 5, 6, 8, 12, 30]) }, () => below(random, 256))),
  );

const CHANGES: readonly ((random: Random, frames: Buffer[], at: number) => void)[] = [
  (random, frames, at) => {
    const changed = Buffer.from(frames[at] ?? any(random));
    changed[below(random, changed.length)] = below(random, 256);
    frames[at] = changed;
  },
  (_, frames, at) => void frames.splice(at, 1),
  (random, frames, at) => void frames.splice(at, 0, any(random)),
  (random, frames, at) => void frames.splice(below(random, frames.length), 0, ...frames.slice(at, at + 2)),
  (random, frames, at) => (frames[at] = frames[at]?.subarray(0, below(random, frames[at].length)) ?? any(random)),
];

const SETTINGS = (random: Random): Buffer =>
  settingsFrame([
    [SETTING.initialWindowSize, oneOf(random, [0, 1, 100, 65_535, 2 ** 20])],
    [SETTING.maxFrameSize, oneOf(random, [16_384, 2 ** 20])],
  ]);

/** In pieces that say nothing of the frames. */
function pieces(random: Random, bytes: Buffer): Buffer[] {
  const cuts = [0, ...times(random, 5, () => below(random, bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return cuts.slice(1).map((end, index) => bytes.subarray(cuts[index], end));
}

/** The n-th case of a seed. */
export const randomOf = (seed: number, n: number): Random =>
  seededRandom(Math.imul(seed, 0x9e3779b1) + Math.imul(n, 0x85ebca6b)).next;

export function caseOf(seed: number, n: number): Case {
  const random = randomOf(seed, n);
  const streams = Array.from({ length: 1 + below(random, MOST_STREAMS) }, (_, index) =>
    streamFrames(random, 2 * index + 1),
  );
  const frames = interleaved(random, streams);
  if (random() < 0.5)
    for (let left = 1 + below(random, 3); left > 0 && frames.length > 0; left--)
      oneOf(random, CHANGES)(random, frames, below(random, frames.length));
  const windows = frameOf(FRAME.windowUpdate, 0, 0, words(2 ** 24));
  const greeting = [PREFACE, SETTINGS(random), ...(random() < 0.5 ? [windows] : [])];
  return {
    writes: pieces(random, Buffer.concat([...greeting, ...frames])),
    reads: random() < 0.9,
    leaves: oneOf(random, ["stay", "end", "destroy"]),
  };
}
