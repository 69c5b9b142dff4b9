/**
 * Arguments that an engine's command lacks: what each stage appends, and the same words for a script that hides its own.
 *
 * Only what a declaration, the role or the configuration asks for and the command does not give in any form; pure
 * functions of the context and the command as the stages before left it.
 */
import { ENGINE_ENV } from "../../kinds/names.ts";
import { cachesByDefault, engineProfile, type ArgumentNames } from "../../profiles/engines.ts";
import { SGLANG_TRANSFER } from "../../profiles/transfer.ts";
import { connectorProfile } from "../../profiles/connectors.ts";
import { flagValues, hasFlag, isSet, mentions, readCommand, type EngineCommand } from "../../workload/arguments.ts";
import { TRANSFER_FLAG } from "../../workload/infer.ts";
import { asOffered } from "../../workload/offered.ts";
import type { Parallelism, WorkloadSpec } from "../../workload/spec.ts";
import { containerOf, type StageContext } from "../stage.ts";
import { decideEvents, eventWords } from "./events.ts";
import { rankArguments } from "./rank-arguments.ts";

export type Words = readonly string[];

const SIZES: readonly (readonly [size: Exclude<keyof Parallelism, "expert">, name: keyof ArgumentNames])[] = [
  ["tp", "tp"],
  ["pp", "pp"],
  ["pcp", "pcp"],
  ["dp", "dp"],
];

/** Without it vLLM starts every data-parallel rank on each pod; a rank that is started by its number is alone anyway. */
function localRanks({ engine, parallelism: { dp, dpLocal } }: WorkloadSpec, { flags }: EngineCommand): Words {
  const [name] = engineProfile(engine).names.dpLocal;
  const given = flagValues(flags, engineProfile(engine).names.dpLocal) ?? flags.values.get("--data-parallel-rank");
  return name === undefined || dpLocal === dp || given !== undefined ? [] : [name, String(dpLocal)];
}

function sizeWords(spec: WorkloadSpec, command: EngineCommand): Words {
  const { names } = engineProfile(spec.engine);
  const given = (name: keyof ArgumentNames): boolean => flagValues(command.flags, names[name]) !== undefined;
  const sizes = SIZES.filter(([size, name]) => spec.parallelism[size] > 1 && !given(name) && spec.sizesHidden !== true);
  const words = sizes.flatMap(([size, name]) => [names[name][0] ?? "", String(spec.parallelism[size])]);
  const expert = spec.parallelism.expert && !isSet(command.flags, names.expert) ? names.expert.slice(0, 1) : [];
  return [...words.filter((word) => word !== ""), ...localRanks(spec, command), ...expert];
}

/** The engine listens where it is asked: its default needs no argument. */
function listenWords(spec: WorkloadSpec, { flags }: EngineCommand): Words {
  const { names, port, host } = engineProfile(spec.engine);
  const ported = spec.port === port || spec.rankPorts !== undefined || flagValues(flags, names.port) !== undefined;
  return [
    ...(ported ? [] : ["--port", String(spec.port)]),
    ...(host === undefined || hasFlag(flags, "--host") ? [] : ["--host", host]),
  ];
}

/** Metrics where they are off by default, prefix caching where the version's default is off and nobody spoke against it. */
function featureWords(context: StageContext, { flags }: EngineCommand): Words {
  const profile = engineProfile(context.spec.engine);
  const { metricsFlag, cacheFlag, noCacheFlag } = profile;
  const cached = cachesByDefault(profile, containerOf(context).image ?? "");
  return [
    ...(metricsFlag === undefined || hasFlag(flags, metricsFlag) ? [] : [metricsFlag]),
    ...(cached || cacheFlag === undefined || hasFlag(flags, cacheFlag) || hasFlag(flags, noCacheFlag)
      ? []
      : [cacheFlag]),
  ];
}

/** What the stage engine appends. */
export const engineWords = (context: StageContext, command: EngineCommand): Words => [
  ...sizeWords(context.spec, command),
  ...listenWords(context.spec, command),
  ...featureWords(context, command),
];

function disaggregationWords({ role, kvPort, transferBackend }: WorkloadSpec, { flags }: EngineCommand): Words {
  const wanted: readonly (readonly [flag: string, value: string | undefined])[] = [
    [SGLANG_TRANSFER.mode, role],
    [SGLANG_TRANSFER.backend, transferBackend],
    // Only a prefill engine has a bootstrap server.
    [SGLANG_TRANSFER.port, role === "prefill" && kvPort !== undefined ? String(kvPort) : undefined],
  ];
  return wanted.flatMap(([flag, value]) => (value === undefined || hasFlag(flags, flag) ? [] : [flag, value]));
}

/** KV transfer: nothing without a connector, for a lone engine of a connector that joins two, and beside the user's own. */
export function transferWords({ spec }: StageContext, command: EngineCommand): Words {
  const profile = connectorProfile(spec.connector, spec.engine);
  if (profile === undefined || (spec.role === "both" && profile.className !== "NixlConnector")) return [];
  if (spec.engine === "sglang") return disaggregationWords(spec, command);
  return hasFlag(command.flags, TRANSFER_FLAG) ? [] : [TRANSFER_FLAG, `$(${ENGINE_ENV.kvTransferConfig})`];
}

/** What the stage kv appends. */
export const kvWords = (context: StageContext, command: EngineCommand): Words => [
  ...transferWords(context, command),
  ...("ports" in decideEvents(context, command) ? eventWords(command) : []),
];

/** A word as a shell reads it back; a variable is left for it to expand, quoted. */
function quoted(word: string): string {
  const variable = /^\$\((\w+)\)$/.exec(word)?.[1];
  if (variable !== undefined) return `"$${variable}"`;
  const several = /^(\$\(\w+\):?)+$/.test(word);
  if (several) return `"${word.replace(/\$\((\w+)\)/g, (_, name: string) => `\${${name}}`)}"`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** Words as a piece of shell, for `eval`. */
export const shellText = (words: Words): string => words.map(quoted).join(" ");

/** Everything that a script must pass to the engine, as one piece of shell; empty where nothing is missing. */
export function scriptArguments(given: StageContext): string {
  const context = { ...given, spec: asOffered(given.spec) };
  const command = readCommand(containerOf(context));
  const { skip } = context.spec;
  return shellText([
    ...(skip.includes("engine") ? [] : [...rankArguments(context, command).words, ...engineWords(context, command)]),
    ...(skip.includes("kv") ? [] : kvWords(context, command)),
  ]);
}

/** True where the script passes what `TANDEM_ENGINE_ARGS` holds, or its user was told to when the contract was read. */
export const passesAll = (context: StageContext): boolean =>
  context.spec.offered !== undefined || mentions(containerOf(context), ENGINE_ENV.engineArgs);
