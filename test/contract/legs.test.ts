/** Every connector's two legs over HTTP: the router, simulated engines that speak as the real ones, and a proxy's part. */
import t, { type Test } from "tap";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { PairConnector } from "../../src/simulator/engine/transfer.ts";
import { startSidecar, type RunningSidecar } from "../../src/simulator/engine/sidecar.ts";
import { send, startLegs, type LegsRig } from "../support/legs.ts";
import { until } from "./engine.ts";

t.setTimeout(300_000);

const chat = (content: string, more: object = {}): object => ({
  model: "m",
  messages: [{ role: "user", content: `${content} `.repeat(150) }],
  max_tokens: 4,
  ...more,
});

const CONNECTORS: readonly PairConnector[] = [
  "nixl",
  "nixl-push",
  "mooncake",
  "mooncake-bootstrap",
  "mooncake-layerwise",
  "sglang",
];

const idle = ({ loads, ids }: LegsRig): boolean =>
  ids.every((id) => {
    const { inflight, prefillMs, pinnedTokens } = loads.of(id);
    return inflight === 0 && prefillMs === 0 && pinnedTokens === 0;
  });

for (const connector of CONNECTORS) {
  t.test(`${connector}: prefill on one engine, the answer from the other, and nothing stays`, async (t) => {
    const rig = await startLegs(t, connector);
    for (const [path, body] of [
      ["/v1/chat/completions", chat("Tides rise.")],
      ["/v1/completions", { model: "m", prompt: "Of ships. ".repeat(150), max_tokens: 3 }],
      ["/v1/chat/completions", chat("Once more.")],
    ] as const) {
      const { status, json } = await rig.ask(body, path);
      t.equal(status, 200, JSON.stringify(json));
      const { prompt_tokens: tokens = 0 } = json["usage"] as Record<string, number>;
      t.match(json, { usage: { prompt_tokens_details: { cached_tokens: tokens - 1 } } }, "no prompt is computed here");
    }
    const [prefill] = rig.prefills;
    t.match(rig.decode.facts(), { decodeLegsRemote: 3, decodeLegsLocal: 0 });
    await until(() => prefill?.facts().prefillLegs === 3 && prefill.facts().usedBlocks === 0);
    await until(() => idle(rig));
    t.equal(rig.count("tandem_router_prefill_legs_total", { outcome: "done" }), 3);
    t.equal(rig.count("tandem_router_decode_deserted_total", { connector }), 0);
    const forecasts = [...rig.counts].filter(([key]) => key.startsWith("tandem_router_cache_forecasts_total"));
    const told = forecasts.reduce((sum, [, count]) => sum + count, 0);
    t.equal(told, 3, "each prefill engine's word on what was cached is heard, before decode or behind it");
  });
}

for (const connector of CONNECTORS)
  t.test(`${connector}: a prompt whose answer ends before its first token is handed over all the same`, async (t) => {
    const rig = await startLegs(t, connector, { prefill: { meanOutputTokens: 0.01 } });
    for (let index = 0; index < 3; index += 1) t.match(await rig.ask(chat(`Empty ${index}.`)), { status: 200 });
    t.match(rig.decode.facts(), { decodeLegsRemote: 3, decodeLegsLocal: 0 });
    await until(() => idle(rig));
  });

const CONCURRENT: readonly PairConnector[] = ["mooncake-bootstrap", "sglang"];
const PINS: readonly PairConnector[] = ["nixl", "nixl-push", "mooncake"];

t.test("pull: blocks of a prefill that was not fetched count until the answer begins", async (t) => {
  for (const connector of PINS) {
    const rig = await startLegs(t, connector);
    const { ticket, routed } = rig.begin(chat("Pinned."));
    t.match(await routed, { kind: "forward" });
    t.ok(rig.loads.of(rig.ids[0] ?? "").pinnedTokens > 50, connector);
    ticket.responseStarted();
    t.equal(rig.loads.of(rig.ids[0] ?? "").pinnedTokens, 0);
    ticket.finish();
  }
});

