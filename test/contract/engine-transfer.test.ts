import t, { type Test } from "tap";
import { startEngine, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { VirtualTime } from "../../src/simulator/engine/virtual-time.ts";
import { call, CHAT_PATH, PORTS, start, until } from "./engine.ts";

const PREFILL_PARAMS = {
  do_remote_decode: true,
  do_remote_prefill: false,
  remote_engine_id: null,
  remote_block_ids: null,
  remote_host: null,
  remote_port: null,
};

const chat = (content: string): Record<string, unknown> => ({
  model: "llama",
  messages: [{ role: "user", content: content.repeat(30) }],
  max_tokens: 4,
});

/** Prefill leg as the router sends it; gives back what the decode leg must carry. */
async function prefill(
  engine: RunningEngine,
  body: Record<string, unknown>,
  id = "r1",
): Promise<Record<string, unknown>> {
  const leg = { ...body, stream: false, max_tokens: 1, min_tokens: 1, kv_transfer_params: PREFILL_PARAMS };
  const { json } = await call(engine, CHAT_PATH, { body: leg, headers: { "x-request-id": id } });
  return json["kv_transfer_params"] as Record<string, unknown>;
}

const decode = (engine: RunningEngine, body: Record<string, unknown>, params: unknown, id = "r1") =>
  call(engine, CHAT_PATH, { body: { ...body, kv_transfer_params: params }, headers: { "x-request-id": id } });

/** An engine whose time stands still unless the test moves it; its lease is 30 s. */
async function startVirtual(t: Test): Promise<{ time: VirtualTime; engine: RunningEngine }> {
  const time = new VirtualTime();
  const options = { host: "127.0.0.1", port: 0, models: ["llama"], connector: "nixl", leaseMs: 30_000 } as const;
  const engine = await startEngine(options, { clock: time, timers: time, random: PORTS.random });
  t.teardown(() => engine.stop());
  return { time, engine };
}

async function prefillVirtual(
  engine: RunningEngine,
  time: VirtualTime,
  body: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const pending = prefill(engine, body);
  await until(() => engine.facts().requests === 1);
  time.advance(1000);
  return pending;
}

for (const connector of ["nixl", "mooncake"] as const) {
  t.test(`${connector}: the decode leg gets the KV of the prefill leg and computes no prompt`, async (t) => {
    const blockSize = connector === "nixl" ? 16 : 128;
    const [p, d] = [await start(t, { connector, blockSize }), await start(t, { connector, blockSize })];
    const body = chat("Tides are the rise and fall of sea levels. ");
    const params = await prefill(p, body);
    t.match(params, { do_remote_prefill: true, remote_engine_id: p.engineId, remote_request_id: /^chatcmpl-r1-/ });
    t.equal(`${String(params["remote_host"])}:${String(params["remote_port"])}`, p.address);
    t.match(p.facts(), { prefillLegs: 1, pinnedRequests: 1 });
    t.ok(p.facts().usedBlocks > 0, "the blocks stay in use");

    const answer = await decode(d, body, params);
    const { prompt_tokens: tokens = 0 } = answer.json["usage"] as Record<string, number>;
    t.match(answer.json, { usage: { prompt_tokens_details: { cached_tokens: tokens - 1 } }, kv_transfer_params: null });
    t.match(d.facts(), { decodeLegsRemote: 1, decodeLegsLocal: 0, pulledTokens: tokens });
    await until(() => p.facts().usedBlocks === 0);
    t.match(p.facts(), { pinnedRequests: 0, pinsPulled: 1, decodeLegsLocal: 0 });
    const page = (await call(d, "/metrics")).text;
    t.match(page, /simulator_decode_legs_total\{prefill="remote",[^}]*\} 1/);
    t.match(page, /vllm:nixl_xfer_time_seconds_count\{[^}]*\} 1/);
  });
}

t.test("both legs give the answer that one engine alone would give", async (t) => {
  const [p, d, alone] = [await start(t), await start(t), await start(t)];
  const body = chat("Of ships. ");
  const split = await decode(d, body, await prefill(p, body));
  const whole = await call(alone, CHAT_PATH, { body });
  t.same(split.json["choices"], whole.json["choices"]);
});

t.test("a decode leg without parameters computes its prompt and says so", async (t) => {
  const d = await start(t);
  await call(d, CHAT_PATH, { body: chat("Alone. ") });
  t.match(d.facts(), { decodeLegsLocal: 1, decodeLegsRemote: 0, pulledTokens: 0 });
});

