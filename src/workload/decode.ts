/**
 * Labels + annotations + pod template -> WorkloadSpec: the user's contract, decoded once.
 *
 * Annotations of the workload win over those of its Namespace, those over what the template tells, that over the
 * configuration. An invalid value is a denial that names key, value and what is accepted; an unknown key a warning with
 * the nearest known one. It never changes the object and never asks the cluster.
 */
import { entry, type KubeObject, type Namespace, type PodTemplate, type StringMap } from "../kinds/kube.ts";
import { STATUS } from "../kinds/names.ts";
import { denied, allowed, isDenied, skipped, type Verdict } from "../kinds/verdict.ts";
import type { Devices } from "../profiles/devices.ts";
import { isSet, servedNames } from "./arguments.ts";
import { isUnderKueue, oneByOne } from "./creation.ts";
import { devicesOf, portsOf, transferOf } from "./derive.ts";
import { infer, joinsRay, type Inferred } from "./infer.ts";
import { groupSize } from "./instance.ts";
import { readIntent } from "./intent.ts";
import { KEYS } from "./keys.ts";
import { reader, type Reader } from "./reader.ts";
import type { GangSetting, Mode, WorkloadSpec } from "./spec.ts";
import { unknownKeys } from "./stray.ts";
import { templateOf, type FoundTemplate } from "./template.ts";

export interface DecodeContext {
  /** The object's Namespace, whose annotations are defaults. */
  readonly namespace?: Namespace | undefined;
  /** The device profiles there are, and the default one. */
  readonly devices: Devices;
  /** For Pods: annotations of the workload that made the Pod. */
  readonly inherited?: StringMap | undefined;
  /** For Pods without a carried intent: true where the Pod alone is the mounting point, so that a role means `manage`. */
  readonly managePods?: boolean;
  /** Which of the object's templates; the one that serves requests unless told otherwise. */
  readonly template?: FoundTemplate;
}

export interface Decoded {
  /** Absent where the object is not ours, its mode is off, or something is denied. */
  readonly spec?: WorkloadSpec;
  readonly verdicts: readonly Verdict[];
}

/** A Pod of a workload in mode `route` is made without labels: nothing is written to its template. */
const notOurs = ({ kind }: KubeObject): Decoded => {
  const later = kind === "Pod" ? "; if its workload has it, in mode route, the controller labels the Pod" : "";
  return { verdicts: [skipped("NotOurs", `no label ${KEYS.model.key}${later}`)] };
};

/** Decodes one workload or Pod. */
export function workloadSpec(object: KubeObject, context: DecodeContext): Decoded {
  const { labels, annotations } = object.metadata;
  if (entry(labels, KEYS.model.key) === undefined) return notOurs(object);
  const found = context.template ?? templateOf(object);
  const intent = object.kind === "Pod" ? readIntent(entry(annotations, STATUS.intent)) : undefined;
  const reading = reader(labels, [
    { map: intent, of: "" },
    { map: annotations, of: "" },
    { map: context.inherited, of: " of the workload" },
    { map: context.namespace?.metadata.annotations, of: " of the Namespace" },
  ]);
  const mode = modeOf(object, reading, context, intent !== undefined);
  if (mode === "off") return { verdicts: [skipped("NotOurs", `${KEYS.mode.key} is off`)] };
  if (found === undefined) return noTemplate(object);
  const spec = decode(object, found.template, mode, { reading, context });
  reading.verdicts.push(...unknownKeys(labels, "label"), ...unknownKeys(annotations, "annotation"));
  const { verdicts } = reading;
  return spec === undefined || verdicts.some(isDenied)
    ? { verdicts }
    : { spec, verdicts: [allowed("Decoded", summary(spec)), ...verdicts] };
}

const noTemplate = (object: KubeObject): Decoded => ({
  verdicts: [denied("RequestMalformed", `${object.kind} has no pod template with named containers`)],
});

/**
 * A Pod that carries its workload's intent is managed, whatever its Namespace says, unless the Pod itself says otherwise;
 * another Pod only where Pods are the mounting point.
 */
function modeOf(object: KubeObject, reading: Reader, context: DecodeContext, carried: boolean): Mode {
  const own = entry(object.metadata.annotations, KEYS.mode.key) !== undefined;
  if (carried && !own) return "manage";
  const given = reading.read("mode");
  if (given !== undefined) return given;
  if (object.kind === "Pod" && context.managePods !== true) return "route";
  return entry(object.metadata.labels, KEYS.role.key) === "both" ? "route" : "manage";
}

interface Decoding {
  readonly reading: Reader;
  readonly context: DecodeContext;
}

