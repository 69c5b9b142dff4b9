/** KV events over libzmq's sockets into the table that the serving thread reads. */
import { createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { startFollowing, type Following } from "../../src/cli/roles/following.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { EventTarget } from "../../src/router/kv/events/messages.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { CLEARED, EventPublisher, removed, stored, type PublisherOptions } from "../support/events/publisher.ts";

t.setTimeout(300_000);

interface Rig extends Following {
  readonly publisher: EventPublisher;
  page(): Promise<string>;
}

const target = ({ port, replayPort }: EventPublisher, id: string): EventTarget => ({
  ...{ id, bootId: "1", host: "127.0.0.1", port, ranks: 1, guessed: false, capacityTokens: 100_000 },
  ...(replayPort === undefined ? {} : { replayPort }),
});

async function rig(t: Test, options: PublisherOptions = {}): Promise<Rig> {
  const ports = createPorts(loadConfig({ flags: { "router.events.maxBytes": "4194304" } }), SILENT_LOG);
  const following = startFollowing(ports);
  if (following === undefined) throw new Error("events are on by default");
  const publisher = await EventPublisher.start(options);
  t.teardown(() => {
    following.feed.stop();
    publisher.stop();
  });
  return { ...following, publisher, page: () => ports.metrics.page() };
}

const tokensOf = (count: number, from = 0): Int32Array => Int32Array.from({ length: count }, (_, at) => from + at * 7);

const asked = { model: "m", adapter: undefined, salt: undefined, tenant: "" };

function depth({ index }: Following, tokens: Int32Array, endpoint = "e", who = asked): number {
  const keys = index.keys(tokens, who);
  if (keys === undefined) return -1;
  return index.match(keys).all([endpoint]).device[0]!;
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let waited = 0; !(await condition()); waited += 10) {
    if (waited > 20_000) throw new Error(`never: ${what}`);
    await sleep(10);
  }
}

const chain = (count: number, from = 1n): bigint[] =>
  Array.from({ length: count }, (_, at) => from + BigInt(at) * 2n ** 55n);

for (const topic of [false, true])
  t.test(
    `what was published before is replayed, and what comes is followed; topic in replies: ${String(topic)}`,
    async (t) => {
      const r = await rig(t, { topic });
      const tokens = tokensOf(64);
      const hashes = chain(4);
      await r.publisher.publish([
        stored({ hashes: hashes.slice(0, 2), parent: null, tokens: [...tokens.subarray(0, 32)], blockSize: 16 }),
      ]);
      r.feed.follow([target(r.publisher, "e")]);
      await until("live", () => r.index.isLive("e"));
      t.equal(depth(r, tokens), 32);
      await r.publisher.publish([
        stored({ hashes: hashes.slice(2), parent: hashes[1]!, tokens: [...tokens.subarray(32)], blockSize: 16 }),
      ]);
      await until("followed", () => depth(r, tokens) === 64);
      await r.publisher.publish([removed(hashes.slice(3))]);
      await until("removed", () => depth(r, tokens) === 48);
      await r.publisher.publish([CLEARED]);
      await until("cleared", () => depth(r, tokens) === 0);
      t.equal(r.index.state("e")?.state, "live");
      t.equal(depth(r, tokens, "e", { ...asked, tenant: "t" }), -1, "a tenant without a salt is not looked up");
    },
  );

t.test("a lost message is asked for again", async (t) => {
  const r = await rig(t);
  const tokens = tokensOf(48);
  const hashes = chain(3);
  r.feed.follow([target(r.publisher, "e")]);
  await until("live", () => r.index.isLive("e"));
  const at = (block: number): number[] => [...tokens.subarray(16 * block, 16 * block + 16)];
  await r.publisher.publish([stored({ hashes: [hashes[0]!], parent: null, tokens: at(0), blockSize: 16 })]);
  await r.publisher.publish([stored({ hashes: [hashes[1]!], parent: hashes[0]!, tokens: at(1), blockSize: 16 })], {
    lost: true,
  });
  await r.publisher.publish([stored({ hashes: [hashes[2]!], parent: hashes[1]!, tokens: at(2), blockSize: 16 })]);
  await until("complete", () => depth(r, tokens) === 48);
  await until("counted", async () => /event_breaks_total\{kind="gaps"\} 1\n/.test(await r.page()));
});

