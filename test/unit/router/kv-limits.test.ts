/** What engines may say is bounded: ranks, ports, messages, caches that are cleared, shares that become smaller. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import { EventBatch } from "../../../src/router/kv/events/batch.ts";
import { EngineCache, newCounts } from "../../../src/router/kv/events/cache.ts";
import { TokenChain } from "../../../src/router/kv/events/chain.ts";
import { EventDecoder } from "../../../src/router/kv/events/decode.ts";
import { Numbers } from "../../../src/router/kv/events/numbers.ts";
import { Roots } from "../../../src/router/kv/events/roots.ts";
import { eventTargets } from "../../../src/router/kv/events/targets.ts";
import type { FromEvents } from "../../../src/router/kv/events/messages.ts";
import { serveEvents } from "../../../src/router/kv/events/worker.ts";
import { greeting, ready, ZmtpReader } from "../../../src/router/kv/events/zmtp.ts";
import { bytesOf, HolderTable } from "../../../src/router/kv/table.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";
import { batch, CLEARED, stored } from "../../support/events/publisher.ts";

const config = loadConfig({
  text: JSON.stringify({
    router: { endpoints: { static: [{ address: "127.0.0.1:8000", role: "both", model: "m", eventsPort: 5557 }] } },
  }),
}).router;

t.test("ranks that no engine has, and ports that nobody can dial, are not followed", (t) => {
  const [endpoint] = staticEndpoints(config.endpoints.static);
  for (const [events, ranks] of [
    [{ port: 5557, ranks: 8 }, 8],
    [{ port: 5557, ranks: 1e9 }, 1024],
    [{ port: 65_534, ranks: 8 }, 2],
    [{ port: 5557, replayPort: 65_535, ranks: 8 }, 1],
  ] as const)
    t.equal(eventTargets([{ endpoint: { ...endpoint!, events }, stats: undefined }], config)[0]?.ranks, ranks);
  t.end();
});

function cache(blocks: number) {
  const table = new HolderTable({ slots: 4096, endpoints: 8, rows: 64 });
  const numbers = new Numbers(table, () => 5);
  const chain = new TokenChain(16);
  const limits = { keys: blocks, blocks, words: 100 };
  const renew = (held: EngineCache["held"] | undefined) => numbers.renew(held, limits);
  const engine = new EngineCache({ chain, roots: new Roots(chain), renew }, newCounts());
  const [events, decoder] = [new EventBatch(), new EventDecoder()];
  const take = (all: readonly object[]): void => {
    if (decoder.decode(events, batch(all, 1)) !== undefined) throw new Error("cannot be read");
    engine.apply(events);
  };
  return { table, numbers, engine, take };
}

const blocks = (count: number, from = 0): object =>
  stored({
    hashes: Array.from({ length: count }, (_, at) => BigInt(from + at + 1)),
    parent: null,
    tokens: Array.from({ length: 16 * count }, (_, at) => from * 16 + at),
    blockSize: 16,
  });

t.test("a cache that is empty is cleared for nothing, and as often as one likes", (t) => {
  const { engine, numbers, take } = cache(100);
  const { held } = engine;
  take(Array.from({ length: 60_000 }, () => CLEARED));
  t.equal(engine.held, held);
  t.equal(numbers.given, 1);
  take(Array.from({ length: 30_000 }, () => [blocks(1), CLEARED]).flat());
  t.equal(numbers.given, 1, "nor is a small one worth a new number");
  take([blocks(90), CLEARED]);
  t.not(engine.held, held);
  t.equal(engine.held.blocks, 0);
  t.end();
});

t.test("a share that becomes smaller is given up, though its engine says nothing more", (t) => {
  const { engine, table, take } = cache(1000);
  take([blocks(800)]);
  engine.held.limit({ keys: 100, blocks: 100, words: 100 });
  t.notOk(engine.held.trim(500), "not all at once");
  t.equal(engine.held.blocks, 300);
  t.ok(engine.held.trim(500));
  t.same([engine.held.blocks, engine.held.keys, table.used], [100, 100, 100]);
  t.end();
});

/** A reader behind its handshake. */
function reader(): { reader: ZmtpReader; messages: number[] } {
  const messages: number[] = [];
  const sink = {
    greeted: () => undefined,
    readied: () => undefined,
    message: (_: Uint8Array, frames: Int32Array, count: number) =>
      void messages.push(frames[2 * count - 1]! - frames[0]!),
  };
  const made = new ZmtpReader(sink);
  made.push(greeting());
  made.push(ready("DEALER"));
  return { reader: made, messages };
}

function head(size: number, more: boolean): Buffer {
  const bytes = Buffer.alloc(9);
  bytes[0] = 2 | (more ? 1 : 0);
  bytes.writeBigUInt64BE(BigInt(size), 1);
  return bytes;
}

const MIB = 2 ** 20;

t.test("a message is bounded as a whole, however many frames it has", (t) => {
  const { reader: large } = reader();
  let error: string | undefined;
  let pushed = 0;
  for (let at = 0; at < 7 && error === undefined; at++) {
    error = large.push(head(15 * MIB, true)) ?? large.push(Buffer.alloc(15 * MIB));
    pushed += 15;
  }
  t.equal(error, "tooLarge");
  t.ok(pushed <= 30, `${pushed} MiB`);
  t.end();
});

t.test("memory that a large message took is given back behind it", (t) => {
  const { reader: made, messages } = reader();
  made.push(head(8 * MIB, false));
  for (let at = 0; at < 8; at++) made.push(Buffer.alloc(MIB));
  t.equal(messages.length, 1);
  t.ok(made.held <= MIB, `${made.held} bytes`);
  made.push(head(300, false));
  made.push(Buffer.alloc(300));
  t.equal(messages.length, 2);
  t.end();
});

t.test("more streams than the table has numbers: as many as there are numbers are followed", (t) => {
  const geometry = { slots: 1024, endpoints: 16, rows: 64 };
  const time = new VirtualTime();
  const posted: FromEvents[] = [];
  let tell: (message: unknown) => void = () => undefined;
  serveEvents(
    { post: (message) => void posted.push(message as FromEvents), onMessage: (listener) => void (tell = listener) },
    {
      ...{ geometry, buffer: new SharedArrayBuffer(bytesOf(geometry)), blockTokens: 16, blocksPerSecond: 1000 },
      ...{ poolMs: 1000, clock: time, timers: time, random: { next: () => 0.5, id: () => "" } },
      metrics: { ...NO_METRICS, take: () => [] },
    },
  );
  // Nobody listens at the ports.
  const target = { bootId: "1", host: "127.0.0.1", port: 1, ranks: 10, guessed: false, capacityTokens: 1000 };
  tell({ kind: "targets", version: 1, targets: ["a", "b", "c"].map((id) => ({ ...target, id })) });
  time.advance(250);
  t.equal(posted.at(-1)?.streams.length, 16);
  tell({ kind: "targets", version: 2, targets: [{ ...target, id: "c" }] });
  time.advance(250);
  t.equal(posted.at(-1)?.streams.filter(({ state }) => state === "blind").length, 10);
  tell({ kind: "targets", version: 3, targets: [] });
  t.end();
});
