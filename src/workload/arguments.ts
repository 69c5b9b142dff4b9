/**
 * What a container's command line says to the engine: found in `command` and `args`, or inside `sh -c "..."`.
 *
 * Reads `--flag value`, `--flag=value`, short flags, JSON values, dotted JSON keys and the positional model. A value that
 * is not known before the container runs is absent and marked, never guessed.
 */
import { isObject, type Container, type JsonObject } from "../kinds/kube.ts";
import { ENGINE_ENV } from "../kinds/names.ts";
import { engineOfImage, engineProfile, findStart, type EngineId } from "../profiles/engines.ts";
import { scriptIndex, shellCommands } from "./shell.ts";

/** How a container starts its engine. */
export interface EngineCommand {
  /** Absent where neither command nor image tell. */
  readonly engine?: EngineId;
  /** True where the engine's own arguments were found. */
  readonly found: boolean;
  /** True where arguments appended to `args` would not reach the engine. */
  readonly opaque: boolean;
  /** The script of `sh -c`, empty for others. */
  readonly script: string;
  readonly flags: Flags;
}

/** Flags with their values, in the normal form of their names, and the words before the first flag. */
export interface Flags {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positional: readonly string[];
}

const NO_FLAGS: Flags = { values: new Map(), positional: [] };

/** The arguments that differ by node, as Kubernetes or a shell refers to their variables. */
const BY_NODE = new RegExp(`^\\$[({]?(${ENGINE_ENV.nodeArgument}|${ENGINE_ENV.addressArgument})\\b`);

/** `-1`, `-0.5` are values. */
const isFlag = (word: string): boolean => /^--?[A-Za-z]/.test(word);

/** vLLM's parser reads underscores in a name as dashes; keys after a dot belong to JSON and stay. */
function normalName(name: string): string {
  const [head = "", ...keys] = name.split(".");
  return [head.replaceAll("_", "-"), ...keys].join(".");
}

/** Words after the engine's start -> flags. The last of a repeated flag wins, as in argparse. */
export function readFlags(words: readonly string[]): Flags {
  const values = new Map<string, string[]>();
  const positional: string[] = [];
  let current: string[] = positional;
  for (const word of words) {
    // Ours: flags of their own that nobody knows yet.
    if (BY_NODE.test(word)) continue;
    if (!isFlag(word)) {
      current.push(word);
      continue;
    }
    const at = word.indexOf("=");
    current = at === -1 ? [] : [word.slice(at + 1)];
    values.set(normalName(at === -1 ? word : word.slice(0, at)), current);
  }
  return { values, positional };
}

/** The container's environment: what `$(NAME)` in arguments is resolved by. One from elsewhere stays a reference. */
export const environmentOf = (container: Container): ReadonlyMap<string, string> =>
  new Map(
    (container.env ?? []).map(({ name, value, valueFrom }) => [
      name,
      isObject(valueFrom) ? `$(${name})` : (value ?? ""),
    ]),
  );

/** True where `envFrom` sets variables that are not seen here. */
export const hasEnvFrom = (container: Container): boolean =>
  Array.isArray(container["envFrom"]) && container["envFrom"].length > 0;

/** Kubernetes' own expansion; `$$(NAME)` is an escape. */
const resolve = (word: string, env: ReadonlyMap<string, string>): string =>
  word.replace(/\$?\$\(([-._a-zA-Z0-9]+)\)/g, (whole, name: string) =>
    whole.startsWith("$$") ? whole : (env.get(name) ?? whole),
  );

/** The environment is read only where a word refers to it: there may be 70,000 variables, and this is asked often. */
function resolved(words: readonly string[], container: Container): readonly string[] {
  if (!words.some((word) => word.includes("$("))) return words;
  const env = environmentOf(container);
  return words.map((word) => resolve(word, env));
}

const strings = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((word): word is string => typeof word === "string") : [];

/** Stands for `"$@"` while a script is read: no word of a manifest holds a NUL. */
const PARAMETERS = "\0@";

/** `sh -c SCRIPT NAME WORD...`: without NAME, a word that is appended would become it. */
interface Script {
  readonly text: string;
  /** NAME and what follows. */
  readonly rest: readonly string[];
}

