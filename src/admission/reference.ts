/**
 * The page `docs/engines.md`: what admission adds for each engine, connector and role, and the variables that a start
 * script reads. `npm run docs` writes it; a test compares.
 *
 * The tables are not a description: sample Pods are admitted, and what they got is listed.
 */
import type { Config } from "../config/schema.ts";
import type { Connector, Role } from "../kinds/endpoint.ts";
import type { Container, EnvVar, Pod } from "../kinds/kube.ts";
import { ANNOTATION, ENGINE_ENV, LABEL } from "../kinds/names.ts";
import { EMPTY_SNAPSHOT } from "../kinds/snapshot.ts";
import type { EngineId } from "../profiles/engines.ts";
import { transferConfigs } from "../profiles/transfer.ts";
import { admitPod } from "./admit.ts";

interface Sample {
  readonly engine: EngineId;
  readonly connector: Connector;
  readonly image: string;
  readonly resource: string;
  readonly command: readonly string[];
}

const ASCEND = {
  engine: "vllm-ascend",
  image: "ascend/vllm-ascend:v0.18.0",
  resource: "huawei.com/Ascend910",
  command: ["vllm", "serve", "MODEL"],
} as const;
const VLLM = {
  engine: "vllm",
  image: "vllm/vllm-openai:v0.20.0",
  resource: "nvidia.com/gpu",
  command: ["vllm", "serve", "MODEL"],
} as const;

/** Every connector that an engine has. */
const SAMPLES: readonly Sample[] = [
  { ...VLLM, connector: "nixl" },
  { ...VLLM, connector: "nixl-push" },
  { ...VLLM, connector: "mooncake" },
  { ...ASCEND, connector: "mooncake" },
  { ...ASCEND, connector: "mooncake-layerwise" },
  {
    engine: "sglang",
    connector: "sglang",
    image: "lmsysorg/sglang:v0.5.3",
    resource: "nvidia.com/gpu",
    command: ["python3", "-m", "sglang.launch_server", "--model-path", "MODEL", "--page-size", "64"],
  },
];

const podOf = ({ image, resource, command, connector }: Sample, role: Role): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "sample",
    namespace: "default",
    labels: { [LABEL.model]: "model", [LABEL.role]: role },
    annotations: { [ANNOTATION.kvConnector]: connector },
  },
  spec: { containers: [{ name: "engine", image, command: [...command], resources: { limits: { [resource]: "1" } } }] },
});

function admitted(sample: Sample, role: Role, admission: Config["admission"]): Container {
  const { object } = admitPod(podOf(sample, role), {
    snapshot: EMPTY_SNAPSHOT,
    settings: { ...admission, target: "pod" },
  });
  return (object as Pod).spec.containers[0] ?? { name: "engine" };
}

const code = (text: string): string => `\`${text.replaceAll("|", "\\|")}\``;

function variable({ name, value, valueFrom }: EnvVar): string {
  if (value !== undefined) return code(`${name}=${value}`);
  const path = (valueFrom?.["fieldRef"] as { fieldPath?: string } | undefined)?.fieldPath;
  return path === undefined ? `${code(name)} from the cell's ConfigMap` : `${code(name)} from ${code(path)}`;
}

/** Sizes and ports are in the table of variables. */
const isShown = ({ name }: EnvVar): boolean =>
  !name.startsWith("TANDEM_") || name === ENGINE_ENV.kvTransferConfig || name === ENGINE_ENV.kvEventsConfig;

const shown = ({ env }: Container): string[] => (env ?? []).filter(isShown).map(variable);

/** The second column says only what differs from the first. */
function differences(prefill: readonly string[], decode: readonly string[]): string {
  const own = decode.filter((one) => !prefill.includes(one));
  const names = decode.map((one) => one.split("=")[0]);
  const without = prefill.filter((one) => !decode.includes(one) && !names.includes(one.split("=")[0]));
  const missing = without.map((one) => `${one.split("=")[0] ?? ""}\``);
  if (own.length + missing.length === 0) return "the same";
  return [...(own.length === 0 ? [] : ["the same, but", ...own]), ...missing.map((one) => `without ${one}`)].join(
    "<br>",
  );
}