for (const connector of CONNECTORS.filter((each) => each !== "mooncake-layerwise"))
  t.test(`${connector}: a prefill engine that refuses is passed by, before decode is told`, async (t) => {
    const rig = await startLegs(t, connector, { dead: ["127.0.0.1:9"] });
    const { status, json } = await rig.ask(chat("Refused."));
    t.equal(status, 200, JSON.stringify(json));
    t.match(rig.decode.facts(), { decodeLegsRemote: 1, decodeLegsLocal: 0 });
    t.ok(rig.count("tandem_router_prefill_legs_total", { outcome: "untouched" }) >= 1);
    t.ok(rig.loads.of(rig.ids[0] ?? "").shunnedUntil > 0, "and left alone");
    await until(() => idle(rig));
  });

t.test("decode first: what refuses is passed by when decode asks, and a second call changes nothing", async (t) => {
  const rig = await startLegs(t, "mooncake-layerwise", { dead: ["127.0.0.1:9"] });
  t.match(await rig.ask(chat("Refused.")), { status: 200 });
  t.match(rig.decode.facts(), { decodeLegsRemote: 1, decodeLegsLocal: 0 });
  t.equal(rig.count("tandem_router_callbacks_total", { status: "200" }), 1);
  await until(() => idle(rig));
});

for (const connector of CONNECTORS)
  t.test(`${connector}: no prefill engine is there`, async (t) => {
    const rig = await startLegs(t, connector, { prefills: 0, dead: ["127.0.0.1:9"] });
    const { ticket, routed } = rig.begin(chat("Nobody."));
    const outcome = await routed;
    if (connector === "sglang") t.match(outcome, { kind: "answer", status: 503 }, "decode would wait in vain");
    else if (outcome.kind === "answer") t.fail(`refused: ${outcome.status}`);
    else if (connector !== "mooncake-layerwise") {
      t.match(await send(outcome, "/v1/chat/completions"), { status: 200 });
      t.match(rig.decode.facts(), { decodeLegsLocal: 1, decodeLegsRemote: 0 });
      t.equal(rig.count("tandem_router_local_prefills_total", { reason: "refused" }), 1);
    } else {
      t.match(await send(outcome, "/v1/chat/completions"), { status: 500 }, "it waits, and then fails");
      t.match(await outcome.deserted, { status: 503, reason: "PrefillLost" }, "where nobody is told");
      t.equal(rig.count("tandem_router_callbacks_total", { status: "503" }), 1);
      t.equal(rig.count("tandem_router_decode_deserted_total", { connector }), 1);
    }
    ticket.finish();
    await until(() => idle(rig));
  });

const BEHIND: readonly PairConnector[] = [...CONCURRENT, "nixl-push", "mooncake-layerwise"];
/** As metrics name it. */
const named = (connector: PairConnector): string => (connector === "mooncake-bootstrap" ? "mooncake" : connector);

