/** Start scripts of recipes, charts and tutorials, and what is read of each. */
import t from "tap";
import { passesUnevaluated, readCommand } from "../../../src/workload/arguments.ts";
import { ASCEND, reading, SGLANG, sh, TRANSFER, VLLM, type Case } from "../../support/commands.ts";

const SCRIPTS: readonly Case[] = [
  ["exec", { image: VLLM, ...sh("exec vllm serve m -tp 4") }, "vllm script tp=4 model=m"],
  ["a login shell", { image: VLLM, command: ["bash", "-lc", "vllm serve m -tp 4"] }, "vllm script tp=4 model=m"],
  [
    "options of the shell",
    { image: VLLM, command: ["/bin/bash", "-e", "-o", "pipefail", "-c", "vllm serve m"] },
    "vllm script model=m",
  ],
  [
    "a shell behind a wrapper",
    { image: VLLM, command: ["tini", "-g", "--", "bash", "-c", "vllm serve m -tp 2"] },
    "vllm script tp=2 model=m",
  ],
  [
    "lines with backslashes",
    { image: VLLM, ...sh("vllm serve m \\\n  --tensor-parallel-size 8 \\\n  --port 9000") },
    "vllm script tp=8 port=9000 model=m",
  ],
  [
    "JSON in single quotes",
    { image: VLLM, ...sh(`vllm serve m --kv-transfer-config '${TRANSFER}' -tp 2`) },
    "vllm script tp=2 model=m kv=nixl:prefill",
  ],
  [
    "JSON over several lines",
    {
      image: ASCEND,
      ...sh(
        `vllm serve m --kv-transfer-config \\\n'{"kv_connector": "MooncakeConnectorV1",\n "kv_role": "kv_consumer"}' -tp 2`,
      ),
    },
    "vllm-ascend script tp=2 model=m kv=mooncake:decode",
  ],
  [
    "JSON in double quotes",
    {
      image: VLLM,
      ...sh('vllm serve m --kv-transfer-config "{\\"kv_connector\\":\\"NixlConnector\\",\\"kv_role\\":\\"kv_both\\"}"'),
    },
    "vllm script model=m kv=nixl:both",
  ],
  [
    "a chain",
    { image: VLLM, ...sh("cd /models && source venv/bin/activate && vllm serve ./m -tp 2") },
    "vllm script tp=2 model=./m",
  ],
  [
    "exports before",
    {
      image: ASCEND,
      ...sh(
        "export HCCL_IF_IP=$(hostname -i)\nexport TP=8 DP=2\nvllm serve m --tensor-parallel-size $TP --data-parallel-size ${DP}",
      ),
    },
    "vllm-ascend script tp=8 dp=2 model=m",
  ],
  [
    "assignments before the command",
    { image: VLLM, ...sh("VLLM_USE_V1=1 CUDA_VISIBLE_DEVICES=0,1 vllm serve m -tp 2") },
    "vllm script tp=2 model=m",
  ],
  [
    "environment of the container",
    {
      image: VLLM,
      ...sh("vllm serve $MODEL -tp ${TP:-8}"),
      env: [
        { name: "MODEL", value: "m" },
        { name: "TP", value: "2" },
      ],
    },
    "vllm script tp=2 model=m",
  ],
  ["a default of the shell", { image: VLLM, ...sh("vllm serve m -tp ${TP:-8}") }, "vllm script tp=8 model=m"],
  [
    "a default that envFrom may overrule",
    { image: VLLM, ...sh("vllm serve m -tp ${TP:-8}"), envFrom: [{}] },
    "vllm script hidden=true model=m",
  ],
  [
    "a value that only the container knows",
    { image: VLLM, ...sh("vllm serve m -tp $(nvidia-smi -L | wc -l)") },
    "vllm script hidden=true model=m",
  ],
  [
    "arguments in a variable",
    { image: VLLM, ...sh('ARGS="-tp 4 --port 9000"\nvllm serve m $ARGS') },
    "vllm script tp=4 port=9000 model=m",
  ],
  [
    "arguments in an unknown variable",
    { image: VLLM, ...sh("vllm serve m $VLLM_EXTRA_ARGS") },
    "vllm script hidden=true model=m",
  ],
  [
    "an array",
    {
      image: VLLM,
      ...sh(
        'ARGS=(\n  --tensor-parallel-size 4 # of 8\n  --port 9000\n)\nARGS+=(--enable-expert-parallel)\nexec vllm serve m "${ARGS[@]}"',
      ),
    },
    "vllm script tp=4 expert=true port=9000 model=m",
  ],
  [
    "a command in an array",
    { image: VLLM, ...sh('cmd=(vllm serve m -tp 2); exec "${cmd[@]}"') },
    "vllm script tp=2 model=m",
  ],
  [
    "an array from elsewhere",
    { image: VLLM, ...sh('. /lib.sh\nvllm serve m --trust-remote-code "${ARGS[@]}"') },
    "vllm script hidden=true model=m",
  ],
  [
    "output to a file",
    { image: VLLM, ...sh("vllm serve m --port 9000 > /var/log/$HOSTNAME.log 2>&1") },
    "vllm script port=9000 model=m",
  ],
  ["output to tee", { image: VLLM, ...sh("vllm serve m -tp 2 2>&1 | tee /tmp/log") }, "vllm script tp=2 model=m"],
  [
    "output to a process",
    { image: VLLM, ...sh("exec > >(tee -a /tmp/log) 2>&1\nvllm serve m -tp 2") },
    "vllm script tp=2 model=m",
  ],
  [
    "in the background",
    { image: VLLM, ...sh("vllm serve m --port 9000 &> /tmp/log &\nwait") },
    "vllm script port=9000 model=m",
  ],
  [
    "a here-string",
    { image: VLLM, ...sh('jq . <<< "$CONFIG" > /tmp/c.json\nvllm serve m -tp 2') },
    "vllm script tp=2 model=m",
  ],
  [
    "a here-document is no command",
    { image: VLLM, ...sh("cat > /tmp/README <<'EOF'\nvllm serve other -tp 8\nEOF\nvllm serve m -tp 2") },
    "vllm script tp=2 model=m",
  ],
  [
    "a here-document for a shell is",
    { image: VLLM, ...sh("bash <<-EOF\n\tvllm serve m -tp 2\n\tEOF") },
    "vllm script tp=2 model=m",
  ],
  ["eval", { image: VLLM, ...sh('eval "vllm serve m -tp 2 ${EXTRA:-}"') }, "vllm script tp=2 model=m"],
  ["a shell in a shell", { image: VLLM, ...sh(`nohup bash -c 'vllm serve m -tp 2' &`) }, "vllm script tp=2 model=m"],
  [
    "a condition",
    {
      image: VLLM,
      ...sh(
        'if [ "$LWS_WORKER_INDEX" = 0 ]; then vllm serve m -dp 2 -dpl 1; else vllm serve m -dp 2 -dpl 1 --headless; fi',
      ),
    },
    "vllm script dp=2 dpLocal=1 model=m",
  ],
  [
    "words with angle brackets",
    { image: VLLM, ...sh("vllm serve m --chat-template '<|im_start|>' -tp 2") },
    "vllm script tp=2 model=m",
  ],
  [
    "parameters that are given",
    { image: VLLM, command: ["bash", "-c", 'exec vllm serve "$@"', "--"], args: ["m", "-tp", "4"] },
    "vllm open tp=4 model=m",
  ],
  [
    "parameters after flags",
    { image: VLLM, ...sh('source env.sh; vllm serve m --port 9000 "$@"', "run", "-tp", "2") },
    "vllm open tp=2 port=9000 model=m",
  ],
  ["parameters without a name before them", { image: VLLM, ...sh('exec vllm serve m "$@"') }, "vllm script model=m"],
  [
    "parameters of one start of two",
    { image: VLLM, ...sh('vllm serve m "$@" || vllm serve m', "run", "-tp", "2") },
    "vllm script tp=2 model=m",
  ],
  ["a script from a ConfigMap", { image: VLLM, command: ["/scripts/start.sh"] }, "vllm script hidden=true"],
  [
    "a script run by bash",
    { image: ASCEND, command: ["bash", "/scripts/run_dp.sh"], args: ["8"] },
    "vllm-ascend script hidden=true",
  ],
  [
    "SGLang in a script",
    {
      image: SGLANG,
      ...sh(
        "export NCCL_DEBUG=INFO; python3 -m sglang.launch_server --model-path m --tp 8 --dp 8 --enable-dp-attention --disaggregation-mode decode",
      ),
    },
    "sglang script tp=8 dp=8 model=m kv=sglang:decode",
  ],
  ["nothing at all", { image: "busybox" }, "vllm script hidden=true"],
];

t.test("start scripts, as they are written in the field", (t) => {
  for (const [name, container, read] of SCRIPTS) t.equal(reading(container), read, name);
  t.end();
});

t.test("what TANDEM_ENGINE_ARGS holds reaches the engine by eval alone", (test) => {
  const unevaluated = (script: string): boolean => passesUnevaluated(readCommand({ name: "engine", ...sh(script) }));
  for (const script of [
    "exec vllm serve m $TANDEM_ENGINE_ARGS",
    'vllm serve m "${TANDEM_ENGINE_ARGS}"',
    'ARGS="$TANDEM_ENGINE_ARGS"; vllm serve m $ARGS',
  ])
    test.equal(unevaluated(script), true, script);
  for (const script of [
    'eval "exec vllm serve m $TANDEM_ENGINE_ARGS"',
    'ARGS="$TANDEM_ENGINE_ARGS"; eval "vllm serve m $ARGS"',
    'sh -c "vllm serve m $TANDEM_ENGINE_ARGS"',
    'echo "$TANDEM_ENGINE_ARGS"; vllm serve m',
    "vllm serve m",
  ])
    test.equal(unevaluated(script), false, script);
  test.end();
});
