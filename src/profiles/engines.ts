/**
 * Engine profiles: how an inference engine is recognised, what it calls its arguments and what it listens on.
 *
 * Data with small functions, one entry an engine. Nothing here knows of roles or groups.
 */
import type { Connector } from "../kinds/endpoint.ts";

export type EngineId = "vllm" | "vllm-ascend" | "sglang";

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
};

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
    names: VLLM_NAMES,
  },
  {
    id: "vllm",
    image: /vllm/i,
    imageServes: true,
    port: 8000,
    blockSize: 16,
    connector: "nixl",
    names: VLLM_NAMES,
  },
  {
    id: "sglang",
    image: /sglang/i,
    imageServes: false,
    port: 30000,
    connector: "sglang",
    names: SGLANG_NAMES,
  },
];

/** The profile of an engine's name. */
export const engineProfile = (id: EngineId): EngineProfile =>
  ENGINES.find((engine) => engine.id === id) ?? (ENGINES[1] as EngineProfile);

/** What an image name tells: registry and tag are read too, so that a mirror's path counts. */
export const engineOfImage = (image: string): EngineId | undefined =>
  ENGINES.find((engine) => engine.image.test(image))?.id;

/** Python modules that start a server: `python3 -m MODULE`. */
const MODULES: readonly (readonly [module: string, engine: EngineId])[] = [
  ["vllm.entrypoints.openai.api_server", "vllm"],
  ["vllm.entrypoints.cli.main", "vllm"],
  ["sglang.launch_server", "sglang"],
];

/** A server's start within a list of words: the engine, and where its own arguments begin. */
export interface EngineStart {
  readonly engine: EngineId;
  readonly first: number;
}

const programName = (word: string): string => word.split("/").at(-1) ?? "";

/** The start of an engine at `index`: `vllm serve ...`, `python3 -m MODULE ...`; undefined for anything else. */
function startAt(words: readonly string[], index: number): EngineStart | undefined {
  const name = programName(words[index] ?? "");
  if (name === "vllm" && words[index + 1] === "serve") return { engine: "vllm", first: index + 2 };
  if (!/^python[\d.]*$/.test(name)) return undefined;
  const flag = words.indexOf("-m", index + 1);
  const found = flag === -1 ? undefined : MODULES.find(([module]) => module === words[flag + 1]);
  return found === undefined ? undefined : { engine: found[1], first: flag + 2 };
}

/** The first start of an engine among the words of one command. */
export function findStart(words: readonly string[]): EngineStart | undefined {
  for (let index = 0; index < words.length; index++) {
    const start = startAt(words, index);
    if (start !== undefined) return start;
  }
  return undefined;
}

/** `[major, minor]` of an image tag as `v0.13.0` or `0.11.0rc1-a3`; undefined for others. */
export function imageVersion(image: string): readonly [number, number] | undefined {
  const tag = /:([^/:@]+)(?:@|$)/.exec(image)?.[1] ?? "";
  const match = /^v?(\d+)\.(\d+)\b/.exec(tag);
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

/**
 * `kv_connector_module_path` of MooncakeConnectorV1: needed by vLLM-Ascend 0.11 to 0.13; later versions register the
 * connector themselves and moved the file, so that the key would break them.
 */
export function mooncakeModule(image: string): string | undefined {
  const [major, minor] = imageVersion(image) ?? [];
  if (major !== 0 || minor === undefined || minor < 11 || minor > 13) return undefined;
  return "vllm_ascend.distributed.mooncake_connector";
}