for (const connector of BEHIND)
  t.test(`${connector}: a prefill engine that dies behind its decode ends the request`, async (t) => {
    const rig = await startLegs(t, connector, { prefill: { timeScale: 1 }, decode: { waitMs: 60_000 } });
    // The first one of NIXL push goes one leg after the other.
    if (connector === "nixl-push") t.match(await rig.ask(chat("First.")), { status: 200 });
    const before = rig.prefills[0]?.facts().requests ?? 0;
    const { ticket, routed } = rig.begin(chat("Dies. ".repeat(400)));
    const outcome = await routed;
    if (outcome.kind === "answer") throw new Error(`refused: ${outcome.status}`);
    const cut = new AbortController();
    const answer = send(outcome, "/v1/chat/completions", cut.signal).catch(() => ({ status: 0 }));
    await until(() => rig.prefills[0]?.facts().requests === before + 1 && rig.decode.facts().requests === before + 1);
    await rig.prefills[0]?.stop();
    const instead = await outcome.deserted;
    t.match(instead, { status: 503, reason: "PrefillLost" });
    t.match(JSON.parse(instead?.body.toString() ?? ""), { error: { type: "server_error", message: /prefill engine/ } });
    t.equal(rig.count("tandem_router_decode_deserted_total", { connector: named(connector) }), 1);
    t.equal(rig.count("tandem_router_prefill_legs_total", { outcome: "lost" }), 1);
    t.ok(rig.loads.of(rig.ids[0] ?? "").shunnedUntil > 0, "left alone");
    // What a proxy does with it.
    cut.abort();
    ticket.finish();
    t.match(await answer, { status: 0 });
    await until(() => rig.decode.facts().aborted === 1 && rig.decode.facts().usedBlocks === 0);
    await until(() => idle(rig));
  });

