/**
 * The parts of a WorkloadSpec that a declaration and the template decide together: ports, sizes and devices, KV transfer.
 * A declaration wins over what the template tells; where both are explicit and differ, it is a denial.
 */
import type { Connector, Role } from "../kinds/endpoint.ts";
import type { PodTemplate } from "../kinds/kube.ts";
import { ENGINE_ENV } from "../kinds/names.ts";
import { denied, warned, type Verdict } from "../kinds/verdict.ts";
import { nearest } from "../kinds/nearest.ts";
import { classNamesOf, connectorProfile, connectorsOf } from "../profiles/connectors.ts";
import { deviceNames, deviceProfile, type DeviceProfile, type Devices } from "../profiles/devices.ts";
import { countRule, mooncakePort, runsOn } from "../profiles/devices/product.ts";
import { engineVersion, isOlder, releaseName } from "../profiles/engines.ts";
import { SGLANG_TRANSFER } from "../profiles/transfer.ts";
import { evaluated, flagValues, hidesArguments, isSet, mentions } from "./arguments.ts";
import { connectorModule, givenKvPort, joinsRay, TRANSFER_FLAG, type Inferred } from "./infer.ts";
import { KEYS, type GivenSizes } from "./keys.ts";
import type { Reader } from "./reader.ts";
import type { Mode, Parallelism, Stage, WorkloadSpec } from "./spec.ts";

/** What is known before declarations are applied. */
export interface Base {
  readonly mode: Mode;
  readonly role: WorkloadSpec["role"];
  readonly inferred: Inferred;
  readonly template: PodTemplate;
  readonly skip: readonly Stage[];
  /** Pods of one instance as the workload's kind tells: LeaderWorkerSet's size. */
  readonly groupSize: number | undefined;
}

type Ports = Pick<WorkloadSpec, "port" | "rankPorts" | "portAssumed">;

/** The serving port: declared, else the port named `http`, else `--port`, else the engine's. */
export function portsOf(reading: Reader, inferred: Inferred): Ports {
  const rankPorts = reading.read("rankPorts");
  const declared = declaredPort(reading, inferred);
  const known = declared ?? rankPorts?.first ?? inferred.portHttp ?? inferred.portFlag;
  return {
    port: known ?? inferred.engine.port,
    ...(rankPorts === undefined ? {} : { rankPorts }),
    ...(known === undefined && hidesPort(inferred) ? { portAssumed: true } : {}),
  };
}

function declaredPort(reading: Reader, { portFlag }: Inferred): number | undefined {
  const declared = reading.read("port");
  if (declared !== undefined && portFlag !== undefined && declared !== portFlag)
    reading.verdicts.push(denied("EngineContradict", `${KEYS.port.key} is ${declared}, but --port is ${portFlag}`));
  return declared;
}

/** True where a script, a file or a variable may hold a `--port` of its own. */
function hidesPort({ container, command, engine }: Inferred): boolean {
  const { flags, found } = command;
  // A script that takes it from us takes the one that discovery is told.
  if ([ENGINE_ENV.portBase, ENGINE_ENV.engineArgs].some((name) => mentions(container, name))) return false;
  const given = flagValues(flags, engine.names.port) !== undefined || flags.values.has("--config");
  return !found || given || hidesArguments(flags);
}

type DeviceFacts = Pick<
  WorkloadSpec,
  "parallelism" | "accelerator" | "device" | "acceleratorsPerPod" | "nodesPerInstance" | "sizesHidden"
>;

/** Sizes from declaration over arguments; devices from those, or from an existing request where a script hides them. */
export function devicesOf(reading: Reader, base: Base, devices: Devices): DeviceFacts {
  const { request, foreignCount } = base.inferred;
  const { given, hidden } = sizesOf(reading, base);
  const nodesPerInstance = nodesOf(reading, base);
  const accelerator = acceleratorOf(reading, base.inferred, devices);
  const device = deviceProfile(accelerator, devices);
  const devicesOfRanks = ranksShareDevices(base.inferred) ? { ...given, dp: 1 } : given;
  const computed = hidden ? (request?.count ?? foreignCount ?? 0) : devicesPerPod(devicesOfRanks, nodesPerInstance);
  return {
    parallelism: complete(given, nodesPerInstance),
    accelerator,
    ...(device === undefined ? {} : { device }),
    acceleratorsPerPod: reading.read("acceleratorsPerPod") ?? computed,
    nodesPerInstance,
    ...(hidden ? { sizesHidden: true } : {}),
  };
}