function decode(
  object: KubeObject,
  template: PodTemplate,
  mode: Mode,
  { reading, context }: Decoding,
): WorkloadSpec | undefined {
  const service = serviceOf(reading);
  const inferred = inferOf(template, reading, context.devices);
  if (service === undefined || inferred === undefined) return undefined;
  const skip = reading.read("skip") ?? [];
  const base = { mode, role: service.role, inferred, template, skip, groupSize: groupSize(object) };
  const devices = devicesOf(reading, base, context.devices);
  const ports = portsOf(reading, inferred);
  return {
    ...identity(object),
    mode,
    ...service,
    engine: inferred.engine.id,
    container: inferred.container.name,
    ...ports,
    ...devices,
    dataParallelMode: reading.read("dpMode") ?? inferred.dataParallelMode,
    served: served(reading, inferred),
    ...intents(object, reading, devices.nodesPerInstance),
    skip,
    ...transferOf(reading, base, { ...ports, ...devices }),
    opaque: inferred.command.opaque,
    ...(isSet(inferred.command.flags, ["--headless"]) ? { headless: true } : {}),
    ...(joinsRay(inferred) ? { joins: true } : {}),
    ...(inferred.blockSize === undefined ? {} : { blockSize: inferred.blockSize }),
    ...sequencesOf(inferred, devices.parallelism),
  };
}

function sequencesOf(
  { maxSequences, engine }: Inferred,
  { dp }: WorkloadSpec["parallelism"],
): Pick<WorkloadSpec, "maxSequences"> {
  if (maxSequences === undefined) return {};
  return { maxSequences: engine.id === "sglang" ? maxSequences : maxSequences * dp };
}

type Service = Pick<WorkloadSpec, "role" | "model" | "group" | "cell">;

function serviceOf(reading: Reader): Service | undefined {
  const model = reading.read("model");
  const role = reading.read("role");
  if (!reading.has("role")) reading.verdicts.push(missingRole());
  const [group, cell] = [reading.read("group"), reading.read("cell")];
  if (model === undefined || role === undefined) return undefined;
  return { role, model, group: group ?? model, cell: cell ?? "0" };
}

const missingRole = (): Verdict =>
  denied("InvalidLabel", `${KEYS.role.key} is missing; give ${KEYS.role.accepts.replaceAll("`", "")}`, {
    subject: KEYS.role.key,
  });

function inferOf(template: PodTemplate, reading: Reader, devices: Devices): Inferred | undefined {
  const container = reading.read("container");
  const inferred = infer(template, { container, engine: reading.read("engine"), devices });
  if (inferred === undefined) reading.verdicts.push(noContainer(container, template));
  return inferred;
}

/** Names found in the arguments, then those declared, each once. */
const served = (reading: Reader, inferred: Inferred): readonly string[] => [
  ...new Set([...servedNames(inferred.command.flags, inferred.engine.id), ...(reading.read("servedModel") ?? [])]),
];

const noContainer = (name: string | undefined, template: PodTemplate): Verdict =>
  denied(
    "InvalidAnnotation",
    `${KEYS.container.key}: "${name ?? ""}" is no container; give ${template.spec.containers.map((one) => one.name).join(", ")}`,
    { subject: KEYS.container.key },
  );

/** Where the object stands, and how many pods it asks for: replicas of a LeaderWorkerSet are whole groups. */
const identity = (object: KubeObject): Pick<WorkloadSpec, "kind" | "namespace" | "name" | "uid" | "replicas"> => {
  const { kind, metadata } = object;
  const replicas = (object["spec"] as { replicas?: unknown } | undefined)?.replicas;
  const pods = kind === "LeaderWorkerSet" ? (groupSize(object) ?? 1) : 1;
  return {
    kind,
    namespace: metadata.namespace ?? "default",
    name: metadata.name ?? metadata.generateName ?? "",
    uid: metadata.uid ?? "",
    replicas: (typeof replicas === "number" ? replicas : 1) * pods,
  };
};

/** What admits or makes pods one by one cannot fill a gang that nobody asked for by name. */
function gangOf(object: KubeObject, reading: Reader, nodesPerInstance: number): GangSetting {
  const given = reading.read("gang");
  if (given !== undefined) return given;
  const isHeldBack = isUnderKueue(object) || (nodesPerInstance > 1 && oneByOne(object) !== undefined);
  return { kind: isHeldBack ? "off" : "auto" };
}

type Intents = Pick<
  WorkloadSpec,
  "scheduler" | "queue" | "gang" | "topology" | "topologyTier" | "recovery" | "disruption" | "planLatest"
>;

function intents(object: KubeObject, reading: Reader, nodesPerInstance: number): Intents {
  const tier = reading.read("topologyTier");
  return {
    scheduler: reading.read("scheduler") ?? "keep",
    queue: reading.read("queue") ?? "",
    gang: gangOf(object, reading, nodesPerInstance),
    topology: reading.read("topology") ?? "preferred",
    ...(tier === undefined ? {} : { topologyTier: tier }),
    recovery: reading.read("recovery") ?? "tandem",
    disruption: reading.read("disruption") ?? "off",
    planLatest: reading.read("plan") === "latest",
  };
}

const summary = (spec: WorkloadSpec): string =>
  [
    `${spec.role} of ${spec.model}, group ${spec.group}, cell ${spec.cell}, mode ${spec.mode}`,
    `engine ${spec.engine} in container ${spec.container} on port ${spec.port}`,
    `${spec.acceleratorsPerPod} x ${spec.accelerator === "" ? "a device of no profile" : spec.accelerator}, connector ${spec.connector}`,
  ].join("; ");