/** A prefill engine that has one answer for all. */
async function startPrefill(t: Test, status: number, more: object = {}): Promise<string> {
  const body = JSON.stringify(more);
  const server = createServer((request, response) => {
    request.resume().on("end", () => setTimeout(() => response.writeHead(status).end(body), 50));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close().closeAllConnections());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test("a prefill engine's own refusal behind decode is the client's answer, and shuns nobody", async (t) => {
  const dead = [await startPrefill(t, 400, { error: { message: "too long" } })];
  for (const connector of ["sglang", "mooncake-layerwise"] as const) {
    const rig = await startLegs(t, connector, { prefills: 0, dead, decode: { waitMs: 60_000 } });
    const { ticket, routed } = rig.begin(chat("Refused."));
    const outcome = await routed;
    if (outcome.kind === "answer") throw new Error(`refused: ${outcome.status}`);
    const cut = new AbortController();
    send(outcome, "/v1/chat/completions", cut.signal).catch(() => undefined);
    const instead = await outcome.deserted;
    t.match(instead, { status: 400, reason: "PrefillFailed" }, connector);
    t.match(instead?.body.toString(), /too long/);
    t.equal(rig.count("tandem_router_decode_deserted_total", { connector }), 0);
    t.equal(rig.loads.of(rig.ids[0] ?? "").shunnedUntil, 0);
    cut.abort();
    ticket.finish();
    await until(() => idle(rig));
  }
});

t.test("Anthropic's clients are told in their own shape", async (t) => {
  const rig = await startLegs(t, "mooncake-layerwise", { prefills: 0, dead: [await startPrefill(t, 500)] });
  const { ticket, routed } = rig.begin(chat("Lost."), "/v1/messages");
  const outcome = await routed;
  if (outcome.kind === "answer") throw new Error(`refused: ${outcome.status}`);
  const url = /http[^"]*metaserver[^"]*/.exec(outcome.body.toString())?.[0] ?? "";
  const id = new Map(outcome.requestHeaders).get("x-request-id") ?? "";
  t.match(await fetch(url, { method: "POST", body: JSON.stringify({ request_id: `chatcmpl-${id}` }) }), {
    status: 200,
  });
  const instead = await outcome.deserted;
  t.match(JSON.parse(instead?.body.toString() ?? ""), { type: "error", error: { type: "overloaded_error" } });
  ticket.finish();
  await until(() => idle(rig));
});

t.test("decode first: a busy prefill engine is passed by behind decode, as decode named itself alone", async (t) => {
  const rig = await startLegs(t, "mooncake-layerwise", { dead: [await startPrefill(t, 503)] });
  t.match(await rig.ask(chat("Busy.")), { status: 200 });
  t.match(rig.decode.facts(), { decodeLegsRemote: 1, decodeLegsLocal: 0 });
  t.equal(rig.count("tandem_router_prefill_legs_total", { outcome: "untouched" }), 1);
  t.equal(rig.count("tandem_router_decode_deserted_total", { connector: "mooncake-layerwise" }), 0);
  await until(() => idle(rig));
});

for (const connector of CONCURRENT)
  t.test(`${connector}: a decode engine that dies leaves nothing with the router`, async (t) => {
    const rig = await startLegs(t, connector, { decode: { timeScale: 0.01 }, prefill: { leaseMs: 300 } });
    const { ticket, routed } = rig.begin(chat("Dies too."));
    const outcome = await routed;
    if (outcome.kind === "answer") throw new Error(`refused: ${outcome.status}`);
    const answer = send(outcome, "/v1/chat/completions").catch(() => ({ status: 0 }));
    await until(() => rig.decode.facts().requests === 1);
    await rig.decode.stop();
    t.match(await answer, { status: 0 });
    ticket.finish();
    await until(() => idle(rig));
    await until(() => rig.prefills[0]?.facts().usedBlocks === 0);
  });

t.test("both legs are cancelled when the client goes, and only then", async (t) => {
  // The first request to an engine of NIXL push runs one leg after the other too.
  const sequential: readonly PairConnector[] = PINS;
  for (const connector of CONNECTORS) {
    const rig = await startLegs(t, connector, { prefill: { timeScale: 0.01 }, decode: { timeScale: 0.01 } });
    const { ticket, routed } = rig.begin(chat("Leaves."));
    const cut = new AbortController();
    if (!sequential.includes(connector)) {
      const outcome = await routed;
      if (outcome.kind === "answer") throw new Error(`refused: ${outcome.status}`);
      send(outcome, "/v1/chat/completions", cut.signal).catch(() => undefined);
    }
    await until(() => rig.prefills[0]?.facts().requests === 1);
    t.equal(rig.loads.of(rig.ids[0] ?? "").inflight, 1, "counted once");
    cut.abort();
    ticket.finish();
    await until(() => rig.prefills[0]?.facts().aborted === 1);
    if (!sequential.includes(connector)) await until(() => rig.decode.facts().aborted === 1);
    else t.match(await routed, { kind: "answer", status: 503 }, "nobody reads it");
    const deserted = [...rig.counts.keys()].filter((key) => key.startsWith("tandem_router_decode_deserted_total"));
    t.same(deserted, [], connector);
    await until(() => idle(rig));
  }
});

t.test("a prefill that still runs when decode has all of its answer is let be", async (t) => {
  const rig = await startLegs(t, "sglang", { prefill: { timeScale: 0.5 } });
  const { ticket, routed } = rig.begin(chat("Slow."));
  await routed;
  await until(() => rig.prefills[0]?.facts().requests === 1);
  ticket.responseStarted();
  ticket.finish(true);
  await until(() => rig.prefills[0]?.facts().prefillLegs === 1);
  t.equal(rig.prefills[0]?.facts().aborted, 0);
});

t.test("NIXL push: the first request to an engine hears its coordinates, a restarted one is heard anew", async (t) => {
  const rig = await startLegs(t, "nixl-push");
  for (let index = 0; index < 3; index += 1) t.match(await rig.ask(chat(`Round ${index}.`)), { status: 200 });
  t.match(rig.decode.facts(), { decodeLegsRemote: 3, transferFailures: { unknown: 0, unreachable: 0 } });
});

t.test(
  "upstream Mooncake: each rank behind one server has its own engine id, and both legs name the same",
  async (t) => {
    const rig = await startLegs(t, "mooncake-bootstrap", { prefill: { ranks: 4 }, entry: { ranks: 4 } });
    const asked = Array.from({ length: 12 }, (_, index) => rig.ask(chat(`Rank ${index}.`)));
    for (const { status, json } of await Promise.all(asked)) t.equal(status, 200, JSON.stringify(json));
    t.match(rig.decode.facts(), { decodeLegsRemote: 12, decodeLegsLocal: 0 });
  },
);

t.test(
  "SGLang: a batch meets in as many rooms as it has prompts; several answers of one, or its scores, are refused",
  async (t) => {
    const rig = await startLegs(t, "sglang");
    const prompts = ["One fish. ", "Two fish. ", "Red fish. "].map((words) => words.repeat(100));
    t.match(await rig.ask({ model: "m", prompt: prompts, max_tokens: 2 }, "/v1/completions"), { status: 200 });
    t.match(rig.decode.facts(), { decodeLegsRemote: 3, decodeLegsLocal: 0 });
    const scored = { model: "m", prompt: "Scored. ".repeat(100), echo: true, logprobs: 1 };
    for (const [body, path] of [
      [chat("Twice.", { n: 2 }), "/v1/chat/completions"],
      [scored, "/v1/completions"],
      [{ text: "Scored. ".repeat(100), return_logprob: true, logprob_start_len: 0 }, "/generate"],
    ] as const)
      t.match(await rig.begin(body, path).routed, { kind: "answer", status: 503, reason: "NoPartner" });
  },
);

t.test("requests that cannot be split are prefilled where they are decoded, and counted", async (t) => {
  const rig = await startLegs(t, "nixl");
  t.match(await rig.ask(chat("Twice.", { n: 2 })), { status: 200 });
  t.match(rig.prefills[0]?.facts(), { requests: 0 });
  t.equal(rig.count("tandem_router_local_prefills_total", { reason: "unsplit" }), 1);
});

t.test("llm-d's sidecar is told the prefill endpoint by header, and the client's own goes", async (t) => {
  let sidecar: RunningSidecar | undefined;
  const before = async (decode: { address: string }): Promise<string> => {
    sidecar = await startSidecar(decode.address);
    return sidecar.address;
  };
  const rig = await startLegs(t, "nixl", { before, entry: { prefillRunner: "sidecar" } });
  t.teardown(() => sidecar?.stop());
  const { status, forward } = await rig.ask(chat("Beside."));
  t.equal(status, 200);
  t.equal(new Map(forward.requestHeaders).get("x-prefiller-host-port"), rig.prefills[0]?.address);
  t.notMatch(forward.body.toString(), /kv_transfer_params/);
  t.match(rig.decode.facts(), { decodeLegsRemote: 1, decodeLegsLocal: 0 });
  t.equal(sidecar?.named(), 1);
  await until(() => idle(rig));
});

t.test("nobody starts a prefill without the secret of its request", async (t) => {
  const rig = await startLegs(t, "mooncake-layerwise", { decode: { waitMs: 300 } });
  const post = async (token: string, body: string): Promise<number> =>
    (
      await fetch(`${rig.metaserver}/${token}`, {
        method: "POST",
        body,
        headers: { "content-type": "application/json" },
      })
    ).status;
  const { ticket, routed } = rig.begin(chat("Secret."));
  const outcome = await routed;
  if (outcome.kind === "answer") throw new Error(`refused: ${outcome.status}`);
  const token = /metaserver\/([\w-]+)"/.exec(outcome.body.toString())?.[1] ?? "";
  const id = new Map(outcome.requestHeaders).get("x-request-id") ?? "";
  const message = JSON.stringify({ request_id: `chatcmpl-${id}`, remote_host: "127.0.0.1", remote_port: 9 });
  t.ok(token.length > 20);
  t.equal(await post("guess", message), 404);
  t.equal(await post(token, "{"), 400);
  t.equal(await post(token, JSON.stringify({ request_id: "chatcmpl-other" })), 404);
  t.equal(rig.prefills[0]?.facts().requests, 0);
  t.equal(await post(token, message), 200);
  t.equal(await post(token, message), 200, "again, as an engine that heard no answer does");
  await until(() => rig.prefills[0]?.facts().requests === 1);
  ticket.finish();
  t.equal(await post(token, message), 404, "the request is over");
});