t.test("of an endpoint with two ranks the mean is expected, and both must be live", async (t) => {
  const r = await rig(t);
  const second = await EventPublisher.start({
    port: r.publisher.port + 1,
    replayPort: (r.publisher.replayPort ?? 0) + 1,
  });
  t.teardown(() => second.stop());
  const tokens = tokensOf(64);
  const event = stored({ hashes: chain(4), parent: null, tokens: [...tokens], blockSize: 16 });
  await r.publisher.publish([event]);
  r.feed.follow([{ ...target(r.publisher, "e"), ranks: 2 }]);
  await until("live", () => r.index.isLive("e"));
  t.equal(depth(r, tokens), 32);
  await second.publish([event]);
  await until("both", () => depth(r, tokens) === 64);
  second.stop();
  await until("one is gone", () => !r.index.isLive("e"));
  t.same(r.index.state("e")?.cause, "unreachable");
});

t.test("who speaks something else, or floods with garbage, harms nobody", async (t) => {
  const r = await rig(t);
  const stranger = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.write("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  await new Promise<void>((resolve) => stranger.listen(0, "127.0.0.1", resolve));
  t.teardown(() => stranger.close());
  const flooder = await EventPublisher.start({ replays: false });
  t.teardown(() => flooder.stop());
  const port = (stranger.address() as AddressInfo).port;
  r.feed.follow([
    { ...target(r.publisher, "stranger"), port, guessed: true },
    { ...target(flooder, "flooder") },
    target(r.publisher, "e"),
  ]);
  await until("live", () => r.index.isLive("e"));
  const tokens = tokensOf(32);
  const garbage = Buffer.alloc(4096, 0xc1);
  for (let sequence = 0; sequence < 3000; sequence++) await flooder.raw(sequence, garbage);
  await r.publisher.publish([stored({ hashes: chain(2), parent: null, tokens: [...tokens], blockSize: 16 })]);
  await until("followed", () => depth(r, tokens) === 32);
  t.equal(r.index.state("stranger")?.state, "blind");
  await until("told", () => r.index.state("flooder")?.cause === "garbage");
  t.notMatch(await r.page(), /thread_restarts_total\{thread="events"/);
});

t.test("one engine's flood of blocks leaves what another holds", async (t) => {
  const r = await rig(t);
  const flooder = await EventPublisher.start({});
  t.teardown(() => flooder.stop());
  const tokens = tokensOf(64);
  await r.publisher.publish([stored({ hashes: chain(4), parent: null, tokens: [...tokens], blockSize: 16 })]);
  r.feed.follow([target(flooder, "flooder"), target(r.publisher, "e")]);
  await until("live", () => r.index.isLive("e") && r.index.isLive("flooder"));
  // Ten times what the memory holds in all.
  for (let message = 0; message < 4000; message++) {
    const other = tokensOf(2048, 1_000_000 * (message + 1));
    const hashes = chain(128, BigInt(1_000 + message));
    await flooder.publish([stored({ hashes, parent: null, tokens: [...other], blockSize: 16 })], { kept: false });
  }
  const last = tokensOf(2048, 4_000_000_000 | 0);
  await flooder.publish([stored({ hashes: chain(128, 7n), parent: null, tokens: [...last], blockSize: 16 })]);
  await until("the newest is known", () => depth(r, last, "flooder") === 2048);
  t.equal(depth(r, tokens), 64);
  t.ok((r.index.state("flooder")?.blocks ?? Infinity) < 60_000);
});
