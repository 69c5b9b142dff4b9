import t from "tap";
import type { Compatibility } from "../../../src/kinds/endpoint.ts";
import { compatible, connectorProfile, connectorsOf } from "../../../src/profiles/connectors.ts";
import { ENGINES } from "../../../src/profiles/engines.ts";
import { readDisaggregation, readTransfer, transferConfig, transferConfigs } from "../../../src/profiles/transfer.ts";

const side = (over: Partial<Compatibility> = {}): Compatibility => ({
  connector: "nixl",
  engine: "vllm",
  tag: "",
  fabric: "nvidia",
  tensorParallel: 4,
  blockSize: 16,
  ...over,
});

t.test("compatible: what refuses a pair, and what does not", (t) => {
  const cases: [name: string, prefill: Partial<Compatibility>, decode: Partial<Compatibility>, reason?: RegExp][] = [
    ["equal sides", {}, {}],
    ["NIXL bridges different TP in both directions", { tensorParallel: 2 }, { tensorParallel: 8 }],
    ["another tag", { tag: "a" }, { tag: "b" }, /tandem.sh\/compat differs: prefill "a", decode "b"/],
    ["a tag on one side only", { tag: "a" }, {}, /compat differs/],
    ["another fabric", {}, { fabric: "ascend-910" }, /fabric differs/],
    ["an unknown fabric", { fabric: "" }, {}],
    ["another connector", {}, { connector: "mooncake" }, /connector differs/],
    ["no connector", { connector: "none" }, { connector: "none" }, /none transfers/],
    ["another engine", {}, { engine: "vllm-ascend" }, /engine differs/],
    ["an unknown engine", {}, { engine: "" }],
    [
      "Mooncake with prefill TP below decode's",
      { connector: "mooncake", engine: "vllm-ascend", tensorParallel: 4 },
      { connector: "mooncake", engine: "vllm-ascend", tensorParallel: 8 },
      /prefill 4, decode 8/,
    ],
    [
      "Mooncake with prefill TP above",
      { connector: "mooncake", tensorParallel: 8 },
      { connector: "mooncake", tensorParallel: 4 },
    ],
  ];
  for (const [name, prefill, decode, reason] of cases) {
    const found = compatible(side(prefill), side(decode));
    if (reason === undefined) t.equal(found, undefined, name);
    else t.match(found, reason, name);
  }
  const unknown: Compatibility = { connector: "mooncake", engine: "vllm", tag: "", fabric: "nvidia" };
  t.equal(compatible(unknown, side({ connector: "mooncake" })), undefined, "an unknown size never refuses");
  t.end();
});

t.test("transfer configurations are vLLM's KVTransferConfig", (t) => {
  const nixl = { connector: "nixl", engine: "vllm", parallelism: { tp: 4, dp: 1 } } as const;
  t.same(JSON.parse(transferConfig("prefill", nixl) ?? ""), { kv_connector: "NixlConnector", kv_role: "kv_producer" });
  t.same(JSON.parse(transferConfig("decode", nixl) ?? ""), { kv_connector: "NixlConnector", kv_role: "kv_consumer" });

  const mooncake = {
    connector: "mooncake",
    engine: "vllm-ascend",
    parallelism: { tp: 8, dp: 2 },
    kvPort: 28000,
  } as const;
  t.equal(transferConfig("prefill", mooncake), undefined, "one role alone cannot know it");
  const both = transferConfigs(mooncake, {
    connector: "mooncake",
    engine: "vllm-ascend",
    parallelism: { tp: 4, dp: 4 },
    connectorModule: "vllm_ascend.distributed.mooncake_connector",
  });
  const extra = { prefill: { dp_size: 2, tp_size: 8 }, decode: { dp_size: 4, tp_size: 4 } };
  t.same(JSON.parse(both.prefill), {
    kv_connector: "MooncakeConnectorV1",
    kv_role: "kv_producer",
    kv_port: "28000",
    kv_connector_extra_config: extra,
  });
  t.same(JSON.parse(both.decode), {
    kv_connector: "MooncakeConnectorV1",
    kv_role: "kv_consumer",
    kv_connector_module_path: "vllm_ascend.distributed.mooncake_connector",
    kv_port: "36000",
    kv_connector_extra_config: extra,
  });
  t.end();
});

