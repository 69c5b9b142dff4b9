/** The simulated engine publishes what it caches as vLLM and SGLang do: read by libzmq and msgpackr, and followed by us. */
import { setTimeout as sleep } from "node:timers/promises";
import { Unpackr } from "msgpackr";
import t, { type Test } from "tap";
import { Dealer, Subscriber } from "zeromq";
import { startFollowing } from "../../src/cli/roles/following.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { EventFormat } from "../../src/simulator/engine/events.ts";
import { startEngine, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { tokenize } from "../../src/simulator/engine/tokenizer.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { systemClock, systemRandom, systemTimers } from "../../src/telemetry/process.ts";

t.setTimeout(300_000);

const ports = { clock: systemClock, timers: systemTimers, random: systemRandom };
const TEXT = "the quick brown fox jumps over the lazy dog and goes on its way ".repeat(12);

async function engine(t: Test, format: EventFormat): Promise<RunningEngine> {
  const running = await startEngine(
    { host: "127.0.0.1", port: 0, models: ["m"], connector: "nixl", timeScale: 50, events: { format } },
    ports,
  );
  t.teardown(() => running.stop());
  return running;
}

async function ask({ address }: RunningEngine, prompt: string, more: object = {}): Promise<void> {
  const body = JSON.stringify({ model: "m", prompt, max_tokens: 20, ignore_eos: true, ...more });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`http://${address}/v1/completions`, { method: "POST", headers, body });
  if (answer.status !== 200) throw new Error(await answer.text());
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition(); waited += 10) {
    if (waited > 20_000) throw new Error(`never: ${what}`);
    await sleep(10);
  }
}

const unpackr = new Unpackr({ mapsAsObjects: true, int64AsType: "bigint" });

t.test("libzmq and msgpackr read it: numbers in order, and the same again on request", async (t) => {
  const running = await engine(t, "vllm-map");
  const subscriber = new Subscriber();
  subscriber.connect(`tcp://127.0.0.1:${running.events!.port}`);
  subscriber.subscribe();
  await sleep(300);
  await ask(running, TEXT);
  const [, number, payload] = await subscriber.receive();
  t.equal(number!.readBigUInt64BE(), 0n);
  const [time, events] = unpackr.unpack(payload!) as [
    number,
    { type: string; token_ids: number[]; block_size: number }[],
  ];
  t.ok(Math.abs(time - Date.now() / 1000) < 60);
  t.equal(events[0]!.type, "BlockStored");
  t.same(events[0]!.token_ids, tokenize(TEXT).slice(0, events[0]!.token_ids.length));
  t.equal(events[0]!.block_size, 16);
  const dealer = new Dealer();
  dealer.connect(`tcp://127.0.0.1:${running.events!.replayPort}`);
  await dealer.send(["", Buffer.alloc(8)]);
  const again = await dealer.receive();
  t.same(again.at(-1), payload);
  subscriber.close();
  dealer.close();
});

for (const format of ["vllm-array", "vllm-map", "sglang"] as const)
  t.test(`${format}: what the engine caches is what we know of it`, async (t) => {
    const running = await engine(t, format);
    const following = startFollowing(
      createPorts(loadConfig({ flags: { "router.events.maxBytes": "4194304" } }), SILENT_LOG),
    )!;
    t.teardown(() => following.feed.stop());
    const { port, replayPort } = running.events!;
    await ask(running, TEXT);
    following.feed.follow([
      { id: "e", bootId: "1", host: "127.0.0.1", port, replayPort, ranks: 1, guessed: false, capacityTokens: 10_000 },
    ]);
    await until("live", () => following.index.isLive("e"));
    const asked = { model: "m", adapter: undefined, salt: undefined, tenant: "" };
    const depth = (text: string, salt?: string): number => {
      const keys = following.index.keys(Int32Array.from(tokenize(text)), { ...asked, salt })!;
      return following.index.match(keys).all(["e"]).device[0]!;
    };
    const whole = (text: string): number => 16 * Math.floor(tokenize(text).length / 16);
    t.equal(depth(TEXT), whole(TEXT), "it was replayed");
    const other = `something else: ${TEXT}`;
    t.equal(depth(other), 0);
    await ask(running, other);
    await until("followed", () => depth(other) === whole(other));
    if (format !== "sglang") {
      await ask(running, `salted ${TEXT}`, { cache_salt: "s" });
      await until("salted", () => depth(`salted ${TEXT}`, "s") === whole(`salted ${TEXT}`));
      t.equal(depth(`salted ${TEXT}`), 0, "others do not find it");
    }
    await fetch(`http://${running.address}/reset_prefix_cache`, { method: "POST" });
    await until("cleared", () => depth(TEXT) === 0);
  });