function section(sample: Sample, admission: Config["admission"]): string[] {
  const [prefill, decode] = [admitted(sample, "prefill", admission), admitted(sample, "decode", admission)];
  const words = ({ args }: Container): string => code((args ?? []).join(" "));
  return [
    `### \`${sample.engine}\`, connector \`${sample.connector}\``,
    "",
    "| | prefill | decode |",
    "|---|---|---|",
    `| arguments | ${words(prefill)} | ${words(prefill) === words(decode) ? "the same" : words(decode)} |`,
    `| environment | ${shown(prefill).join("<br>")} | ${differences(shown(prefill), shown(decode))} |`,
    ...bothSizes(sample),
    "",
  ];
}

/** What the controller writes for a prefill of tensor parallel size 8 and a decode of 4 with 2 ranks. */
function bothSizes({ engine, connector }: Sample): string[] {
  if (engine !== "vllm-ascend") return [];
  const side = (tp: number, dp: number) => ({ engine, connector, parallelism: { tp, dp } });
  const { prefill, decode } = transferConfigs(side(8, 1), side(4, 2));
  return [`| in the ConfigMap, for tp 8 and tp 4 x dp 2 | ${code(prefill)} | ${code(decode)} |`];
}

/** What each variable holds. */
const VARIABLES: Readonly<Record<keyof typeof ENGINE_ENV, string>> = {
  engineArgs:
    'All missing arguments as one piece of shell: `eval "exec vllm serve MODEL $TANDEM_ENGINE_ARGS"`. Set only for scripts.',
  kvTransferConfig: "`--kv-transfer-config`, whole, as JSON.",
  kvEventsConfig: "`--kv-events-config`, whole, as JSON.",
  disaggregationMode: "SGLang: `--disaggregation-mode`.",
  transferBackend: "SGLang: `--disaggregation-transfer-backend`.",
  kvPort: "First port of the connector; SGLang: `--disaggregation-bootstrap-port`.",
  host: "SGLang: `--host`.",
  portBase: "`--port`; with an API server for each rank, that of the first.",
  tpSize: "`--tensor-parallel-size`, `--tp-size`.",
  ppSize: "`--pipeline-parallel-size`, `--pp-size`.",
  pcpSize: "`--prefill-context-parallel-size`.",
  dpSize: "`--data-parallel-size`, `--dp-size`.",
  dpLocal: "`--data-parallel-size-local`.",
  expertParallel: "`1`: `--enable-expert-parallel`.",
  dpRankStart: "`--data-parallel-start-rank`.",
  dpAddress: "`--data-parallel-address`.",
  dpRpcPort: "`--data-parallel-rpc-port`.",
  nodes: "Pods of the instance; this and the next five only with `tandem.sh/nodes-per-instance` above 1.",
  nodeRank: "This pod's rank among them.",
  instance: "Name of the instance.",
  nodeArgument:
    "vLLM, one argument that differs by node: `--headless` on all but the first, which gets one that it has anyway.",
  addressArgument:
    "vLLM, a flag that ends in `=` and wants `TANDEM_POD_IP` behind it: `--data-parallel-address=` or `--master-addr=` on the first node, `--host=` on the others, which `--host` must follow.",
  podIp: "The pod's address, for `TANDEM_ADDRESS_ARGUMENT`. Set with more than one node.",
  podName: "The pod's name, which the events' topic holds.",
};

