/** Argument lists and entry points of recipes, charts and tutorials, and what is read of each. */
import t from "tap";
import { ASCEND, reading, SGLANG, TRANSFER, VLLM, type Case } from "../../support/commands.ts";

const LISTS: readonly Case[] = [
  [
    "entry point, long flags",
    { image: VLLM, args: ["--model", "Qwen/Q", "--tensor-parallel-size", "4"] },
    "vllm open tp=4 model=Qwen/Q",
  ],
  [
    "entry point, positional model",
    { image: VLLM, args: ["Qwen/Q", "-tp", "2", "--port", "8080"] },
    "vllm open tp=2 port=8080 model=Qwen/Q",
  ],
  [
    "entry point, equals signs",
    { image: VLLM, args: ["--model=Qwen/Q", "--tensor-parallel-size=8", "--port=9000"] },
    "vllm open tp=8 port=9000 model=Qwen/Q",
  ],
  [
    "underscores",
    { image: VLLM, args: ["--model", "m", "--tensor_parallel_size", "8", "--served_model_name", "q"] },
    "vllm open tp=8 model=q",
  ],
  [
    "short flags glued by equals",
    { image: VLLM, args: ["m", "-tp=2", "-dp=4", "-pp=2"] },
    "vllm open tp=2 pp=2 dp=4 model=m",
  ],
  [
    "entry point that only passes a program on",
    { image: VLLM, args: ["python3", "-m", "dynamo.vllm", "--model", "m"] },
    "vllm script hidden=true",
  ],
  [
    "entry point with a script of its own",
    { image: VLLM, args: ["/workspace/start.sh", "m"] },
    "vllm script hidden=true",
  ],
  [
    "a model's path is no program",
    { image: VLLM, args: ["/models/python3/bash-7b"] },
    "vllm open model=/models/python3/bash-7b",
  ],
  [
    "command and args",
    { image: "mine:1", command: ["vllm", "serve", "m"], args: ["-tp", "2"] },
    "vllm open tp=2 model=m",
  ],
  [
    "program by its path",
    { image: "mine:1", command: ["/opt/venv/bin/vllm", "serve"], args: ["m"] },
    "vllm open model=m",
  ],
  [
    "module of the API server",
    { image: "mine:1", command: ["python3", "-m", "vllm.entrypoints.openai.api_server"], args: ["--model", "m"] },
    "vllm open model=m",
  ],
  [
    "unbuffered python",
    { image: "mine:1", command: ["python3", "-u", "-m", "vllm.entrypoints.openai.api_server", "--model=m"] },
    "vllm open model=m",
  ],
  [
    "the server's file",
    { image: "mine:1", command: ["python", "/app/vllm/entrypoints/openai/api_server.py", "--model", "m", "-tp", "2"] },
    "vllm open tp=2 model=m",
  ],
  [
    "behind a wrapper",
    { image: "mine:1", command: ["tini", "--", "vllm", "serve", "m", "-tp", "4"] },
    "vllm open tp=4 model=m",
  ],
  [
    "behind numactl",
    { image: "mine:1", command: ["numactl", "--cpunodebind=0", "vllm", "serve", "m"] },
    "vllm open model=m",
  ],
  [
    "behind env",
    { image: "mine:1", command: ["env", "VLLM_USE_V1=1", "vllm", "serve", "m", "-pp", "2"] },
    "vllm open pp=2 model=m",
  ],
  ["behind uv", { image: "mine:1", command: ["uv", "run", "vllm", "serve", "m"] }, "vllm open model=m"],
  [
    "variables of Kubernetes",
    {
      image: VLLM,
      args: ["--model=$(MODEL)", "-tp", "$(TP)"],
      env: [
        { name: "MODEL", value: "m" },
        { name: "TP", value: "4" },
      ],
    },
    "vllm open tp=4 model=m",
  ],
  [
    "a variable from elsewhere",
    { image: VLLM, args: ["m", "-tp", "$(TP)"], env: [{ name: "TP", valueFrom: {} }] },
    "vllm open hidden=true model=m",
  ],
  ["a configuration file", { image: VLLM, args: ["--config", "/etc/vllm.yaml"] }, "vllm open hidden=true"],
  [
    "JSON as one word",
    { image: VLLM, args: ["m", "--kv-transfer-config", TRANSFER] },
    "vllm open model=m kv=nixl:prefill",
  ],
  [
    "JSON behind an equals sign",
    { image: VLLM, args: ["m", `--kv-transfer-config=${TRANSFER}`] },
    "vllm open model=m kv=nixl:prefill",
  ],
  [
    "dotted JSON",
    {
      image: VLLM,
      args: ["m", "--kv-transfer-config.kv_connector", "NixlConnector", "--kv-transfer-config.kv_role=kv_consumer"],
    },
    "vllm open model=m kv=nixl:decode",
  ],
  [
    "several connectors",
    {
      image: VLLM,
      args: [
        "m",
        "--kv-transfer-config",
        '{"kv_connector":"MultiConnector","kv_role":"kv_both","kv_connector_extra_config":{"connectors":[{"kv_connector":"OffloadingConnector"},{"kv_connector":"NixlConnector"}]}}',
      ],
    },
    "vllm open model=m kv=nixl:both",
  ],
  [
    "a store beside the engine",
    { image: VLLM, args: ["m", "--kv-transfer-config", '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}'] },
    "vllm open model=m kv=none:both",
  ],
  [
    "KV events",
    {
      image: VLLM,
      args: ["m", "--kv-events-config", '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5600"}'],
    },
    "vllm open model=m events=5600",
  ],
  [
    "KV events pushed elsewhere",
    { image: VLLM, args: ["m", "--kv-events-config", '{"enable_kv_cache_events":true,"endpoint":"tcp://epp:5557"}'] },
    "vllm open model=m",
  ],
  [
    "data parallelism by rank",
    { image: VLLM, args: ["m", "-dp", "8", "--data-parallel-rank", "3", "--enable-expert-parallel"] },
    "vllm open dp=8 dpLocal=1 expert=true mode=external model=m",
  ],
  [
    "hybrid load balancing",
    { image: VLLM, args: ["m", "-dp", "8", "-dpl", "4", "--data-parallel-hybrid-lb"] },
    "vllm open dp=8 dpLocal=4 mode=hybrid model=m",
  ],
  [
    "Ascend by its image",
    { image: ASCEND, command: ["vllm", "serve", "m"], args: ["--data-parallel-size", "2"] },
    "vllm-ascend open dp=2 model=m",
  ],
  [
    "SGLang's module",
    {
      image: SGLANG,
      command: ["python3", "-m", "sglang.launch_server"],
      args: ["--model-path", "m", "--tp", "8", "--port", "30001"],
    },
    "sglang open tp=8 port=30001 model=m",
  ],
  [
    "SGLang's program",
    { image: SGLANG, command: ["sglang", "serve", "--model-path", "m", "--tp-size=2"] },
    "sglang open tp=2 model=m",
  ],
  [
    "SGLang's prefill half",
    {
      image: SGLANG,
      args: [
        "python3",
        "-m",
        "sglang.launch_server",
        "--model-path",
        "m",
        "--disaggregation-mode",
        "prefill",
        "--disaggregation-transfer-backend",
        "nixl",
      ],
    },
    "sglang open model=m kv=sglang:prefill",
  ],
  [
    "SGLang that is no half",
    {
      image: SGLANG,
      args: ["python3", "-m", "sglang.launch_server", "--model-path", "m", "--disaggregation-mode", "null"],
    },
    "sglang open model=m",
  ],
  [
    "SGLang's KV events",
    {
      image: SGLANG,
      args: [
        "python3",
        "-m",
        "sglang.launch_server",
        "--model",
        "m",
        "--kv-events-config",
        '{"publisher":"zmq","topic":"kv"}',
      ],
    },
    "sglang open model=m events=5557",
  ],
];

t.test("argument lists and entry points, as they are written in the field", (t) => {
  for (const [name, container, read] of LISTS) t.equal(reading(container), read, name);
  t.end();
});
