/** Bodies of any size, in any pieces, through windows of any size: they arrive whole and in order, both ways. */
import t from "tap";
import fc from "fast-check";
import { FLAG, FRAME, SETTING, frameOf, words } from "../../../../src/router/http2/frames.ts";
import { Output } from "../../../../src/router/http2/output.ts";
import { blockOf } from "../../../../src/router/http2/hpack.ts";
import { Peer, dataFrame, framesIn, headersFrame } from "../../../support/http2-peer.ts";

const grant = (stream: number, bytes: number): Buffer => frameOf(FRAME.windowUpdate, 0, stream, words(bytes));
const trailers = blockOf([["grpc-status", "0"]]);
/** Bytes that tell where they stand. */
const BYTES = Buffer.from(Array.from({ length: 1_000_000 }, (_, at) => (at * 31 + (at >> 8) * 7) & 0xff));
const pattern = (length: number, from: number): Buffer => BYTES.subarray(from, from + length);

const FREE = { grantsPerSecond: 1e9, idleFramesPerSecond: 1e9, settingsPerSecond: 1e9 };

interface Script {
  readonly window: number;
  readonly frameBytes: number;
  /** Parts that each of three streams writes. */
  readonly writes: readonly (readonly number[])[];
  /** What the peer gives: to which stream, 0 is the connection; how much; and whether its socket stalls then. */
  readonly grants: readonly { readonly stream: number; readonly bytes: number; readonly stall: boolean }[];
}

const script: fc.Arbitrary<Script> = fc.record({
  window: fc.oneof(fc.nat(50), fc.nat(100_000)),
  frameBytes: fc.constantFrom(16_384, 20_000, 100_000),
  writes: fc.array(fc.array(fc.oneof(fc.nat(20), fc.nat(50_000)), { maxLength: 6 }), { minLength: 3, maxLength: 3 }),
  grants: fc.array(
    fc.record({ stream: fc.constantFrom(0, 1, 3, 5), bytes: fc.integer({ min: 1, max: 30_000 }), stall: fc.boolean() }),
    { maxLength: 30 },
  ),
});

/** Keeps the books of the peer: what it got, and that it never got more than it had allowed. */
class Ledger {
  readonly bodies = new Map<number, Buffer[]>();
  readonly ended = new Set<number>();
  #connection = 65_535;
  readonly #streams = new Map<number, number>();

  constructor(window: number, ids: readonly number[]) {
    for (const id of ids) this.#streams.set(id, window);
  }

  granted(stream: number, bytes: number): void {
    if (stream === 0) this.#connection += bytes;
    else this.#streams.set(stream, (this.#streams.get(stream) ?? 0) + bytes);
  }

  take(frames: ReturnType<Peer["take"]>, frameBytes: number): boolean {
    for (const { type, flags, stream, payload } of frames) {
      if (type === FRAME.headers && (flags & 1) !== 0) this.ended.add(stream);
      if (type !== FRAME.data) continue;
      this.granted(0, -payload.length);
      this.granted(stream, -payload.length);
      this.bodies.set(stream, [...(this.bodies.get(stream) ?? []), payload]);
      if (this.#connection < 0 || (this.#streams.get(stream) ?? 0) < 0 || payload.length > frameBytes) return false;
    }
    return true;
  }
}

const IDS = [1, 3, 5];

t.test("answers", (t) => {
  fc.assert(
    fc.property(script, ({ window, frameBytes, writes, grants }) => {
      const peer = new Peer(FREE).greet([
        [SETTING.initialWindowSize, window],
        [SETTING.maxFrameSize, frameBytes],
      ]);
      peer.send(...IDS.map((id) => headersFrame(id)));
      const ledger = new Ledger(window, IDS);
      const wanted = writes.map((parts, index) =>
        pattern(
          parts.reduce((sum, size) => sum + size, 0),
          index,
        ),
      );
      const steps = [...grants, ...IDS.map((stream) => ({ stream, bytes: 400_000, stall: false }))];
      const cursor = IDS.map(() => ({ part: 0, at: 0 }));
      const write = (): void => {
        for (const [index, id] of IDS.entries()) {
          const place = cursor[index] ?? { part: 0, at: 0 };
          const size = writes[index]?.[place.part++];
          if (size === undefined) peer.streams.get(id)?.end(trailers);
          else peer.streams.get(id)?.write(wanted[index]?.subarray(place.at, (place.at += size)) ?? Buffer.alloc(0));
        }
      };
      for (const { stream, bytes, stall } of steps) {
        write();
        peer.room = !stall;
        ledger.granted(stream, bytes);
        peer.send(grant(stream, bytes));
        if (!ledger.take(peer.take(), frameBytes)) return false;
        peer.room = true;
        if (peer.paused) peer.connection.writable();
      }
      for (let round = 0; round < 8; round++) write();
      ledger.granted(0, 2_000_000);
      peer.send(grant(0, 2_000_000));
      return (
        ledger.take(peer.take(), frameBytes) &&
        ledger.ended.size === 3 &&
        IDS.every((id, index) => Buffer.concat(ledger.bodies.get(id) ?? []).equals(wanted[index] ?? Buffer.alloc(0))) &&
        peer.connection.streams === 0
      );
    }),
    { numRuns: 400 },
  );
  t.end();
});

/** A client that keeps to its windows. */
class Sending {
  readonly peer: Peer;
  readonly #windows: Map<number, number>;