const NOTES: readonly string[] = [
  '- Arguments are appended to an argument list that is the engine\'s: `vllm serve`, `sglang serve`, `python3 -m ...`, an image whose entry point is the server, and a script that passes its parameters on to the engine (`"$@"`, with a word before them).',
  "- Nothing that the command already gives is given again, in whatever form: `--flag value`, `--flag=value`, underscores, short names, JSON, dotted JSON keys, inside `sh -c`, variables, arrays.",
  "- Connector `none` is assumed, and told to the router, where a script in full view loads no connector and hands neither `TANDEM_KV_TRANSFER_CONFIG` nor `TANDEM_ENGINE_ARGS` on, where a script or an image cannot be read and `tandem.sh/kv-connector` says nothing, and where the image is too old. Scripts are given all variables all the same, as the one warning says. On Ascend `TANDEM_KV_TRANSFER_CONFIG` is then optional: the pod starts without it until both roles' sizes are known.",
  "- A script is never edited. Every setting is environment, and a warning names what the script must pass. A script from a file declares `tandem.sh/kv-connector`, `tandem.sh/parallelism`, and `tandem.sh/port`, `dp-mode` or `rank-ports` where they are not the engine's defaults.",
  "- `kv_load_failure_policy` is set on decode engines from vLLM 0.12 on (`admission.kvLoadFailurePolicy`); an image whose tag tells no version is not given it.",
  "- KV events (`admission.kvEvents.enabled`, first port `admission.kvEvents.first`) are left out for SGLang with pages below 16 tokens (an event for each token) and its decode engines (no radix cache), on the host's network, and where prefix caching is off.",
  "- Probes: `/health` for startup, readiness and liveness, each only where the container has none of its kind (`admission.probes.startupSeconds`, `admission.probes.livenessSeconds`); none for headless engines, for nodes without an API server, where a script hides the port, and where the engine listens on a socket or wants a client's certificate. In a pod that has Istio's sidecar already the container asks itself with `python3`, because strict mTLS refuses the kubelet.",
  "- A connector that the image is known to be too old for is left out with a warning: NIXL before vLLM 0.9, Mooncake before vLLM 0.13 and vLLM-Ascend 0.11, disaggregation before SGLang 0.4.6. Tags of LMCache, llm-d and Dynamo images count those projects and tell no version; nor does `latest`, which is whatever a node last pulled: such an image counts as new, but is given no key that an older engine would stop at.",
  "- On the host's network the connector's first port is moved by 16 x (serving port - the engine's default port, modulo 1000), so that engines of one node, which differ in their serving ports, do not meet. vLLM-Ascend's first port is 28000 on products known to have 8 devices a node, and 36000 on all others: above what its transport binds by itself, 20000 + 1000 x devices.",
  "- SGLang's default page is one token, with which Tandem never lets it publish KV events: give `--page-size 16` or more.",
  "- `enableServiceLinks: false`, unless a command or variable of the pod reads a variable of a Service; `/dev/shm`, unless one is mounted or `hostIPC` gives the host's; ports of KV events keep clear of those that any container declares.",
  "- Drain: a `preStop` sleep and a termination grace (`admission.drain.seconds`, `admission.drain.graceSeconds`), unless the Pod has its own. The kubelet sleeps by itself from Kubernetes 1.30 on; where a node is known to be older, the container runs `sleep`, and where its image has none, it is ended at once. Offline, and where no node is known, 1.30 is assumed.",
];

/** The whole page, for a configuration; the defaults are what is printed. */
export function enginesReference(admission: Config["admission"]): string {
  return [
    "# Engines",
    "",
    "Written by `npm run docs` from what admission does to sample Pods with the default configuration; a test compares.",
    "",
    ...NOTES,
    "",
    "## What is added",
    "",
    ...SAMPLES.flatMap((sample) => section(sample, admission)),
    "## Variables for start scripts",
    "",
    "| variable | holds |",
    "|---|---|",
    ...(Object.keys(VARIABLES) as (keyof typeof VARIABLES)[]).map(
      (key) => `| ${code(ENGINE_ENV[key])} | ${VARIABLES[key]} |`,
    ),
    "",
  ].join("\n");
}
