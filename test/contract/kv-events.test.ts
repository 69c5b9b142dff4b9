/** KV events over libzmq's sockets into the table that the serving thread reads. */
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { startFollowing, type Following } from "../../src/cli/roles/following.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { EventTarget } from "../../src/router/kv/events/messages.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { CLEARED, EventPublisher, removed, stored, type PublisherOptions } from "../support/events/publisher.ts";

t.setTimeout(60_000);

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
