/** Every connector's two legs over HTTP: the router, simulated engines that speak as the real ones, and a proxy's part. */
import t from "tap";
import type { PairConnector } from "../../src/simulator/engine/transfer.ts";
import { startLegs, type LegsRig } from "../support/legs.ts";
import { until } from "./engine.ts";

t.setTimeout(120_000);

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
  });
}
