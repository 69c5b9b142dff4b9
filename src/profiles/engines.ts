/**
 * Engine profiles: how an inference engine is recognised, what it calls its arguments and what it listens on.
 *
 * Data with small functions, one entry an engine. Nothing here knows of roles or groups.
 */
import type { Connector } from "../kinds/endpoint.ts";

export type EngineId = "vllm" | "vllm-ascend" | "sglang";

/** A release of an engine, all of which are 0.x.y so far: x and y. */
export type Release = readonly [minor: number, patch: number];

/** Names of the arguments that Tandem reads, in the form `--name`; later ones are aliases. */
export interface ArgumentNames {
  readonly tp: readonly string[];
  readonly pp: readonly string[];
  readonly dp: readonly string[];
  readonly dpLocal: readonly string[];
  readonly pcp: readonly string[];
  readonly expert: readonly string[];
  readonly port: readonly string[];
  readonly model: readonly string[];
  readonly served: readonly string[];
  readonly blockSize: readonly string[];
  readonly maxSequences: readonly string[];
}

export interface EngineProfile {
  readonly id: EngineId;
  /** Part of an image name that tells the engine. */
  readonly image: RegExp;
  /** True where the image's own entrypoint is the server, so that `args` alone start it. */
  readonly imageServes: boolean;
  /** Serving port without `--port`. */
  readonly port: number;
  /** Tokens of a KV block without an argument; undefined where it depends on the model. */
  readonly blockSize?: number;
  /** Connector of a prefill or decode engine without a declaration. */
  readonly connector: Connector;
  /** Address to listen on where the engine's own default reaches no other pod; absent where it listens everywhere. */
  readonly host?: string;
  /** Turns on `/metrics`; absent where it is always on. */
  readonly metricsFlag?: string;
  /** First release that publishes KV events. */
  readonly eventsSince: Release;
  /** First release that caches prefixes without being asked; `cacheFlag` asks older ones. */
  readonly cachesSince: Release;
  readonly cacheFlag?: string;
  /** A user's word against prefix caching. */
  readonly noCacheFlag: string;
  readonly names: ArgumentNames;
}

/** vLLM's EngineArgs, long names first; underscores are read as dashes by its parser. */
const VLLM_NAMES: ArgumentNames = {
  tp: ["--tensor-parallel-size", "-tp"],
  pp: ["--pipeline-parallel-size", "-pp"],
  dp: ["--data-parallel-size", "-dp"],
  dpLocal: ["--data-parallel-size-local", "-dpl"],
  pcp: ["--prefill-context-parallel-size", "-pcp"],
  expert: ["--enable-expert-parallel", "-ep"],
  port: ["--port"],
  model: ["--model"],
  served: ["--served-model-name"],
  blockSize: ["--block-size"],
  maxSequences: ["--max-num-seqs"],
};

const SGLANG_NAMES: ArgumentNames = {
  tp: ["--tp-size", "--tp", "--tensor-parallel-size"],
  pp: ["--pp-size", "--pipeline-parallel-size"],
  dp: ["--dp-size", "--dp", "--data-parallel-size"],
  dpLocal: [],
  pcp: [],
  expert: [],
  port: ["--port"],
  model: ["--model-path", "--model"],
  served: ["--served-model-name"],
  blockSize: ["--page-size"],
  maxSequences: ["--max-running-requests"],
};

/** KV events came with 0.9; the engine of 0.8 (V1) caches prefixes by default, older ones when asked. */
const VLLM_CACHE = {
  eventsSince: [9, 0],
  cachesSince: [8, 0],
  cacheFlag: "--enable-prefix-caching",
  noCacheFlag: "--no-enable-prefix-caching",
} as const;

/** In the order of recognition: an image of vLLM-Ascend also contains the word vllm. */
export const ENGINES: readonly EngineProfile[] = [
  {
    id: "vllm-ascend",
    image: /vllm[-_]?ascend/i,
    // Its entrypoint is a shell: a Deployment always gives the command.
    imageServes: false,
    port: 8000,
    // Forced to 128 whenever prefix caching or chunked prefill is on, which is the default.
    blockSize: 128,
    connector: "mooncake",
    ...VLLM_CACHE,
    names: VLLM_NAMES,
  },
  {
    id: "vllm",
    image: /vllm/i,
    imageServes: true,
    port: 8000,
    blockSize: 16,
    connector: "nixl",
    ...VLLM_CACHE,
    names: VLLM_NAMES,
  },
  {
    id: "sglang",
    image: /sglang/i,
    imageServes: false,
    port: 30000,
    connector: "sglang",
    // Listens on 127.0.0.1 by default, its bootstrap server too.
    host: "0.0.0.0",
    metricsFlag: "--enable-metrics",
    eventsSince: [5, 0],
    cachesSince: [0, 0],
    noCacheFlag: "--disable-radix-cache",
    names: SGLANG_NAMES,
  },
];

/** The profile of an engine's name. */
export const engineProfile = (id: EngineId): EngineProfile =>
  ENGINES.find((engine) => engine.id === id) ?? (ENGINES[1] as EngineProfile);

/** What stands beside engines under their name. */
const BESIDE = /(router|proxy|sidecar|gateway|exporter)[^/]*$/i;

/** What an image name tells: registry and tag are read too, so that a mirror's path counts. */
export const engineOfImage = (image: string): EngineId | undefined =>
  BESIDE.test(image) ? undefined : ENGINES.find((engine) => engine.image.test(image))?.id;