t.test("a given configuration is read, nested ones too", (t) => {
  t.same(readTransfer({ kv_connector: "NixlConnector", kv_role: "kv_both", kv_port: "30000", engine_id: "e" }), {
    connector: "nixl",
    className: "NixlConnector",
    role: "both",
    port: 30000,
    engineId: "e",
  });
  const inner = { kv_connector: "MooncakeConnectorV1", kv_role: "kv_producer" };
  t.equal(
    readTransfer({ kv_connector: "MultiConnector", kv_connector_extra_config: { connectors: [{}, inner] } }).connector,
    "mooncake",
  );
  t.match(
    readTransfer({
      kv_connector: "MultiConnector",
      engine_id: "e",
      kv_connector_extra_config: { connectors: [inner] },
    }),
    { role: "prefill", engineId: "e" },
    "the outer identity is the inner one's",
  );
  t.same(readTransfer({ kv_connector: "constructor" }), { className: "constructor" }, "own names only");
  t.end();
});

t.test("connectors by engine: class, port, and what an engine does not have", (t) => {
  const classes = ENGINES.flatMap(({ id }) =>
    connectorsOf(id).map((connector) => {
      const profile = connectorProfile(connector, id);
      return `${id} ${connector}: ${profile?.className ?? ""} ${profile?.port ?? 0}`;
    }),
  );
  t.same(classes, [
    "vllm-ascend mooncake: MooncakeConnectorV1 36000",
    "vllm-ascend mooncake-layerwise: MooncakeLayerwiseConnector 36000",
    "vllm nixl: NixlConnector 5600",
    "vllm nixl-push: NixlPushConnector 5600",
    "vllm mooncake: MooncakeConnector 8998",
    "sglang sglang:  8998",
  ]);
  t.equal(connectorProfile("nixl", "vllm-ascend"), undefined);
  t.end();
});

t.test("kv_load_failure_policy: where blocks are loaded, and never on prefill", (t) => {
  const side = { connector: "nixl", engine: "vllm", parallelism: { tp: 1, dp: 1 } } as const;
  const policy = (role: "prefill" | "decode" | "both"): unknown =>
    (JSON.parse(transferConfig(role, side, { loadFailurePolicy: "recompute" }) ?? "{}") as Record<string, unknown>)[
      "kv_load_failure_policy"
    ];
  t.same([policy("prefill"), policy("decode"), policy("both")], [undefined, "recompute", "recompute"]);
  t.notMatch(transferConfig("decode", side) ?? "", /failure/, "left out where the engine may not know it");
  t.end();
});

t.test("pipelines stand in both roles' sizes, and pipelines of one do not", (t) => {
  const side = (pp: number) =>
    ({ connector: "mooncake", engine: "vllm-ascend", parallelism: { tp: 4, dp: 1, pp } }) as const;
  const { decode } = transferConfigs(side(2), side(1));
  t.match(JSON.parse(decode), { kv_connector_extra_config: { prefill: { pp_size: 2 }, decode: { dp_size: 1 } } });
  t.notMatch(decode, /"decode":\{[^}]*pp_size/);
  t.end();
});

t.test("several connectors: the one that transfers is meant, stores are none", (t) => {
  const multi = (...classes: string[]): unknown =>
    readTransfer({
      kv_connector: "MultiConnector",
      kv_role: "kv_producer",
      kv_connector_extra_config: { connectors: classes.map((name) => ({ kv_connector: name })) },
    }).connector;
  t.equal(multi("OffloadingConnector", "NixlConnector"), "nixl");
  t.equal(multi("AscendStoreConnector", "MooncakeConnectorV1"), "mooncake");
  t.equal(multi("LMCacheConnectorV1"), "none");
  t.equal(multi("SomebodysConnector"), undefined);
  t.end();
});

t.test("SGLang's own flags", (t) => {
  const read = (flags: Record<string, string>) => readDisaggregation((flag) => flags[flag]);
  t.same(read({ "--disaggregation-mode": "decode", "--disaggregation-bootstrap-port": "9000" }), {
    connector: "sglang",
    role: "decode",
    port: 9000,
  });
  t.same(read({ "--disaggregation-mode": "$MODE" }), { connector: "sglang" }, "a mode that nobody knows yet");
  t.equal(read({ "--disaggregation-mode": "null" }), undefined);
  t.equal(read({}), undefined);
  t.end();
});