  constructor(streamWindow: number) {
    this.peer = new Peer({ ...FREE, streamWindow, connectionWindow: 65_535 }).greet().send(headersFrame(1));
    this.#windows = new Map([
      [0, 65_535],
      [1, streamWindow],
    ]);
  }

  /** False where nothing more would ever be allowed. `cut`: bytes in each piece that reaches the server. */
  send(bytes: Buffer, cut: number): boolean {
    for (let at = 0; at < bytes.length;) {
      const most = Math.min(...this.#windows.values());
      if (most === 0) return false;
      const piece = bytes.subarray(at, at + most);
      at += piece.length;
      for (const [id, window] of this.#windows) this.#windows.set(id, window - piece.length);
      this.#deliver(dataFrame(1, piece), cut);
    }
    return true;
  }

  #deliver(frame: Buffer, cut: number): void {
    for (let from = 0; from < frame.length; from += cut) this.peer.send(frame.subarray(from, from + cut));
    for (const { type, stream, payload } of this.peer.take())
      if (type === FRAME.windowUpdate)
        this.#windows.set(stream, (this.#windows.get(stream) ?? 0) + payload.readUInt32BE(0));
  }
}

t.test("requests: a peer that keeps to its windows is never stopped, and brings all", (t) => {
  const sizes = fc.array(fc.oneof(fc.nat(20), fc.nat(16_384)), { maxLength: 40 });
  const [windows, cuts] = [fc.integer({ min: 1000, max: 70_000 }), fc.integer({ min: 1, max: 5000 })];
  fc.assert(
    fc.property(sizes, windows, cuts, (sizes, streamWindow, cut) => {
      const sending = new Sending(streamWindow);
      let at = 0;
      for (const size of sizes) if (!sending.send(BYTES.subarray(at, (at += size)), cut)) return false;
      sending.peer.send(dataFrame(1, 0, true));
      const heard = sending.peer.heard.get(1);
      const isWhole = Buffer.concat(heard?.body ?? []).equals(BYTES.subarray(0, at));
      return isWhole && heard?.ended === true && sending.peer.errors.length === 0;
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("padding costs of the windows what it has of bytes, and is granted again", (t) => {
  const peer = new Peer().greet().send(headersFrame(1));
  const padded = frameOf(FRAME.data, FLAG.padded, 1, Buffer.concat([Buffer.of(200), Buffer.alloc(300)]));
  for (let frames = 0; frames < 200; frames++) peer.send(padded);
  const grants = peer.take().filter(({ type }) => type === FRAME.windowUpdate);
  const granted = (id: number): number =>
    grants.filter(({ stream }) => stream === id).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  const sent = 200 * 301;
  for (const id of [0, 1]) t.ok(granted(id) > sent - 32_768 && granted(id) <= sent, `${granted(id)} of ${sent}`);
  t.same(peer.errors, []);
  t.equal(Buffer.concat(peer.heard.get(1)?.body ?? []).length, 200 * 100);
  t.end();
});

t.test("a stream that is paused is granted nothing, and all of it once it goes on", (t) => {
  const peer = new Peer({ streamWindow: 40_000, connectionWindow: 1_000_000 }).greet().send(headersFrame(1));
  peer.streams.get(1)?.pause();
  peer.send(dataFrame(1, 16_000), dataFrame(1, 16_000));
  t.same(peer.lines(), []);
  peer.streams.get(1)?.resume();
  t.same(peer.lines(), ["windowUpdate 1 by 32000"]);
  t.end();
});

t.test("bytes that were put come out in order, whatever is written over them", (t) => {
  const sizes = fc.array(fc.tuple(fc.oneof(fc.nat(100), fc.nat(10_000)), fc.boolean()), { maxLength: 60 });
  fc.assert(
    fc.property(sizes, (puts) => {
      const output = new Output();
      const taken: Uint8Array[] = [];
      const wanted: Buffer[] = [];
      for (const [size, take] of puts) {
        const bytes = pattern(size, wanted.length);
        wanted.push(bytes);
        output.put(bytes);
        if (take) taken.push(...output.take());
      }
      taken.push(...output.take());
      return Buffer.concat(taken).equals(Buffer.concat(wanted)) && output.bytes === 0;
    }),
  );
  t.same(framesIn(Buffer.alloc(0)), []);
  t.end();
});