t.test("a pin serves one decode leg; the second computes", async (t) => {
  const [p, d] = [await start(t), await start(t)];
  const body = chat("Once. ");
  const params = await prefill(p, body);
  await decode(d, body, params);
  t.equal((await decode(d, body, params)).status, 200);
  t.match(d.facts(), { decodeLegsRemote: 1, decodeLegsLocal: 1, transferFailures: { unknown: 1 } });
});

t.test("two prefill legs with one request id do not share a pin", async (t) => {
  const [p, d] = [await start(t), await start(t)];
  const body = chat("Twice. ");
  const [first, second] = [await prefill(p, body, "same"), await prefill(p, body, "same")];
  t.not(first["remote_request_id"], second["remote_request_id"]);
  await decode(d, body, first, "same");
  await decode(d, body, second, "same");
  t.match(d.facts(), { decodeLegsRemote: 2, decodeLegsLocal: 0 });
});

t.test("what cannot be pulled is computed, and the reason is counted", async (t) => {
  const [p, d] = [await start(t), await start(t)];
  const body = chat("Lost. ");
  const params = await prefill(p, body);
  const gone = await start(t);
  const goneAddress = gone.address;
  await gone.stop();
  const cases = [
    ["broken", { ...params, remote_request_id: undefined }],
    ["unknown", { ...params, remote_request_id: "never" }],
    ["unknown", { ...params, remote_engine_id: "a former engine" }],
    ["unreachable", { ...params, remote_port: Number(goneAddress.split(":")[1]) }],
    ["unreachable", { ...params, remote_host: "localhost" }],
  ] as const;
  for (const [why, changed] of cases) {
    const before = d.facts();
    t.equal((await decode(d, body, changed)).status, 200, why);
    t.equal(d.facts().transferFailures[why], before.transferFailures[why] + 1, why);
    t.equal(d.facts().decodeLegsLocal, before.decodeLegsLocal + 1);
  }
  t.equal(p.facts().pinnedRequests, 1, "the pin itself is untouched");
});

t.test("KV of another prompt is not believed", async (t) => {
  const [p, d] = [await start(t), await start(t)];
  const params = await prefill(p, chat("This. "));
  t.equal((await decode(d, chat("That. "), params)).status, 200);
  t.match(d.facts(), { decodeLegsLocal: 1, transferFailures: { mismatch: 1 } });
  await until(() => p.facts().usedBlocks === 0);
  t.equal(p.facts().pinnedRequests, 0, "and nobody else will want it");
});

t.test("a restarted prefill engine knows nothing of its former pins", async (t) => {
  const d = await start(t);
  const former = await start(t, { host: "127.64.9.3" });
  const body = chat("Before. ");
  const params = await prefill(former, body);
  const port = Number(former.address.split(":")[1]);
  await former.stop();
  await start(t, { host: "127.64.9.3", port });
  t.equal((await decode(d, body, params)).status, 200);
  t.match(d.facts(), { decodeLegsLocal: 1, transferFailures: { unknown: 1 } });
});

t.test("a refused decode leg frees the blocks of its prefill leg", async (t) => {
  const [p, d] = [await start(t), await start(t)];
  const body = chat("Refused. ");
  const params = await prefill(p, body);
  t.equal((await decode(d, { ...body, max_tokens: -1 }, params)).status, 400);
  await until(() => p.facts().usedBlocks === 0);
  t.match(p.facts(), { pinnedRequests: 0, pinsPulled: 0, pinsExpired: 0 });
});

t.test("Mooncake gives nothing for a prefill leg that ended by itself", async (t) => {
  const body = { ...chat("Stop. "), max_tokens: 50, kv_transfer_params: PREFILL_PARAMS };
  const [nixl, mooncake] = [
    await start(t, { meanOutputTokens: 2 }),
    await start(t, { meanOutputTokens: 2, connector: "mooncake" }),
  ];
  const answers = await Promise.all([nixl, mooncake].map((engine) => call(engine, CHAT_PATH, { body })));
  t.match(answers[0]?.json, { choices: [{ finish_reason: "stop" }], kv_transfer_params: { do_remote_prefill: true } });
  t.match(answers[1]?.json, { choices: [{ finish_reason: "stop" }], kv_transfer_params: null });
  t.equal(mooncake.facts().usedBlocks, 0);
});

