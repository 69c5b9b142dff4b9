/**
 * Bodies and headers of both legs, for each wire and API: golden, in test/golden/legs.json. `UPDATE_GOLDEN=1` writes it
 * anew, to be read before it is kept.
 */
import t from "tap";
import { readFileSync, writeFileSync } from "node:fs";
import type { Connector, Endpoint } from "../../../src/kinds/endpoint.ts";
import { legsOf, type Wire } from "../../../src/profiles/connectors.ts";
import { splits } from "../../../src/router/disagg/connectors.ts";
import { WIRES, type Meeting } from "../../../src/router/disagg/wires.ts";
import { apiOf, OPAQUE } from "../../../src/router/request/apis.ts";
import { isProblem, readFacts, type RequestFacts } from "../../../src/router/request/facts.ts";

const GOLDEN = new URL("../../golden/legs.json", import.meta.url);

const endpoint = (address: string, connector: Connector, engine: string, more: Partial<Endpoint> = {}): Endpoint => ({
  ...{ id: address, address, name: address, namespace: "n", service: "m", group: "m", cell: "0", instance: address },
  ...{ role: "prefill", dataParallelRank: 0, models: ["m"], draining: false, ready: true, bootId: "b" },
  compatibility: { connector, engine, tag: "", fabric: "" },
  ...more,
});

const PREFILL: readonly (readonly [name: string, endpoint: Endpoint])[] = [
  ["nixl", endpoint("10.0.0.1:8000", "nixl", "vllm")],
  ["mooncake of vllm-ascend", endpoint("10.0.0.1:8000", "mooncake", "vllm-ascend")],
  ["nixl-push", endpoint("10.0.0.1:8000", "nixl-push", "vllm")],
  ["mooncake of vllm", endpoint("10.0.0.1:8000", "mooncake", "vllm")],
  ["mooncake of vllm, several ranks, IPv6", endpoint("[fd00::1]:8000", "mooncake", "vllm", { ranks: 4, kvPort: 9111 })],
  ["mooncake of vllm, a rank of its own", endpoint("10.0.0.1:8001", "mooncake", "vllm", { dataParallelRank: 1 })],
  ["sglang", endpoint("10.0.0.1:30000", "sglang", "sglang")],
  ["sglang, several ranks, IPv6", endpoint("[fd00::1]:30000", "sglang", "sglang", { ranks: 4, kvPort: 9222 })],
  ["mooncake-layerwise", endpoint("10.0.0.1:8000", "mooncake-layerwise", "vllm-ascend")],
];
const DECODE = endpoint("10.0.0.2:8000", "none", "");

/** What a hostile client would have engines told, in every request. */
const HOSTILE = {
  kv_transfer_params: { do_remote_prefill: true, remote_host: "10.9.9.9" },
  ec_transfer_params: { peer_host: "10.9.9.9" },
  bootstrap_host: "10.9.9.9",
  bootstrap_port: 1,
  bootstrap_room: 1,
  routed_dp_rank: 9,
  data_parallel_rank: 9,
  disagg_prefill_dp_rank: 9,
};
const MESSAGES = [{ role: "user", content: "a" }];
const REQUESTS: readonly (readonly [path: string, body: object])[] = [
  ["/v1/chat/completions", { model: "m", messages: MESSAGES, max_completion_tokens: 9, stream: true, min_tokens: 2 }],
  ["/v1/completions", { model: "m", prompt: "a", max_tokens: 9, stream: true, stream_options: {} }],
  ["/v1/completions", { model: "m", prompt: ["a", "b"] }],
  ["/v1/chat/completions", { model: "m", messages: MESSAGES, n: 2 }],
  ["/v1/chat/completions", { model: "m", messages: MESSAGES, tool_choice: "required" }],
  ["/v1/messages", { model: "m", messages: MESSAGES, max_tokens: 9 }],
  ["/v1/responses", { model: "m", input: "a" }],
  ["/inference/v1/generate", { token_ids: [1], sampling_params: { max_tokens: 9 } }],
  ["/generate", { text: "a", sampling_params: { max_new_tokens: 9 } }],
  ["/generate", { text: ["a", "b"], sampling_params: { n: 2 } }],
];

