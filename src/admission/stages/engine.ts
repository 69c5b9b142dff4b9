/**
 * Stage engine: arguments and environment that an engine instance needs to find itself and its network.
 *
 * Arguments are appended only where they reach the engine; every setting is environment too, under a documented name, so
 * that a start script can read it. Nothing that the user set is set again.
 */
import type { EnvVar } from "../../kinds/kube.ts";
import { ENGINE_ENV, ENGINE_PORTS } from "../../kinds/names.ts";
import { changed, warned } from "../../kinds/verdict.ts";
import { engineProfile } from "../../profiles/engines.ts";
import { hasEnvFrom, hasFlag, readCommand } from "../../workload/arguments.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { append, item, set, type Wish } from "../change.ts";
import { at, containerOf, inContainer, type StageContext, type StageResult } from "../stage.ts";
import { engineWords, passesAll, scriptArguments, shellText } from "./arguments.ts";

const POD_IP = { fieldRef: { apiVersion: "v1", fieldPath: "status.podIP" } };

const literal = (name: string, value: string | number): EnvVar => ({ name, value: String(value) });
const podIp = (name: string): EnvVar => ({ name, valueFrom: POD_IP });

/** Wishes for environment of the engine container; what the user set by name stays. */
export const envWishes = (context: StageContext, env: readonly EnvVar[]): Wish[] =>
  env.map((variable) => item(inContainer(context, "env"), variable));

/** Every injected setting under Tandem's own names, for start scripts. */
function ownNames({ engine: id, parallelism, port, kvPort, sizesHidden, nodesPerInstance }: WorkloadSpec): EnvVar[] {
  const { host } = engineProfile(id);
  const sizes = [
    literal(ENGINE_ENV.tpSize, parallelism.tp),
    literal(ENGINE_ENV.ppSize, parallelism.pp),
    literal(ENGINE_ENV.pcpSize, parallelism.pcp),
    literal(ENGINE_ENV.dpSize, parallelism.dp),
    literal(ENGINE_ENV.dpLocal, parallelism.dpLocal),
    literal(ENGINE_ENV.expertParallel, parallelism.expert ? 1 : 0),
  ];
  // A rank's place in an instance over several pods is not known when the pod is created.
  const alone = [
    literal(ENGINE_ENV.dpRankStart, 0),
    podIp(ENGINE_ENV.dpAddress),
    literal(ENGINE_ENV.dpRpcPort, ENGINE_PORTS.dpRpc),
  ];
  return [
    ...(sizesHidden === true ? [] : sizes),
    ...(nodesPerInstance === 1 ? alone : []),
    literal(ENGINE_ENV.portBase, port),
    ...(host === undefined ? [] : [literal(ENGINE_ENV.host, host)]),
    ...(kvPort === undefined ? [] : [literal(ENGINE_ENV.kvPort, kvPort)]),
  ];
}

/** A wrong name stops the engine: on the host's network it differs, and an `envFrom` may hold the user's own. */
const interfaceOf = (context: StageContext): string =>
  context.template.spec.hostNetwork === true || hasEnvFrom(containerOf(context))
    ? ""
    : context.settings.networkInterface;

const onInterface = (context: StageContext, names: readonly string[]): EnvVar[] => {
  const name = interfaceOf(context);
  return name === "" ? [] : names.map((variable) => literal(variable, name));
};

/** HCCL buffers in MB by role, as vLLM-Ascend documents for expert parallelism; dense models do with HCCL's default. */
const HCCL_BUFFER_MB = { prefill: 256, decode: 600, both: 600 } as const;

/** vLLM-Ascend's settings that only tune: an `envFrom` may hold them, and ours would win over it. */
function ascendTuning(context: StageContext): EnvVar[] {
  if (hasEnvFrom(containerOf(context))) return [];
  const { spec } = context;
  // The memory pool of the sleep mode ends with an assertion on expandable segments.
  const sleeps = hasFlag(readCommand(containerOf(context)).flags, "--enable-sleep-mode");
  return [
    literal("HCCL_OP_EXPANSION_MODE", "AIV"),
    // Seconds. The defaults let a lost peer hang an instance for half an hour while /health answers.
    literal("HCCL_CONNECT_TIMEOUT", 120),
    literal("HCCL_EXEC_TIMEOUT", 204),
    ...(sleeps ? [] : [literal("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True")]),
    literal("OMP_PROC_BIND", "false"),
    literal("OMP_NUM_THREADS", 10),
    literal("TASK_QUEUE_ENABLE", 1),
    ...(spec.parallelism.expert ? [literal("HCCL_BUFFSIZE", HCCL_BUFFER_MB[spec.role])] : []),
  ];
}

const ENGINE_SETTINGS: Readonly<Record<WorkloadSpec["engine"], (context: StageContext) => EnvVar[]>> = {
  vllm: (context) => [podIp("VLLM_HOST_IP"), ...onInterface(context, ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"])],
  "vllm-ascend": (context) => [
    // MooncakeConnectorV1 tells peers this address.
    podIp("VLLM_HOST_IP"),
    podIp("HCCL_IF_IP"),
    ...onInterface(context, ["GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME"]),
    ...ascendTuning(context),
  ],
  sglang: (context) => onInterface(context, ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"]),
};

/** The missing arguments as one piece of shell, for a script that hides its own. */
export function scriptEnv(context: StageContext): EnvVar[] {
  const { opaque, joins } = context.spec;
  const text = opaque && joins !== true ? scriptArguments(context) : "";
  return text === "" ? [] : [literal(ENGINE_ENV.engineArgs, text)];
}

/** As `REDIS_SERVICE_HOST`, `REDIS_PORT_6379_TCP_ADDR`; Kubernetes' own are set in any case. */
const SERVICE_VARIABLE = /(?<!KUBERNETES)_(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP))/;

/** Off, because a Service called `vllm` would set VLLM_PORT, unless the pod reads variables of Services. */
function serviceLinks(context: StageContext): Wish[] {
  const { containers, initContainers } = context.template.spec;
  const read = JSON.stringify(
    [containers, initContainers].map((all) => all?.map(({ command, args, env }) => [command, args, env])),
  );
  // True is what the API server fills in.
  return SERVICE_VARIABLE.test(read) ? [] : [set(at(context, "spec", "enableServiceLinks"), false, true)];
}

export function engine(context: StageContext): StageResult {
  const command = readCommand(containerOf(context));
  const words = context.spec.joins === true ? [] : engineWords(context, command);
  const env = [...ENGINE_SETTINGS[context.spec.engine](context), ...ownNames(context.spec), ...scriptEnv(context)];
  const changes: Wish[] = [
    ...serviceLinks(context),
    ...envWishes(context, env),
    ...(words.length === 0 || context.spec.opaque ? [] : [append(inContainer(context, "args"), words)]),
  ];
  if (context.spec.opaque && words.length > 0 && !passesAll(context))
    return {
      changes,
      verdict: warned("EngineOpaque", `a script hides the arguments; it must pass ${shellText(words)}`),
    };
  return { changes, verdict: changed("EngineInjected", message(context, words)) };
}

const message = ({ spec }: StageContext, words: readonly string[]): string =>
  words.length === 0
    ? "environment"
    : `environment ${spec.opaque ? `with ${ENGINE_ENV.engineArgs}:` : "and"} ${words.join(" ")}`;
