/**
 * KV events of an engine: whether it is told to publish them, on which ports, and why not where it is not.
 *
 * What is published decides what discovery is told, so that both come from the same decision.
 */
import type { EnvVar } from "../../kinds/kube.ts";
import { ENGINE_ENV } from "../../kinds/names.ts";
import { connectorProfile } from "../../profiles/connectors.ts";
import { engineProfile, publishesEvents } from "../../profiles/engines.ts";
import { hasFlag, mentions, readCommand, refersTo, type EngineCommand, type Flags } from "../../workload/arguments.ts";
import { EVENTS_FLAG, freePorts, type EventPorts, type PortRange } from "../../workload/events.ts";
import { asOffered } from "../../workload/offered.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { containerOf, type StageContext } from "../stage.ts";

/** What becomes of KV events: published by us, or left as they are. */
export type EventsDecision = { readonly ports: EventPorts } | { readonly left: string; readonly advice?: true };

/** Why an engine of this kind is not told to publish; undefined where it is. */
type Objection = (context: StageContext, command: EngineCommand) => string | undefined;

/** Models that embed, classify or score generate nothing, and keep no blocks that a further request could use. */
const pools = ({ values }: Flags): boolean =>
  values.get("--runner")?.[0] === "pooling" ||
  hasFlag({ values, positional: [] }, "--is-embedding") ||
  /^(embed|embedding|classify|score|reward)$/.test(values.get("--task")?.[0] ?? "");

/** SGLang's decode engines keep no radix cache, so that they would publish nothing. */
const noCache: Objection = ({ spec }, { flags }) => {
  const { noCacheFlag } = engineProfile(spec.engine);
  if (pools(flags)) return "a pooling model caches nothing";
  if (hasFlag(flags, noCacheFlag)) return `${noCacheFlag}: nothing is cached`;
  return spec.engine === "sglang" && spec.role === "decode" ? "decode engines of SGLang cache no prefixes" : undefined;
};

const OBJECTIONS: readonly Objection[] = [
  ({ settings }) => (settings.kvEvents.enabled ? undefined : "off in the configuration"),
  (_, command) =>
    hasFlag(command.flags, EVENTS_FLAG) && !refersToEvents(command) ? `the given ${EVENTS_FLAG} stands` : undefined,
  ({ spec }) => (spec.joins === true ? "its leader publishes them" : undefined),
  noCache,
  (context) =>
    publishesEvents(engineProfile(context.spec.engine), containerOf(context).image ?? "")
      ? undefined
      : "the engine's version has none",
  // Two engines of one node would bind the same port, and the second would not start.
  ({ template }) => (template.spec.hostNetwork === true ? "the pod is on the host's network" : undefined),
];

/** SGLang's default page is one token: an event for each. */
const costly = ({ spec }: StageContext): boolean => spec.engine === "sglang" && (spec.blockSize ?? 1) < 16;

const refersToEvents = (command: EngineCommand): boolean => refersTo(command, EVENTS_FLAG, ENGINE_ENV.kvEventsConfig);

/** Ports that containers declare, whoever listens there: those of a pod are one address's. */
const declared = ({ template: { spec } }: StageContext): readonly PortRange[] =>
  [...spec.containers, ...(spec.initContainers ?? [])].flatMap(({ ports }) =>
    (ports ?? []).map(({ containerPort }) => ({ first: containerPort, count: 1 })),
  );

/** Ports of the pod that are spoken for. */
function taken(context: StageContext): readonly PortRange[] {
  const spec = asOffered(context.spec);
  const { dp, tp, pp, pcp } = spec.parallelism;
  const devices = dp * tp * pp * pcp;
  const profile = connectorProfile(spec.connector, spec.engine);
  // Versions of NIXL's side channel count a port for each device, others for each rank.
  const transfer = profile === undefined ? [] : [{ first: spec.kvPort ?? profile.port, count: devices }];
  const ranks = spec.rankPorts === undefined ? [] : [spec.rankPorts];
  return [...transfer, { first: spec.port, count: 1 }, ...ranks, ...declared(context)];
}

/** The replay ports follow those of all ranks, so that none meets another's. */
export function eventPorts(context: StageContext): EventPorts {
  const { dp } = context.spec.parallelism;
  const busy = taken(context);
  const port = freePorts(context.settings.kvEvents.first, dp, busy);
  return { port, replayPort: freePorts(port + dp, dp, busy) };
}

/** Decides over the events of a Pod's engine. */
export function decideEvents(context: StageContext, command: EngineCommand): EventsDecision {
  for (const objection of OBJECTIONS) {
    const left = objection(context, command);
    if (left !== undefined) return { left };
  }
  if (costly(context)) return { left: "give --page-size 16 or more", advice: true };
  return { ports: eventPorts(context) };
}

/** A script that hides its arguments passes events on only where it names them. */
const reaches = (context: StageContext, command: EngineCommand): boolean =>
  !context.spec.opaque ||
  refersToEvents(command) ||
  [ENGINE_ENV.kvEventsConfig, ENGINE_ENV.engineArgs].some((name) => mentions(containerOf(context), name));

/** Where the Pod's engine will publish, for discovery: by our configuration or by the user's. */
export function publishedEvents(context: StageContext): EventPorts | undefined {
  const command = readCommand(containerOf(context));
  if (context.spec.skip.includes("kv")) return context.spec.events;
  const decision = decideEvents(context, command);
  if (!("ports" in decision)) return context.spec.events;
  return reaches(context, command) ? decision.ports : undefined;
}

/** Indexes take `kv@POD@MODEL` apart at the `@`; a name with one, or one that the kubelet would expand, is not used. */
const topicModel = ({ served: [name = ""], model }: WorkloadSpec): string =>
  name === "" || /[@$]/.test(name) ? model : name;

/** The configuration, and the pod's name before it, which it refers to. */
export function eventsEnv({ spec }: StageContext, { port, replayPort }: EventPorts): readonly EnvVar[] {
  const config = {
    ...(spec.engine === "sglang" ? {} : { enable_kv_cache_events: true }),
    publisher: "zmq",
    endpoint: `tcp://*:${port}`,
    ...(replayPort === undefined ? {} : { replay_endpoint: `tcp://*:${replayPort}` }),
    topic: `kv@$(${ENGINE_ENV.podName})@${topicModel(spec)}`,
  };
  return [
    { name: ENGINE_ENV.podName, valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "metadata.name" } } },
    { name: ENGINE_ENV.kvEventsConfig, value: JSON.stringify(config) },
  ];
}

/** The argument, unless it is there. */
export const eventWords = (command: EngineCommand): readonly string[] =>
  refersToEvents(command) ? [] : [EVENTS_FLAG, `$(${ENGINE_ENV.kvEventsConfig})`];