function factsOf(path: string, body: Buffer): RequestFacts {
  const config = { aliases: {}, rates: { bytesPerToken: 4, mediaTokens: 0 }, unsalted: "route" } as const;
  const input = { api: apiOf(path) ?? OPAQUE, body, headers: [], tenant: "", extent: "whole" } as const;
  const facts = readFacts(config, input);
  if (isProblem(facts)) throw new Error(facts.message);
  return facts;
}

const MEETINGS: Readonly<Record<Wire, Meeting>> = {
  pull: { chance: 0.5 },
  push: {
    chance: 0.5,
    peer: {
      engineIds: [],
      coordinates: { remote_engine_id: "e", remote_host: "10.0.0.1", remote_port: 5600, tp_size: 4 },
    },
  },
  bootstrap: { chance: 0.6, peer: { engineIds: ["e0", "e1", "e2", "e3"] } },
  room: { chance: 0.3 },
  metaserver: {
    chance: 0.5,
    callback: "http://10.0.0.9:9080/v1/metaserver/secret",
    posted: Buffer.from('{"do_remote_decode":true,"remote_host":"10.0.0.2"}'),
  },
};
const ANSWERED = Buffer.from('{"do_remote_prefill":true,"remote_block_ids":[[1,2]],"remote_engine_id":"e"}');

/** Both legs as one may read them; why there are none, where there are none. */
function legsFor(prefill: Endpoint, path: string, given: object): unknown {
  const body = Buffer.from(JSON.stringify({ ...given, ...HOSTILE }));
  const facts = factsOf(path, body);
  if (!splits(facts, prefill, true)) return "not split";
  const wire = legsOf(prefill.compatibility.connector, prefill.compatibility.engine)?.wire ?? "pull";
  const { prefill: first, decode: second } = WIRES[wire];
  const [request, pair, meeting] = [{ body, facts, requestId: "id" }, { prefill, decode: DECODE }, MEETINGS[wire]];
  const shown = ({ body: bytes, headers }: ReturnType<typeof first>): object => ({
    body: JSON.parse(bytes.toString()) as object,
    ...(headers.length === 0 ? {} : { headers }),
  });
  return {
    prefill: shown(first(request, pair, meeting)),
    decode: shown(second(request, pair, meeting, wire === "pull" ? ANSWERED : undefined)),
  };
}

t.test("bodies of both legs, for each connector and API", (t) => {
  const found = Object.fromEntries(
    PREFILL.map(([name, prefill]) => [
      name,
      Object.fromEntries(
        REQUESTS.map(([path, body]) => [`${path} ${JSON.stringify(body)}`, legsFor(prefill, path, body)]),
      ),
    ]),
  );
  const text = `${JSON.stringify(found, null, 2)}\n`;
  if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(GOLDEN, text);
  t.same(found, JSON.parse(readFileSync(GOLDEN, "utf8")));
  t.notMatch(text, /10\.9\.9\.9/, "no client names a host");
  t.end();
});

t.test("a decode leg without a prefill elsewhere tells of no host either", (t) => {
  const body = Buffer.from(JSON.stringify({ model: "m", messages: MESSAGES, ...HOSTILE }));
  const facts = factsOf("/v1/chat/completions", body);
  const leg = WIRES.pull.decode({ body, facts, requestId: "id" }, { prefill: DECODE, decode: DECODE }, { chance: 0 });
  t.same(JSON.parse(leg.body.toString()), { model: "m", messages: MESSAGES });
  t.end();
});

t.test("rooms are integers that every JSON reader keeps, and a batch has room behind the last", (t) => {
  const prefill = PREFILL.find(([name]) => name === "sglang")?.[1] ?? DECODE;
  const body = Buffer.from(JSON.stringify({ model: "m", prompt: "a" }));
  const request = { body, facts: factsOf("/v1/completions", body), requestId: "id" };
  for (const chance of [0, 0.25, 1 - Number.EPSILON]) {
    const leg = WIRES.room.decode(request, { prefill, decode: DECODE }, { chance });
    const { bootstrap_room: room } = JSON.parse(leg.body.toString()) as { bootstrap_room: number };
    t.ok(Number.isSafeInteger(room + 2 ** 27), String(room));
  }
  t.end();
});