t.test("a prefill leg that is cut off pins nothing", async (t) => {
  const p = await start(t, { timeScale: 0.01 });
  const abort = new AbortController();
  const body = JSON.stringify({ ...chat("Cut. "), max_tokens: 1, kv_transfer_params: PREFILL_PARAMS });
  const headers = { "content-type": "application/json" };
  const going = fetch(`http://${p.address}${CHAT_PATH}`, { method: "POST", body, headers, signal: abort.signal });
  going.catch(() => undefined);
  await until(() => p.facts().requests === 1);
  abort.abort();
  await until(() => p.facts().aborted === 1);
  t.match(p.facts(), { pinnedRequests: 0, usedBlocks: 0, prefillLegs: 0 });
});

t.test("a lease ends, is renewed, and what has expired is computed", async (t) => {
  const { time, engine: p } = await startVirtual(t);
  const d = await start(t);
  const body = chat("Late. ");
  const params = await prefillVirtual(p, time, body);
  const pin = { engine_id: p.engineId, request_id: params["remote_request_id"] };

  time.advance(25_000);
  t.equal((await call(p, "/simulator/renew", { body: pin })).status, 200);
  time.advance(25_000);
  t.equal(p.facts().pinnedRequests, 1, "renewed");
  time.advance(5000);
  t.match(p.facts(), { pinnedRequests: 0, pinsExpired: 1, usedBlocks: 0 });
  t.match((await call(p, "/metrics")).text, /vllm:nixl_num_kv_expired_reqs_total\{[^}]*\} 1/);
  t.equal((await call(p, "/simulator/renew", { body: pin })).status, 404);

  t.equal((await decode(d, body, params)).status, 200);
  t.match(d.facts(), { decodeLegsLocal: 1, transferFailures: { unknown: 1 } });
});

t.test("a decode leg that waits for its turn keeps its prefix pinned", async (t) => {
  const { time, engine: p } = await startVirtual(t);
  // One sequence at a time, and the one before never ends by itself.
  const d = await start(t, { maxSequences: 1, leaseMs: 300, timeScale: 1 });
  const abort = new AbortController();
  const endless = JSON.stringify({ ...chat("First. "), max_tokens: 100_000, ignore_eos: true });
  const headers = { "content-type": "application/json" };
  const url = `http://${d.address}${CHAT_PATH}`;
  const before = fetch(url, { method: "POST", body: endless, headers, signal: abort.signal });
  before.catch(() => undefined);
  await until(() => d.facts().running === 1);

  const body = chat("Second. ");
  const second = decode(d, body, await prefillVirtual(p, time, body));
  for (let round = 0; round < 3; round += 1) {
    const { pinsRenewed } = p.facts();
    await until(() => p.facts().pinsRenewed > pinsRenewed);
    time.advance(20_000);
  }
  t.match(p.facts(), { pinnedRequests: 1, pinsExpired: 0 }, "after two leases");
  abort.abort();
  t.equal((await second).status, 200);
  t.match(d.facts(), { decodeLegsRemote: 1, decodeLegsLocal: 0 });
});

t.test("nothing goes on once a decode leg has ended", async (t) => {
  const p = await start(t);
  const { time, engine: d } = await startVirtual(t);
  const body = chat("Over. ");
  const answer = decode(d, body, await prefill(p, body));
  await until(() => d.facts().requests === 1);
  await until(() => {
    time.advance(1);
    return d.facts().decodeLegsRemote === 1;
  });
  t.equal((await answer).status, 200);
  t.doesNotThrow(() => time.drain(100), "no timer renews itself");
});

t.test("200 requests in two legs over two and two engines all meet their KV", async (t) => {
  const prefills = [await start(t), await start(t)];
  const decodes = [await start(t), await start(t)];
  const serve = async (index: number): Promise<number> => {
    const body = chat(`Request ${index}. `);
    const [p, d] = [prefills[index % 2], decodes[(index >> 1) % 2]];
    if (p === undefined || d === undefined) return 0;
    return (await decode(d, body, await prefill(p, body, `r${index}`), `r${index}`)).status;
  };
  const statuses = await Promise.all(Array.from({ length: 200 }, (_, index) => serve(index)));
  t.same([...new Set(statuses)], [200]);
  for (const engine of decodes) t.match(engine.facts(), { decodeLegsRemote: 100, decodeLegsLocal: 0 });
  for (const engine of prefills) t.match(engine.facts(), { prefillLegs: 100, decodeLegsLocal: 0, pinnedRequests: 0 });
});
