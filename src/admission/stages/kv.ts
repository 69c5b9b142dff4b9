/**
 * Stage kv: the engine's KV transfer configuration, and the KV events it publishes.
 *
 * A configuration is environment, and the argument refers to it: what must be known of the other role comes from the
 * cell's ConfigMap, and the kubelet holds the container back until that is written. A configuration of the user's own is
 * recognised and never doubled.
 */
import type { EnvVar } from "../../kinds/kube.ts";
import { ENGINE_ENV } from "../../kinds/names.ts";
import { changed, warned, type Verdict } from "../../kinds/verdict.ts";
import { connectorProfile, type ConnectorProfile } from "../../profiles/connectors.ts";
import { knowsLoadFailurePolicy } from "../../profiles/engines.ts";
import { transferConfig } from "../../profiles/transfer.ts";
import { hasFlag, mentions, readCommand, type EngineCommand } from "../../workload/arguments.ts";
import { sizesName } from "../../workload/cell.ts";
import { refersToOurs, TRANSFER_FLAG } from "../../workload/infer.ts";
import { asOffered } from "../../workload/offered.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { append } from "../change.ts";
import { containerOf, inContainer, nothing, type StageContext, type StageResult } from "../stage.ts";
import { passesAll, shellText, transferWords, type Words } from "./arguments.ts";
import { envWishes, scriptEnv } from "./engine.ts";
import { decideEvents, eventsEnv, eventWords } from "./events.ts";

/** What one part of the stage gives: environment, arguments, and what to say of them. */
interface Part {
  readonly env: readonly EnvVar[];
  readonly words: Words;
  readonly note: string;
  /** Nothing was done, and the user could have it. */
  readonly advice?: true;
}

const left = (note: string): Part => ({ env: [], words: [], note });

/** `kv_load_failure_policy`, where the image is known to have the key. */
const failurePolicy = (context: StageContext): { loadFailurePolicy?: "recompute" | "fail" } => {
  const policy = context.settings.kvLoadFailurePolicy;
  return policy === "engine" || !knowsLoadFailurePolicy(containerOf(context).image ?? "")
    ? {}
    : { loadFailurePolicy: policy };
};

/** The configuration itself, or where the controller writes it. */
function configuration(context: StageContext): EnvVar {
  const { spec } = context;
  const name = ENGINE_ENV.kvTransferConfig;
  const value = transferConfig(spec.role, spec, failurePolicy(context));
  if (value !== undefined) return { name, value };
  const configMap = { name: sizesName(spec), key: spec.role };
  return { name, valueFrom: { configMapKeyRef: isNeeded(context) ? configMap : { ...configMap, optional: true } } };
}

/** A script that does not read it is not held back: of hidden sizes none would ever be written. */
function isNeeded(context: StageContext): boolean {
  const { opaque, offered, sizesHidden } = context.spec;
  if (!opaque) return true;
  const reads = [ENGINE_ENV.kvTransferConfig, ENGINE_ENV.engineArgs].some((name) =>
    mentions(containerOf(context), name),
  );
  return offered === undefined && (reads || sizesHidden !== true);
}

/** NIXL's side channel listens on localhost unless it is told the address that the other side can reach. */
const addresses = ({ kvPort }: WorkloadSpec, { hostEnv, portEnv, port }: ConnectorProfile): EnvVar[] => [
  ...(hostEnv === undefined
    ? []
    : [{ name: hostEnv, valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "status.podIP" } } }]),
  ...(portEnv === undefined ? [] : [{ name: portEnv, value: String(kvPort ?? port) }]),
];

/** SGLang has flags for it, each with a variable for scripts. */
const disaggregationEnv = ({ role, transferBackend }: WorkloadSpec): EnvVar[] => [
  { name: ENGINE_ENV.disaggregationMode, value: role },
  { name: ENGINE_ENV.transferBackend, value: transferBackend ?? "mooncake" },
];

/** Prompts are prefilled where they are decoded then. */
const unused = ({ role }: WorkloadSpec): string => (role === "prefill" ? ", so no prompts are sent to it" : "");

function transferPart(context: StageContext, command: EngineCommand): Part {
  const { spec } = context;
  const profile = connectorProfile(spec.connector, spec.engine);
  if (spec.connector === "none") return left(`connector none: no KV transfer${unused(spec)}`);
  if (profile === undefined) return left(`${spec.engine} has no connector ${spec.connector}; the arguments stand`);
  if (spec.role === "both" && profile.className !== "NixlConnector")
    return left(`${spec.connector} joins a prefill and a decode`);
  if (spec.joins === true)
    return { env: addresses(spec, profile), words: [], note: "Ray starts the leader's engine here; addresses only" };
  const words = transferWords(context, command);
  const note =
    spec.offered === undefined
      ? `${spec.connector} as ${spec.role}`
      : `variables for ${spec.connector} as ${spec.role}, which the start is not seen to read; until it does, connector none${unused(spec)}`;
  if (spec.engine === "sglang") return { env: disaggregationEnv(spec), words, note };
  const env = addresses(spec, profile);
  if (hasFlag(command.flags, TRANSFER_FLAG) && !refersToOurs(command))
    return { env, words, note: `the given ${TRANSFER_FLAG} stands; addresses only` };
  return { env: [configuration(context), ...env], words, note };
}

function eventsPart(context: StageContext, command: EngineCommand): Part {
  const decision = decideEvents(context, command);
  if ("ports" in decision)
    return {
      env: eventsEnv(context, decision.ports),
      words: eventWords(command),
      note: `KV events on port ${decision.ports.port}`,
    };
  const note = `no KV events: ${decision.left}`;
  return decision.advice === true ? { ...left(note), advice: true } : left(note);
}

/** A script that names one of these hands the words on by itself. */
const VARIABLES = [ENGINE_ENV.kvTransferConfig, ENGINE_ENV.disaggregationMode, ENGINE_ENV.kvEventsConfig] as const;

/** Words that a script hides, without those whose variable it names. */
function hidden(context: StageContext, parts: readonly Part[]): Words {
  if (passesAll(context)) return [];
  const container = containerOf(context);
  const named = ({ env }: Part): boolean =>
    env.some(({ name }) => VARIABLES.some((variable) => variable === name) && mentions(container, name));
  return parts.filter((part) => !named(part)).flatMap(({ words }) => words);
}

export function kv(given: StageContext): StageResult {
  const context = { ...given, spec: asOffered(given.spec) };
  const command = readCommand(containerOf(context));
  const parts = [transferPart(context, command), eventsPart(context, command)];
  const notes = parts.map(({ note }) => note).join("; ");
  const env = parts.flatMap((part) => part.env);
  const words = parts.flatMap((part) => part.words);
  const verdict = verdictOf(context, parts, notes);
  if (env.length === 0) return verdict.outcome === "warned" ? { changes: [], verdict } : nothing(notes);
  return {
    changes: [
      ...envWishes(context, [...env, ...scriptEnv(context)]),
      ...(words.length === 0 || context.spec.opaque ? [] : [append(inContainer(context, "args"), words)]),
    ],
    verdict,
  };
}

function verdictOf(context: StageContext, parts: readonly Part[], notes: string): Verdict {
  const missing = context.spec.opaque ? hidden(context, parts) : [];
  if (missing.length > 0)
    return warned("EngineOpaque", `a script hides the arguments; it must pass ${shellText(missing)}`);
  const advice = parts.find((part) => part.advice === true);
  return advice === undefined ? changed("KvInjected", notes) : warned("KvEventsOff", notes);
}
