/**
 * Stage engine: arguments and environment that an engine instance needs to find itself and its network.
 *
 * Arguments are appended only where they reach the engine; every setting is environment too, under a documented name, so
 * that a start script can read it. Nothing that the user set is set again.
 */
import type { EnvVar } from "../../kinds/kube.ts";
import { ENGINE_ENV } from "../../kinds/names.ts";
import { changed, warned } from "../../kinds/verdict.ts";
import { engineProfile, type ArgumentNames } from "../../profiles/engines.ts";
import { flagValues, hasEnvFrom, isSet, readCommand, type EngineCommand } from "../../workload/arguments.ts";
import type { Parallelism, WorkloadSpec } from "../../workload/spec.ts";
import { append, item, set, type Wish } from "../change.ts";
import { at, containerOf, inContainer, type StageContext, type StageResult } from "../stage.ts";

const POD_IP = { fieldRef: { apiVersion: "v1", fieldPath: "status.podIP" } };
/** vLLM's default port for the data-parallel handshake. */
const DP_RPC_PORT = 13389;

const literal = (name: string, value: string | number): EnvVar => ({ name, value: String(value) });
const podIp = (name: string): EnvVar => ({ name, valueFrom: POD_IP });

/** Wishes for environment of the engine container; what the user set by name stays. */
export const envWishes = (context: StageContext, env: readonly EnvVar[]): Wish[] =>
  env.map((variable) => item(inContainer(context, "env"), variable));

/** Every injected setting under Tandem's own names, for start scripts. */
function ownNames({ parallelism, port, kvPort, sizesHidden, nodesPerInstance }: WorkloadSpec): EnvVar[] {
  const sizes = [
    literal(ENGINE_ENV.tpSize, parallelism.tp),
    literal(ENGINE_ENV.dpSize, parallelism.dp),
    literal(ENGINE_ENV.dpLocal, parallelism.dpLocal),
  ];
  // A rank's place in an instance over several pods is not known when the pod is created.
  const alone = [
    literal(ENGINE_ENV.dpRankStart, 0),
    podIp(ENGINE_ENV.dpAddress),
    literal(ENGINE_ENV.dpRpcPort, DP_RPC_PORT),
  ];
  return [
    ...(sizesHidden === true ? [] : sizes),
    ...(nodesPerInstance === 1 ? alone : []),
    literal(ENGINE_ENV.portBase, port),
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
  return [
    literal("HCCL_OP_EXPANSION_MODE", "AIV"),
    // Seconds. The defaults let a lost peer hang an instance for half an hour while /health answers.
    literal("HCCL_CONNECT_TIMEOUT", 120),
    literal("HCCL_EXEC_TIMEOUT", 204),
    literal("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"),
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

const SIZES: readonly (readonly [size: Exclude<keyof Parallelism, "expert">, name: keyof ArgumentNames])[] = [
  ["tp", "tp"],
  ["pp", "pp"],
  ["pcp", "pcp"],
  ["dp", "dp"],
];

/** Without it vLLM starts every data-parallel rank on each pod; a rank that is started by its number is alone anyway. */
function localRanks({ engine, parallelism: { dp, dpLocal } }: WorkloadSpec, { flags }: EngineCommand): string[] {
  const [name] = engineProfile(engine).names.dpLocal;
  const given = flagValues(flags, engineProfile(engine).names.dpLocal) ?? flags.values.get("--data-parallel-rank");
  return name === undefined || dpLocal === dp || given !== undefined ? [] : [name, String(dpLocal)];
}

/** Arguments that declarations ask for and the command does not give. */
function missingArguments({ spec }: StageContext, command: EngineCommand): string[] {
  const { names, port } = engineProfile(spec.engine);
  const given = (name: keyof ArgumentNames): boolean => flagValues(command.flags, names[name]) !== undefined;
  const sizes = SIZES.filter(([size, name]) => spec.parallelism[size] > 1 && !given(name) && spec.sizesHidden !== true);
  const words = sizes.flatMap(([size, name]) => [names[name][0] ?? "", String(spec.parallelism[size])]);
  words.push(
    ...localRanks(spec, command),
    ...(spec.parallelism.expert && !isSet(command.flags, names.expert) ? names.expert.slice(0, 1) : []),
  );
  const ported = spec.port === port || spec.rankPorts !== undefined || given("port");
  return [...words.filter((word) => word !== ""), ...(ported ? [] : ["--port", String(spec.port)])];
}

export function engine(context: StageContext): StageResult {
  const command = readCommand(containerOf(context));
  const words = missingArguments(context, command);
  const env = [...ENGINE_SETTINGS[context.spec.engine](context), ...ownNames(context.spec)];
  const changes: Wish[] = [
    // Off, because a Service called `vllm` would set VLLM_PORT. True is what the API server fills in.
    set(at(context, "spec", "enableServiceLinks"), false, true),
    ...envWishes(context, env),
    ...(words.length === 0 || context.spec.opaque ? [] : [append(inContainer(context, "args"), words)]),
  ];
  if (context.spec.opaque && words.length > 0)
    return {
      changes,
      verdict: warned("EngineOpaque", `a script hides the arguments; it must pass ${words.join(" ")}`),
    };
  return { changes, verdict: changed("EngineInjected", message(words)) };
}

const message = (words: readonly string[]): string =>
  words.length === 0 ? "environment" : `environment and ${words.join(" ")}`;