/** Declared, and then one that there is; else recognised. */
function acceleratorOf(reading: Reader, inferred: Inferred, devices: Devices): string {
  const declared = reading.read("accelerator");
  if (declared === undefined) return recognised(inferred) ?? defaultOf(reading, inferred, devices);
  if (devices.partial !== true && deviceProfile(declared, devices) === undefined)
    reading.verdicts.push(unknownProfile(declared, devices));
  return declared;
}

const unknownProfile = (name: string, devices: Devices): Verdict =>
  denied(
    "InvalidAnnotation",
    `${KEYS.accelerator.key}: "${name}" is not accepted; give ${deviceNames(devices).join(", ")}`,
    { subject: KEYS.accelerator.key },
  );

/** A LeaderWorkerSet says itself how many pods make an instance; a declaration must agree. */
function nodesOf(reading: Reader, { groupSize }: Base): number {
  const declared = reading.read("nodesPerInstance");
  if (declared !== undefined && groupSize !== undefined && declared !== groupSize)
    reading.verdicts.push(
      denied("InstanceInvalid", `${KEYS.nodesPerInstance.key} is ${declared}, the group's size ${groupSize}`),
    );
  return groupSize ?? declared ?? 1;
}

/** The profile of the request; beside an accelerator that no profile knows, none, so that nothing is asked for twice. */
const recognised = ({ request, companion, foreign }: Inferred): string | undefined =>
  (request?.device ?? companion)?.name ?? (foreign === undefined ? undefined : "");

/** Engines built for processors say so in their image's name, or are told. */
const runsOnProcessors = ({ container, command }: Inferred): boolean =>
  /(^|[-_/:.])cpu([-_:.]|$)/.test(container.image ?? "") || command.flags.values.get("--device")?.[0] === "cpu";

/** The default profile, for an engine that runs on its devices. */
function defaultOf(reading: Reader, inferred: Inferred, devices: Devices): string {
  const { defaultProfile } = devices;
  const device = deviceProfile(defaultProfile, devices);
  if (runsOnProcessors(inferred)) return "";
  if (device === undefined || runsOn(inferred.engine.id, device)) return defaultProfile;
  reading.verdicts.push(
    warned(
      "DevicesContradict",
      `engine ${inferred.engine.id} asks for no device, and does not run on the default profile ${device.name}; give ${KEYS.accelerator.key}`,
    ),
  );
  return "";
}

function sizesOf(reading: Reader, { inferred, mode }: Base): { given: GivenSizes; hidden: boolean } {
  const declared = reading.read("parallelism") ?? {};
  reading.verdicts.push(...sizeContradictions(declared, inferred.sizes));
  const hidden = inferred.sizesHidden && declared.tp === undefined;
  if (hidden && mode === "manage" && !joinsRay(inferred)) reading.verdicts.push(hiddenSizes(inferred));
  return { given: { ...inferred.sizes, ...declared }, hidden };
}

const ONE: Parallelism = { tp: 1, pp: 1, dp: 1, dpLocal: 1, pcp: 1, expert: false };

/**
 * vLLM runs all data-parallel ranks on the pod unless it is told how many are local; an instance over several pods has
 * as many on each.
 */
const complete = (given: GivenSizes, nodes: number): Parallelism => ({
  ...ONE,
  ...given,
  dpLocal: given.dpLocal ?? evenly(given.dp ?? 1, nodes),
});

const evenly = (ranks: number, nodes: number): number => (ranks % nodes === 0 ? ranks / nodes : ranks);

/** SGLang's data-parallel attention parts the devices of the tensor parallel size; its ranks have none of their own. */
const ranksShareDevices = ({ engine, command }: Inferred): boolean =>
  engine.id === "sglang" && isSet(command.flags, ["--enable-dp-attention"]);

/** Devices of one pod: tensor x pipeline x context x local data parallel size, spread over the pods of an instance. */
function devicesPerPod(given: GivenSizes, nodes: number): number {
  const { tp, pp, pcp, dp } = complete(given, nodes);
  const engine = tp * pp * pcp;
  return given.dpLocal === undefined ? Math.ceil((engine * dp) / nodes) : engine * given.dpLocal;
}

