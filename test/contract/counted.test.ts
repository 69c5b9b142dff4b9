/**
 * Engines that never say of an answer what was cached: their counters alone tell how far the routing history is right. The
 * whole router, with pages read by its thread, before simulated engines; profile light, as most run it.
 */
import t, { type Test } from "tap";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startRouterRole } from "../../src/cli/roles/router.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { HEADER } from "../../src/kinds/names.ts";
import { startEngine, type EngineOptions, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { startGateway } from "../../src/simulator/gateway/server.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { startPageServer } from "../../src/telemetry/server.ts";
import { engineOptions } from "../support/engines.ts";

t.setTimeout(300_000);
const MODEL = "qwen3-32b";

interface Shown {
  readonly historyTrust: number;
  readonly engine: { readonly lookups?: { readonly queried: number; readonly hit: number } } | null;
}

/** One engine that tells of 50,000 blocks, whatever it has. */
async function world(t: Test, own: Partial<EngineOptions>) {
  const router = { listen: "127.0.0.1:0", healthListen: "", explainHeaders: true };
  const scrape = { scrapeIntervalMs: 100, scrapeTimeoutMs: 300 };
  const ports = createPorts(loadConfig(), SILENT_LOG);
  const options = engineOptions({ models: [MODEL], connector: "nixl", cacheReport: false, toldBlocks: 50_000, ...own });
  const self = { engine: await startEngine(options, ports) };
  const { address } = self.engine;
  const endpoints = { static: [{ address, role: "both", model: MODEL }] };
  const config = loadConfig({ text: JSON.stringify({ router: { ...router, ...scrape, endpoints } }) });
  const known = staticEndpoints(config.router.endpoints.static);
  const role = await startRouterRole({ ...ports, config }, { endpoints: () => known, synced: () => true });
  const [gateway, pages] = [await startGateway(role.address), await startPageServer(LOOPBACK, role.pages ?? {})];
  t.teardown(async () => {
    await Promise.all([gateway.stop(), pages.stop()]);
    await Promise.all([role.stop(), self.engine.stop()]);
  });
  /** Three conversations in turn, of 3000 tokens and a question each; returns what the last one was predicted to hit. */
  let turn = 0;
  const talk = async (): Promise<number> => {
    turn += 1;
    const content = `${`Talk ${turn % 3} of ships and of tides. `.repeat(400)} Question ${turn}?`;
    const answer = await post(gateway.url, content);
    await answer.text();
    return Number(answer.headers.get(HEADER.predictedCachedTokens));
  };
  const shown = async (): Promise<Shown> =>
    ((await (await fetch(`http://${pages.address}/debug/endpoints`)).json()) as { endpoints: [Shown] }).endpoints[0];
  const windows = async (outcome: string): Promise<number> =>
    Number(new RegExp(`counted_windows_total{outcome="${outcome}"} (\\d+)`).exec(await ports.metrics.page())?.[1] ?? 0);
  const restart = async (): Promise<void> => {
    await self.engine.stop();
    self.engine = await startEngine({ ...options, port: Number(address.split(":")[1]) }, ports);
  };
  return { talk, shown, windows, restart, engine: (): RunningEngine => self.engine };
}

const LOOPBACK = { host: "127.0.0.1", port: 0 };

const post = (url: string, content: string): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, max_tokens: 2, messages: [{ role: "user", content }] }),
  });

/** Talks until it is so; returns what was predicted last. */
async function talkUntil(talk: () => Promise<number>, isSo: () => Promise<boolean>): Promise<number> {
  for (;;) {
    for (let at = 0; at < 6; at++) await talk();
    if (await isSo()) return talk();
  }
}

t.test("an engine with far less room than it tells is believed less and less", async (t) => {
  const { talk, shown, engine } = await world(t, { capacityBlocks: 400 });
  const predicted: number[] = [];
  for (let at = 0; at < 6; at++) predicted.push(await talk());
  t.ok((predicted[5] ?? 0) > 2000, "the fourth time a conversation is expected in the cache");
  const last = await talkUntil(talk, async () => (await shown()).historyTrust < 0.3);
  t.ok(last < 1000, `${last} tokens`);
  t.equal(engine().facts().cachedTokens, 0, "and rightly so");
});

t.test("an engine that says it caches nothing is taken at its word", async (t) => {
  const { talk, shown } = await world(t, { caching: false });
  t.equal(await talkUntil(talk, async () => (await shown()).engine?.lookups !== undefined), 0);
  t.equal((await shown()).historyTrust, 1, "nothing is to be judged");
});

t.test("an engine that is right is believed, also beyond a restart", async (t) => {
  const { talk, shown, windows, restart } = await world(t, {});
  const last = await talkUntil(talk, async () => (await windows("judged")) > 0);
  t.ok((await shown()).historyTrust > 0.95, `${(await shown()).historyTrust}`);
  t.ok(last > 2000);
  await restart();
  const before = await windows("judged");
  await talkUntil(talk, async () => (await windows("reset")) > 0 && (await windows("judged")) > before);
  t.ok((await shown()).historyTrust > 0.7, "three conversations began anew");
  await talkUntil(talk, async () => (await shown()).historyTrust > 0.9);
});

t.test("traffic that goes past the router teaches nothing", async (t) => {
  const { talk, shown, windows, engine } = await world(t, {});
  let number = 0;
  const beside = async (): Promise<void> => {
    number += 1;
    const answer = await post(`http://${engine().address}`, `Nobody else asks ${number}. `.repeat(900));
    await answer.text();
  };
  const both = async (): Promise<number> => (await Promise.all([talk(), beside(), beside()]))[0];
  await talkUntil(both, async () => (await windows("foreign")) > 0);
  t.equal((await shown()).historyTrust, 1);
});