/** Python modules that start a server: `python3 -m MODULE`. */
const MODULES: readonly (readonly [module: string, engine: EngineId])[] = [
  ["vllm.entrypoints.openai.api_server", "vllm"],
  ["vllm.entrypoints.cli.main", "vllm"],
  ["sglang.launch_server", "sglang"],
];

/** `python3 FILE`: the same modules by their path. */
const FILES: readonly (readonly [file: RegExp, engine: EngineId])[] = [
  [/(^|\/)vllm\/entrypoints\/openai\/api_server\.py$/, "vllm"],
  [/(^|\/)sglang\/launch_server\.py$/, "sglang"],
];

/** `PROGRAM serve`. */
const PROGRAMS: Readonly<Record<string, EngineId>> = { vllm: "vllm", sglang: "sglang" };

/** A server's start within a list of words: the engine, and where its own arguments begin. */
export interface EngineStart {
  readonly engine: EngineId;
  readonly first: number;
}

const programName = (word: string): string => word.split("/").at(-1) ?? "";

/** The start of an engine at `index`: `vllm serve ...`, `python3 -m MODULE ...`; undefined for anything else. */
function startAt(words: readonly string[], index: number): EngineStart | undefined {
  const name = programName(words[index] ?? "");
  if (words[index + 1] === "serve" && Object.hasOwn(PROGRAMS, name))
    return { engine: PROGRAMS[name] ?? "vllm", first: index + 2 };
  return /^python[\d.]*$/.test(name) ? pythonStart(words, index) : undefined;
}

/** Python's own options stand before the module or the file. */
function pythonStart(words: readonly string[], index: number): EngineStart | undefined {
  const at = words.findIndex((word, place) => place > index && (word === "-m" || !word.startsWith("-")));
  if (at === -1) return undefined;
  const [table, word] = words[at] === "-m" ? [MODULES, words[at + 1]] : [FILES, words[at]];
  const found = table.find(([known]) => (typeof known === "string" ? known === word : known.test(word ?? "")));
  return found === undefined ? undefined : { engine: found[1], first: at + (words[at] === "-m" ? 2 : 1) };
}

/** The first start of an engine among the words of one command. */
export function findStart(words: readonly string[]): EngineStart | undefined {
  for (let index = 0; index < words.length; index++) {
    const start = startAt(words, index);
    if (start !== undefined) return start;
  }
  return undefined;
}

/** Images with an engine inside whose tags count something else: LMCache, Dynamo's runtimes, llm-d. */
const OTHER_VERSIONS = /(^|\/)(lmcache|ai-dynamo|llm-d)\//;

/**
 * Release of a 0.x image, as `v0.13.0` or `0.11.0rc1-a3` tell it; undefined where the image does not tell: digests,
 * commits, people's own tags, and `latest` as well, which is whatever was the latest when a node last pulled it.
 */
export function engineVersion(image: string): Release | undefined {
  if (OTHER_VERSIONS.test(image)) return undefined;
  const tag = /:([^/:@]+)(?:@|$)/.exec(image)?.[1] ?? "";
  const match = /^v?0\.(\d+)(?:\.(\d+))?/.exec(tag);
  return match === null ? undefined : [Number(match[1]), Number(match[2] ?? 0)];
}

const isBefore = ([minor, patch]: Release, since: Release): boolean =>
  minor < since[0] || (minor === since[0] && patch < since[1]);

/** True for an image that is known to be older. One that does not tell its version counts as new enough. */
export function isOlder(image: string, since: Release): boolean {
  const version = engineVersion(image);
  return version !== undefined && isBefore(version, since);
}

/** True for an image that tells its version, and is not older: for what stops an engine that does not know it. */
export const isSurely = (image: string, since: Release): boolean =>
  engineVersion(image) !== undefined && !isOlder(image, since);

/** A release as people write it. */
export const releaseName = ([minor, patch]: Release): string => `0.${minor}${patch === 0 ? "" : `.${patch}`}`;

/** True where the engine publishes KV events: its KV connector, which every managed pair has, is no older. */
export const publishesEvents = ({ eventsSince }: EngineProfile, image: string): boolean => !isOlder(image, eventsSince);

/** True where prefixes are cached without being asked; only a version that is known to be older is asked. */
export const cachesByDefault = ({ cachesSince }: EngineProfile, image: string): boolean => !isOlder(image, cachesSince);

/** True where KVTransferConfig has `kv_load_failure_policy`. It refuses keys that it does not know. */
export const knowsLoadFailurePolicy = (image: string): boolean => isSurely(image, [12, 0]);

/** Modules of connectors that vLLM-Ascend 0.11 to 0.13 does not register by itself. */
const ASCEND_MODULES: Readonly<Partial<Record<Connector, string>>> = {
  mooncake: "vllm_ascend.distributed.mooncake_connector",
  "mooncake-layerwise": "vllm_ascend.distributed.mooncake_layerwise_connector",
};

/**
 * `kv_connector_module_path` of vLLM-Ascend's connectors: needed by 0.11 to 0.13; later versions register the connectors
 * themselves and moved the files, so that the key would break them.
 */
export function mooncakeModule(image: string, connector: Connector = "mooncake"): string | undefined {
  return isSurely(image, [11, 0]) && isOlder(image, [14, 0]) ? ASCEND_MODULES[connector] : undefined;
}
