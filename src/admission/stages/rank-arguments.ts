/**
 * Arguments that make one engine of several pods: what the command lacks to find its leader and to know its place.
 *
 * All pods have one template, so that every value is a variable, read when the container starts. Pure functions of the
 * context and of the command as the stages before left it.
 */
import { ENGINE_ENV } from "../../kinds/names.ts";
import { warned, type Verdict } from "../../kinds/verdict.ts";
import { engineVersion, isOlder, releaseName, type Release } from "../../profiles/engines.ts";
import { flagValues, startsRay, type EngineCommand } from "../../workload/arguments.ts";
import { runsHeadless, spreadsRanks } from "../../workload/instance.ts";
import { containerOf, type StageContext } from "../stage.ts";

export interface Given {
  readonly words: readonly string[];
  readonly verdict?: Verdict;
}

const ref = (name: string): string => `$(${name})`;

/** First version of vLLM that spreads tensors or layers over nodes without Ray. */
const NNODES_SINCE: Release = [12, 0];

/** Arguments that make one engine of the pods, where the command gives none of them; and what stands against it. */
export function rankArguments(context: StageContext, command: EngineCommand): Given {
  const { spec } = context;
  if (spec.nodesPerInstance === 1 || usesRay(context, command)) return { words: [] };
  if (spec.engine === "sglang") return { words: missing(command, sglangPairs(spec.nodesPerInstance)) };
  if (!spreadsRanks(spec)) return tensorArguments(context, command);
  return spec.dataParallelMode === "external" ? externalArguments(context, command) : dataParallel(context, command);
}

/** Ray finds the nodes by itself: the user's script starts it. */
const usesRay = (context: StageContext, { flags }: EngineCommand): boolean =>
  startsRay(containerOf(context)) ||
  ["--distributed-executor-backend", "--data-parallel-backend", "-dpb"].some(
    (name) => flagValues(flags, [name])?.[0] === "ray",
  );

type Pairs = readonly (readonly [names: readonly string[], value: string])[];

const missing = ({ flags }: EngineCommand, pairs: Pairs): string[] =>
  pairs.flatMap(([names, value]) => (flagValues(flags, names) === undefined ? [names[0] ?? "", value] : []));

const sglangPairs = (nodes: number): Pairs => [
  [["--nnodes"], String(nodes)],
  [["--node-rank"], ref(ENGINE_ENV.nodeRank)],
  [["--dist-init-addr", "--nccl-init-addr"], `${ref(ENGINE_ENV.dpAddress)}:${ref(ENGINE_ENV.dpRpcPort)}`],
];

const ADDRESS: Pairs = [
  [["--data-parallel-address", "-dpa"], ref(ENGINE_ENV.dpAddress)],
  [["--data-parallel-rpc-port", "-dpp"], ref(ENGINE_ENV.dpRpcPort)],
];

/** Where an API server listens without `--host`. */
const ANY_HOST = "0.0.0.0";

/**
 * What differs by node: the leader gets its own address to bind to, all others `--headless` where one API server is for
 * the whole instance. The last of a repeated flag wins in vLLM's parser, so that the user's `--host` stands.
 */
function byNode({ spec }: StageContext, { flags }: EngineCommand): string[] {
  const headless = runsHeadless(spec) && spec.headless !== true ? [ref(ENGINE_ENV.nodeArgument)] : [];
  const own = `${ref(ENGINE_ENV.addressArgument)}${ref(ENGINE_ENV.podIp)}`;
  return [own, "--host", flags.values.get("--host")?.[0] ?? ANY_HOST, ...headless];
}

const dataParallel = (context: StageContext, command: EngineCommand): Given => ({
  words: [
    ...missing(command, [...ADDRESS, [["--data-parallel-start-rank", "-dpr"], ref(ENGINE_ENV.dpRankStart)]]),
    ...byNode(context, command),
  ],
});

/** External load balancing starts each rank by its number: one process knows how to be one rank. */
function externalArguments(context: StageContext, command: EngineCommand): Given {
  const { spec } = context;
  if (spec.parallelism.dpLocal > 1)
    return {
      words: [],
      verdict: warned(
        "EngineOpaque",
        `dp-mode external starts ${spec.parallelism.dpLocal} engines on each pod: that takes a script`,
      ),
    };
  const pairs: Pairs = [...ADDRESS, [["--data-parallel-rank", "-dpn"], ref(ENGINE_ENV.dpRankStart)]];
  return { words: [...missing(command, pairs), ...byNode(context, command)] };
}

function tensorArguments(context: StageContext, command: EngineCommand): Given {
  const { spec } = context;
  const { image = "" } = containerOf(context);
  const version = engineVersion(image);
  if (version !== undefined && isOlder(image, NNODES_SINCE))
    return {
      words: [],
      verdict: warned("InstanceInvalid", `vLLM ${releaseName(version)} spreads tensors over pods with Ray only`),
    };
  const pairs: Pairs = [
    [["--nnodes"], String(spec.nodesPerInstance)],
    [["--node-rank"], ref(ENGINE_ENV.nodeRank)],
    [["--master-addr"], ref(ENGINE_ENV.dpAddress)],
  ];
  return { words: [...missing(command, pairs), ...byNode(context, command)] };
}
