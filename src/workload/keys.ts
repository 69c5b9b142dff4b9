/**
 * The one table of the user's keys: every label and annotation with its scope, what it accepts in words, its default
 * and its parser. Decoding, denials and `docs/reference/labels.md` all come from it.
 */
import { ANNOTATION, LABEL } from "../kinds/names.ts";
import type { Connector, PrefillRunner, Role } from "../kinds/endpoint.ts";
import { BUILT_IN } from "../profiles/devices.ts";
import { integer, integerKey, list, oneOf, pattern, texts, type Key } from "./key.ts";
import { SCALING_KEYS } from "./scaling-keys.ts";
import type { DataParallelMode, EngineName, GangSetting, Mode, Parallelism, Stage, TopologyMode } from "./spec.ts";

export type { Key } from "./key.ts";

/** Alphabet of Kubernetes label values, without the empty one. */
const LABEL_VALUE = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
/** RFC 1123, as container names. */
const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

const label = <T>(key: Key<T>): Key<T> => ({ ...key, where: "label" });

const manageOnly = <T>(key: Key<T>): Key<T> => ({ ...key, manageOnly: true });

/** Sizes that are given; the rest comes from the arguments. */
export type GivenSizes = Partial<Parallelism>;

const SIZE_NAMES = ["tp", "pp", "dp", "dp-local", "pcp", "ep"] as const;
type SizeName = (typeof SIZE_NAMES)[number];

const toSizes = (name: SizeName, value: number): GivenSizes => {
  if (name === "ep") return { expert: value > 1 };
  return name === "dp-local" ? { dpLocal: value } : { [name]: value };
};

function parseSizes(text: string): GivenSizes | undefined {
  const parts = list(text, (item) => {
    const [name = "", digits = ""] = item.split("=");
    const known = SIZE_NAMES.find((size) => size === name);
    const value = integer(digits, 1, 4096);
    return known === undefined || value === undefined ? undefined : toSizes(known, value);
  });
  return parts === undefined || parts.length === 0 ? undefined : parts.reduce((all, part) => ({ ...all, ...part }), {});
}

function parseRankPorts(text: string): { first: number; count: number } | undefined {
  const [first, count] = text.split("+").map((part) => integer(part, 1, 65535));
  if (first === undefined || count === undefined || text.split("+").length !== 2) return undefined;
  return first + count <= 65536 ? { first, count } : undefined;
}

function parseGang(text: string): GangSetting | undefined {
  if (text === "auto" || text === "off") return { kind: text };
  const parts = list(text, (item) => {
    const match = /^(prefill|decode)=(\d{1,6})$/.exec(item);
    return match === null ? undefined : ([match[1] as "prefill" | "decode", Number(match[2])] as const);
  });
  const sizes = new Map(parts);
  if (parts === undefined || parts.length === 0 || sizes.size !== parts.length) return undefined;
  return { kind: "set", prefill: sizes.get("prefill") ?? 0, decode: sizes.get("decode") ?? 0 };
}

const STAGES: readonly Stage[] = ["scheduling", "gang", "topology", "devices", "engine", "kv", "probes", "replicas"];
export const MODES = ["off", "observe", "route", "manage"] as const satisfies readonly Mode[];
const ROLES = ["prefill", "decode", "both"] as const satisfies readonly Role[];
const ENGINES = ["vllm", "vllm-ascend", "sglang"] as const satisfies readonly EngineName[];
const DP_MODES = ["internal", "hybrid", "external"] as const satisfies readonly DataParallelMode[];
const TOPOLOGIES = ["required", "preferred", "off"] as const satisfies readonly TopologyMode[];
const CONNECTORS = [
  "nixl",
  "nixl-push",
  "mooncake",
  "mooncake-layerwise",
  "sglang",
  "none",
] as const satisfies readonly Connector[];
/** A HyperNode's `tierName`; what looks like a number is meant as one. */
const TIER_NAME = /^(?![-+\d.]*$)[\x21-\x7e]{1,253}$/;
const LABEL_WORDS = "a label value: letters, digits, `-`, `_`, `.`, at most 63";