function sizeContradictions(declared: GivenSizes, told: GivenSizes): Verdict[] {
  const keys = Object.keys(declared).filter((key) => key !== "expert") as (keyof GivenSizes)[];
  return keys
    .filter((key) => told[key] !== undefined && told[key] !== declared[key])
    .map((key) =>
      denied(
        "EngineContradict",
        `${KEYS.parallelism.key} says ${key}=${String(declared[key])}, the arguments say ${String(told[key])}`,
      ),
    );
}

const hiddenSizes = (inferred: Inferred): Verdict =>
  warned(
    "EngineOpaque",
    `container ${inferred.container.name}: the parallel sizes cannot be read; give ${KEYS.parallelism.key}`,
  );

type Choice = Pick<WorkloadSpec, "connector" | "offered">;

type Transfer = Pick<
  WorkloadSpec,
  "connector" | "offered" | "compat" | "prefillRunner" | "kvPort" | "connectorModule" | "transferBackend" | "events"
>;

/** What of the contract decides on the connector's port. */
type Place = Pick<WorkloadSpec, "port" | "nodesPerInstance"> & { readonly device?: DeviceProfile };

export function transferOf(reading: Reader, base: Base, place: Place): Transfer {
  const choice = connectorOf(reading, base);
  const connector = choice.offered ?? choice.connector;
  const port = givenKvPort(base.inferred, connector) ?? defaultKvPort(connector, base, place);
  const module = connectorModule(base.inferred, connector);
  const runner = reading.read("prefillRunner");
  return {
    ...choice,
    compat: reading.read("compat") ?? "",
    ...(runner === undefined ? {} : { prefillRunner: runner }),
    ...(port === undefined ? {} : { kvPort: port }),
    ...(module === undefined ? {} : { connectorModule: module }),
    ...(connector === "sglang" ? { transferBackend: backendOf(reading, base) } : {}),
    ...(base.inferred.events === undefined ? {} : { events: base.inferred.events }),
  };
}

function defaultKvPort(connector: Connector, base: Base, place: Place): number | undefined {
  const profile = connectorProfile(connector, base.inferred.engine.id);
  if (profile === undefined) return undefined;
  const { template } = base;
  const { device } = place;
  const rule = device === undefined ? undefined : countRule(device, template.spec);
  const first = profile.ports === "device" ? mooncakePort(rule?.perNode) : profile.port;
  return first + hostOffset(base, place);
}

/** Ports of one engine's connector: a node has at most 16 devices. */
const PORT_BLOCK = 16;
/** So many serving ports have blocks of their own: with the highest first port, 36000, the last block ends at 52000. */
const PORT_BLOCKS = 1000;

/**
 * Engines of one node on the host's network differ in their serving ports already, or they would not start; with the same
 * connector port the second would not start either. Nothing for a lone default port, and for instances over several pods.
 */
function hostOffset({ template, inferred: { engine } }: Base, { port, nodesPerInstance }: Place): number {
  if (template.spec.hostNetwork !== true || nodesPerInstance > 1) return 0;
  return PORT_BLOCK * ((((port - engine.port) % PORT_BLOCKS) + PORT_BLOCKS) % PORT_BLOCKS);
}

/** Declared, else what the arguments load, else the engine's own for half of a managed pair. */
function connectorOf(reading: Reader, base: Base): Choice {
  const declared = declaredConnector(reading, base);
  const { transfer } = base.inferred;
  const told = transfer?.connector;
  if (declared === undefined) {
    if (transfer !== undefined && told === undefined && base.mode === "manage")
      reading.verdicts.push(unknownClass(base.inferred));
    return told === undefined ? undeclared(reading, base) : { connector: told };
  }
  if (told !== undefined && declared !== told)
    reading.verdicts.push(denied("KvContradict", `${KEYS.kvConnector.key} is ${declared}, the arguments load ${told}`));
  return { connector: declared };
}

/** SGLang has one protocol over several transfer backends: their names declare both. */
function declaredConnector(reading: Reader, { inferred }: Base): Connector | undefined {
  const declared = reading.read("kvConnector");
  return inferred.engine.id === "sglang" && isBackend(declared) ? "sglang" : declared;
}