function readScript({ text, rest }: Script, container: Container, image: EngineId | undefined): EngineCommand {
  const surroundings = {
    // What is ours holds nothing of the user's, whether it is there already or not.
    variables: new Map([...environmentOf(container), [ENGINE_ENV.engineArgs, ""]]),
    open: hasEnvFrom(container),
    positional: rest.length === 0 ? [] : [PARAMETERS],
  };
  const starts = shellCommands(text, surroundings).flatMap((words) => {
    const found = findStart(words);
    return found === undefined ? [] : [{ engine: found.engine, words: words.slice(found.first) }];
  });
  const reached = starts.length > 0 && starts.every(({ words }) => words.includes(PARAMETERS));
  const read = starts.map(({ engine, words }) => ({ engine, flags: readFlags(withParameters(words, rest.slice(1))) }));
  // Of two starts, one for each kind of node, the one with an API server tells how the instance is reached.
  const start = read.find(({ flags }) => !isSet(flags, ["--headless"])) ?? read[0];
  if (start === undefined) return { ...engineField(image), found: false, opaque: true, script: text, flags: NO_FLAGS };
  return { engine: variant(start.engine, image), found: true, opaque: !reached, script: text, flags: start.flags };
}

const withParameters = (words: readonly string[], parameters: readonly string[]): readonly string[] =>
  words.flatMap((word) => (word === PARAMETERS ? parameters : [word]));

/** vLLM-Ascend is started by vLLM's own command. */
const variant = (command: EngineId, image: EngineId | undefined): EngineId =>
  command === "vllm" && image === "vllm-ascend" ? image : command;

/**
 * A first argument that is a program. An entry point that takes one only passes it on: then the image does not serve by
 * itself, and what is appended would go to that program.
 */
const PROGRAM = /^(\/(\w+\/)*bin\/)?(python[\d.]*|(ba|da|z)?sh|uv|env|tini|numactl|torchrun|ray)$|\.(sh|py)$/;

const servesBy = (image: EngineId | undefined, [first = ""]: readonly string[]): boolean =>
  image !== undefined && engineProfile(image).imageServes && !PROGRAM.test(first);

const engineField = (engine: EngineId | undefined): { engine?: EngineId } => (engine === undefined ? {} : { engine });

/** Reads how the container starts its engine. */
export function readCommand(container: Container): EngineCommand {
  const image = engineOfImage(container.image ?? "");
  const command = strings(container.command);
  const words = resolved([...command, ...strings(container.args)], container);
  const start = findStart(words);
  const at = scriptIndex(words);
  const text = words[at];
  if (text !== undefined && (start === undefined || start.first > at))
    return readScript({ text, rest: words.slice(at + 1) }, container, image);
  if (start !== undefined) {
    const flags = readFlags(words.slice(start.first));
    return { engine: variant(start.engine, image), found: true, opaque: false, script: "", flags };
  }
  const serves = command.length === 0 && servesBy(image, words);
  return {
    ...engineField(image),
    found: serves,
    opaque: !serves,
    script: "",
    flags: serves ? readFlags(words) : NO_FLAGS,
  };
}

/** The values of the first of `names` that is given; aliases come later in the list. */
export const flagValues = (flags: Flags, names: readonly string[]): readonly string[] | undefined => {
  const name = names.find((candidate) => flags.values.has(candidate));
  return name === undefined ? undefined : flags.values.get(name);
};

export const hasFlag = (flags: Flags, name: string): boolean =>
  flags.values.has(name) || [...flags.values.keys()].some((flag) => flag.startsWith(`${name}.`));

/** True where a flag's value is a variable of ours, and not a value of the user's own. */
export const refersTo = ({ flags }: EngineCommand, flag: string, variable: string): boolean =>
  flags.values.get(flag)?.[0]?.includes(variable) ?? false;

/** True where a container's command, its script included, names a variable. */
export const mentions = (container: Container, variable: string): boolean =>
  [...strings(container.command), ...strings(container.args)].some((word) => word.includes(variable));

/** How a script starts the engine with what `TANDEM_ENGINE_ARGS` holds: shell text, whose quotes only `eval` reads. */
export const evaluated = (engine: EngineId): string => {
  const start = engine === "sglang" ? "python3 -m sglang.launch_server --model-path" : "vllm serve";
  return `eval "exec ${start} MODEL $${ENGINE_ENV.engineArgs}"`;
};

/** What `TANDEM_ENGINE_ARGS` is taken to hold: one quoted character, which no manifest has. */
const QUOTED = "'\u0001'";