/** Every key of the contract, in the order of the reference page. */
export const KEYS = {
  model: label(
    pattern(
      LABEL.model,
      LABEL_VALUE,
      LABEL_WORDS,
      texts(
        "group",
        "none: it makes a workload Tandem's",
        "Handle of the service; never compared with the model name in a request.",
      ),
    ),
  ),
  role: label(
    oneOf(LABEL.role, ROLES, texts("workload", "none: it must be given", "What the workload does for the service.")),
  ),
  group: label(
    pattern(
      LABEL.group,
      LABEL_VALUE,
      LABEL_WORDS,
      texts(
        "workload",
        "the model",
        "Unit of pairing, scaling and routing weight; two groups of one model are blue and green.",
      ),
    ),
  ),
  cell: label(
    pattern(
      LABEL.cell,
      LABEL_VALUE,
      LABEL_WORDS,
      texts("workload", "`0`", "Unit of gang and topology inside a group; routing spans cells."),
    ),
  ),
  mode: oneOf(
    ANNOTATION.mode,
    MODES,
    texts(
      "workload",
      "`manage` for prefill and decode, `route` for both",
      "`observe`: verdicts only; `route`: discovered and routed to, nothing injected; `manage`: everything.",
    ),
  ),
  engine: oneOf(
    ANNOTATION.engine,
    ENGINES,
    texts("workload", "from image and command, else `vllm`", "Inference engine."),
  ),
  container: pattern(
    ANNOTATION.container,
    NAME,
    "the name of a container of the pod template",
    texts(
      "workload",
      "the one with a device request, else the first that is an engine, else the first",
      "Engine container.",
    ),
  ),
  port: integerKey(
    ANNOTATION.port,
    [1, 65535],
    texts("workload", "the container port named `http`, else `--port`, else the engine's default", "Serving port."),
  ),
  rankPorts: {
    key: ANNOTATION.rankPorts,
    where: "annotation",
    ...texts("workload", "none", "One API server for each data-parallel rank, each its own endpoint."),
    accepts: "`FIRST+COUNT`, as `8000+4`",
    parse: parseRankPorts,
  },
  parallelism: {
    key: ANNOTATION.parallelism,
    where: "annotation",
    ...texts("workload", "from the arguments", "Parallel sizes; needed where a script hides the arguments."),
    accepts: `a comma list of ${SIZE_NAMES.map((name) => `\`${name}=N\``).join(", ")}`,
    parse: parseSizes,
  },
  dpMode: oneOf(
    ANNOTATION.dpMode,
    DP_MODES,
    texts("workload", "from the arguments", "Who spreads requests over data-parallel ranks."),
  ),
  servedModel: {
    key: ANNOTATION.servedModel,
    where: "annotation",
    ...texts(
      "group",
      "none",
      "Names added to those found in arguments and `/v1/models`. Read when a pod is created; a change rolls nothing.",
    ),
    accepts: "a comma list of model names",
    parse: (text) => list(text, (item) => (item.length <= 256 ? item : undefined)),
  },
  accelerator: pattern(
    ANNOTATION.accelerator,
    NAME,
    `the name of a device profile: ${BUILT_IN.map(({ name }) => `\`${name}\``).join(", ")}, or one of \`admission.profiles\``,
    texts(
      "workload",
      "recognised from an existing request, else `admission.defaultProfile`; none beside a request that no profile knows",
      "Device profile.",
    ),
  ),
  acceleratorsPerPod: manageOnly(
    integerKey(
      ANNOTATION.acceleratorsPerPod,
      [1, 1024],
      texts("workload", "tensor x pipeline x local data parallel size", "Devices of one pod."),
    ),
  ),
  scheduler: manageOnly(
    oneOf(ANNOTATION.scheduler, ["keep", "volcano", "default"], texts("group", "`keep`", "Scheduler of the pods.")),
  ),
  queue: manageOnly(
    pattern(
      ANNOTATION.queue,
      /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/,
      "the name of a Volcano queue",
      texts("group", "Volcano's `default`", "Volcano queue of the PodGroup."),
    ),
  ),
  gang: {
    key: ANNOTATION.gang,
    where: "annotation",
    manageOnly: true,
    ...texts(
      "cell",
      "`auto`: one instance of each role; `off` under Kueue",
      "Minimum viable set of a cell, in instances.",
    ),
    accepts: "`auto`, `off`, or instances of each role as `prefill=1,decode=2`",
    parse: parseGang,
  },
  topology: manageOnly(
    oneOf(
      ANNOTATION.topology,
      TOPOLOGIES,
      texts("cell", "`preferred`", "Whether a cell must, should or need not stay within one domain."),
    ),
  ),
  topologyTier: {
    key: ANNOTATION.topologyTier,
    where: "annotation",
    manageOnly: true,
    ...texts(
      "cell",
      "where the topology is `required`: the closest tier there is; else none",
      "Highest tier of domains that a cell may span.",
    ),
    accepts: "a tier as integer or tier name",
    parse: (text): number | string | undefined => integer(text, 0, 1000) ?? (TIER_NAME.test(text) ? text : undefined),
  },
  kvConnector: oneOf(
    ANNOTATION.kvConnector,
    CONNECTORS,
    texts("group", "from existing arguments, else the engine's", "How KV blocks travel from prefill to decode."),
  ),
  compat: pattern(
    ANNOTATION.compat,
    /^[\x20-\x7e]{0,253}$/,
    "printable ASCII, at most 253 characters",
    texts(
      "workload",
      "empty",
      "Prefill and decode pair only where this is equal; a new value keeps an upgrade from mixing.",
    ),
  ),
  prefillRunner: oneOf(
    ANNOTATION.prefillRunner,
    ["router", "sidecar"] satisfies PrefillRunner[],
    texts(
      "workload",
      "`sidecar` where llm-d's routing sidecar is in the pod, else `router`",
      "Who runs the prefill leg of requests that the pods decode: a sidecar is told the prefill endpoint by header.",
    ),
  ),
  nodesPerInstance: manageOnly(
    integerKey(
      ANNOTATION.nodesPerInstance,
      [1, 256],
      texts(
        "workload",
        "`1`; the size of a LeaderWorkerSet",
        "Pods that together run one engine instance: they get ranks and a leader, start together and are replaced together.",
      ),
    ),
  ),
  recovery: manageOnly(
    oneOf(
      ANNOTATION.recovery,
      ["tandem", "platform"],
      texts(
        "group",
        "`tandem`",
        "Who replaces an instance over several pods that lost one: Tandem deletes the rest, or only takes it out of routing. LeaderWorkerSets look after their own.",
      ),
    ),
  ),
  disruption: oneOf(
    ANNOTATION.disruption,
    ["off", "budget"],
    texts(
      "group",
      "`off`",
      "`budget`: the controller makes a PodDisruptionBudget for each workload of which no other selects the pods: one pod may be evicted at a time, and none where the minimum viable set needs all of them.",
    ),
  ),
  skip: {
    key: ANNOTATION.skip,
    where: "annotation",
    manageOnly: true,
    ...texts("workload", "none", "Injection stages to leave alone."),
    accepts: `a comma list of ${STAGES.map((stage) => `\`${stage}\``).join(", ")}`,
    parse: (text) => list(text, (item) => STAGES.find((stage) => stage === item)),
  },
  plan: manageOnly(
    oneOf(
      ANNOTATION.plan,
      ["latest"],
      texts(
        "workload",
        "the recorded plan is replayed while the template is unchanged",
        "`latest`: plan anew at every admission, so that an upgrade of Tandem may roll the workload.",
      ),
    ),
  ),
  ...SCALING_KEYS,
} as const satisfies Readonly<Record<string, Key<unknown>>>;

export type KeyName = keyof typeof KEYS;

/** The parsed type of a key. */
export type ValueOf<N extends KeyName> = (typeof KEYS)[N] extends Key<infer T> ? T : never;

export const ALL_KEYS: readonly Key<unknown>[] = Object.values(KEYS);