const isBackend = (name: string | undefined): boolean => name === "nixl" || name === "mooncake";

/** SGLang's own default, unless the declaration names another. */
function backendOf(reading: Reader, { inferred }: Base): string {
  const declared = reading.read("kvConnector");
  const told = inferred.transfer?.backend;
  if (isBackend(declared) && told !== undefined && told !== declared)
    reading.verdicts.push(
      denied("KvContradict", `${KEYS.kvConnector.key} is ${declared ?? ""}, ${SGLANG_TRANSFER.backend} is ${told}`),
    );
  return told ?? (isBackend(declared) ? (declared ?? "") : "mooncake");
}

/** An engine that loads an unknown class, serves alone or is left as it is transfers nothing that we know of. */
function undeclared(reading: Reader, { mode, role, inferred, skip }: Base): Choice {
  const left = mode !== "manage" || skip.includes("kv") || inferred.transfer !== undefined;
  if (left || role === "both") return NONE;
  const old = olderThanConnector(inferred);
  if (old !== undefined) {
    reading.verdicts.push(old);
    return NONE;
  }
  // As its leader, whose connector it is given with the intent.
  if (joinsRay(inferred)) return NONE;
  const { connector } = inferred.engine;
  if (!inferred.command.opaque || passesOurs(inferred)) return { connector };
  reading.verdicts.push(loadsNone(inferred, role));
  return { ...NONE, offered: connector };
}

const NONE: Choice = { connector: "none" };

/** An engine that does not know its argument does not start: only an image that is known to be older is not given it. */
function olderThanConnector({ engine, container: { image = "" } }: Inferred): Verdict | undefined {
  const { since } = connectorProfile(engine.connector, engine.id) ?? { since: [0, 0] as const };
  const version = engineVersion(image);
  if (version === undefined || !isOlder(image, since)) return undefined;
  return warned(
    "KvContradict",
    `${engine.id} ${releaseName(version)} has no connector ${engine.connector}, which came with ${releaseName(since)}: no KV is transferred`,
  );
}

/** Variables of ours of which one in a script says that it loads a connector. */
const PASSED = {
  vllm: [ENGINE_ENV.kvTransferConfig, ENGINE_ENV.engineArgs],
  "vllm-ascend": [ENGINE_ENV.kvTransferConfig, ENGINE_ENV.engineArgs],
  sglang: [ENGINE_ENV.disaggregationMode, ENGINE_ENV.engineArgs],
} as const;

/** A script that can be read and hands our variable on, to the engine or to a script of its own. */
const passesOurs = ({ container, engine }: Inferred): boolean =>
  PASSED[engine.id].some((name) => mentions(container, name));

/** The one warning over a script: what the arguments in the one variable leave out, no other has to say again. */
function loadsNone({ container: { name }, command: { found }, engine }: Inferred, role: Role): Verdict {
  const flag = engine.id === "sglang" ? SGLANG_TRANSFER.mode : TRANSFER_FLAG;
  const seen = found ? `script of ${name} loads no KV connector` : `what ${name} starts cannot be read`;
  const declare = found ? "" : `, and give ${KEYS.kvConnector.key}`;
  const unused = role === "prefill" ? ", and no prompts are sent to it" : "";
  return warned(
    "EngineOpaque",
    `${seen}, so that none is assumed${unused}; start it by ${evaluated(engine.id)}, or pass ${flag} "$${PASSED[engine.id][0]}"${declare}`,
  );
}

/** SGLang's flags name no class; a class that speaks as a known one, under a name of its own, can be declared as that. */
function unknownClass({ transfer, engine: { id } }: Inferred): Verdict {
  const [given = "(unreadable)", known] = [transfer?.className, classNamesOf(id)];
  const near = nearest(given, known);
  const meant = near === undefined ? "" : ` (did you mean ${near}?)`;
  const accepted = [...connectorsOf(id), "none"].join(", ");
  return warned(
    "KvContradict",
    `kv_connector ${given} is not known${meant}; known are ${known.join(", ")}; if it speaks as one of them, set ${KEYS.kvConnector.key}, which accepts ${accepted}`,
  );
}