/** True where a script hands `TANDEM_ENGINE_ARGS` to an engine's start without `eval`: then the quotes are still there. */
export function passesUnevaluated({ script }: EngineCommand): boolean {
  if (!script.includes(ENGINE_ENV.engineArgs)) return false;
  const variables = new Map([[ENGINE_ENV.engineArgs, QUOTED]]);
  return shellCommands(script, { variables, open: true }).some((words) => {
    const start = findStart(words);
    return start !== undefined && words.slice(start.first).some((word) => word.includes(QUOTED));
  });
}

/** Ray's own command, and vLLM's script around it, which make one cluster of the pods before the engine starts. */
const RAY = /\bray\s+start\b|\bmulti-node-serving\.sh\b/;

export const startsRay = (container: Container): boolean =>
  RAY.test([...strings(container.command), ...strings(container.args)].join(" "));

/** True for a value that only the running container knows. */
const isUnresolved = (text: string): boolean => /[$`]/.test(text);

/** A positive integer flag; `hidden` where it is given but is none, or is not known before the container runs. */
export function integerFlag(flags: Flags, names: readonly string[]): number | "hidden" | undefined {
  const text = flagValues(flags, names)?.[0];
  if (text === undefined) return undefined;
  return /^\d{1,9}$/.test(text) && Number(text) > 0 ? Number(text) : "hidden";
}

/** Names of variables that hold arguments rather than one value. */
const HOLDS_ARGUMENTS = /^\$\{?([@*]|\w+\[[@*]|\w*(ARG|OPT|OPTION|FLAG|PARAM)S?\}?$)/i;

/**
 * True where a word that only the running container knows stands where more arguments may: `"$@"`, `$EXTRA_ARGS`, or
 * anything behind the model's name or behind a flag's value.
 */
export function hidesArguments({ values, positional }: Flags): boolean {
  const words = [positional, ...values.values()];
  return words.some((list) =>
    list.some((word, index) => HOLDS_ARGUMENTS.test(word) || (index > 0 && isUnresolved(word))),
  );
}

/** `--flag`, unless `--no-flag` follows. */
export const isSet = (flags: Flags, names: readonly string[]): boolean =>
  names.some((name) => flags.values.has(name)) && !names.some((name) => flags.values.has(name.replace(/^--/, "--no-")));

const parseObject = (text: string): JsonObject | undefined => {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
};

/** Sets `a.b.c` of nested objects. Names come from the command line, so that none may reach a prototype. */
function setDotted(target: JsonObject, keys: readonly string[], value: string): JsonObject {
  const [key = "", ...rest] = keys;
  const inner = Object.hasOwn(target, key) && isObject(target[key]) ? target[key] : {};
  return { ...target, [key]: rest.length === 0 ? value : setDotted(inner, rest, value) };
}

/** A JSON argument: present in any form, with what of it could be read. */
export interface JsonFlag {
  readonly given: boolean;
  readonly value: JsonObject;
}

/** `--name '{...}'` and `--name.key.inner value`. */
export function jsonFlag(flags: Flags, name: string): JsonFlag {
  const whole = flags.values.get(name)?.[0];
  const dotted = [...flags.values].filter(([flag]) => flag.startsWith(`${name}.`));
  const base = whole === undefined ? {} : (parseObject(whole) ?? {});
  const value = dotted.reduce(
    (all, [flag, [text = ""]]) => setDotted(all, flag.slice(name.length + 1).split("."), text),
    base,
  );
  return { given: whole !== undefined || dotted.length > 0, value };
}

/** Names of `--lora-modules`: `name=path`, or JSON with `name`. */
export const loraNames = (flags: Flags): readonly string[] =>
  (flags.values.get("--lora-modules") ?? []).flatMap((item) => {
    const name = item.startsWith("{") ? parseObject(item)?.["name"] : item.split("=")[0];
    return typeof name === "string" && name !== "" ? [name] : [];
  });

/** Model names that the engine answers to: the served names, else the model itself, and LoRA modules. */
export function servedNames(flags: Flags, engine: EngineId): readonly string[] {
  const names = engineProfile(engine).names;
  const served = flagValues(flags, names.served);
  const model = flagValues(flags, names.model)?.slice(0, 1) ?? flags.positional.slice(0, 1);
  const own = served !== undefined && served.length > 0 ? served : model;
  return [...own, ...loraNames(flags)].filter((name) => !isUnresolved(name));
}
