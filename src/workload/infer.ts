/**
 * What a pod template tells by itself: the engine container, the engine, its port, its parallel sizes, its devices and
 * its KV transfer. Declarations (annotations) come on top in `decode.ts`.
 */
import type { Connector } from "../kinds/endpoint.ts";
import { isObject, type Container, type JsonObject, type PodTemplate } from "../kinds/kube.ts";
import { ENGINE_ENV } from "../kinds/names.ts";
import { connectorProfile } from "../profiles/connectors.ts";
import type { DeviceProfile, Devices } from "../profiles/devices.ts";
import { countRule } from "../profiles/devices/product.ts";
import type { CountRule } from "../profiles/devices/profile.ts";
import {
  companionProfile,
  deviceRequest,
  foreignCount,
  foreignRequest,
  type DeviceRequest,
} from "../profiles/devices/request.ts";
import { engineProfile, mooncakeModule, type EngineId, type EngineProfile } from "../profiles/engines.ts";
import { readDisaggregation, readTransfer, type GivenTransfer } from "../profiles/transfer.ts";
import {
  flagValues,
  hidesArguments,
  integerFlag,
  isSet,
  jsonFlag,
  mentions,
  readCommand,
  refersTo,
  startsRay,
  type EngineCommand,
} from "./arguments.ts";
import { readEvents, type EventPorts } from "./events.ts";
import type { GivenSizes } from "./keys.ts";
import type { DataParallelMode, Parallelism } from "./spec.ts";

/** `--kv-transfer-config`, the flag of vLLM and vLLM-Ascend. */
export const TRANSFER_FLAG = "--kv-transfer-config";

export interface Inferred {
  readonly container: Container;
  readonly command: EngineCommand;
  readonly engine: EngineProfile;
  readonly request?: DeviceRequest;
  /** An accelerator that no profile knows, by its resource. */
  readonly foreign?: string;
  /** Devices of that, where the request tells. */
  readonly foreignCount?: number;
  /** The profile of which only a companion resource is asked for. */
  readonly companion?: DeviceProfile;
  readonly rule?: CountRule;
  /** Sizes given by arguments; a hidden one is absent and `sizesHidden` is true. */
  readonly sizes: GivenSizes;
  readonly sizesHidden: boolean;
  /** `--port`, if it is known. */
  readonly portFlag?: number;
  /** Container port named `http`. */
  readonly portHttp?: number;
  readonly blockSize?: number;
  /** Requests that it runs at once, at most, as its arguments say: vLLM's of each data-parallel rank, SGLang's of all. */
  readonly maxSequences?: number;
  readonly dataParallelMode: DataParallelMode;
  /** The user's own transfer configuration, when the flag is there in any form. */
  readonly transfer?: GivenTransfer;
  /** Where KV events are published by the user's own configuration. */
  readonly events?: EventPorts;
}

const asksForDevices = (container: Container, devices: Devices): boolean =>
  deviceRequest(container, devices) !== undefined || foreignRequest(container, devices) !== undefined;

/**
 * The container that asks for devices, else the first whose command starts an engine, else the first with an engine's
 * image, else the first: a proxy may stand before it, and its image may be named after the engine. `name` wins when it is
 * given. Undefined: no such name.
 */
export function engineContainer(template: PodTemplate, { container: name, devices }: Declared): Container | undefined {
  const { containers } = template.spec;
  if (name !== undefined) return containers.find((container) => container.name === name);
  // Without its image, only its command can tell.
  const starts = (container: Container): boolean => readCommand({ ...container, image: "" }).found;
  const engine = (container: Container): boolean => readCommand(container).engine !== undefined;
  return (
    containers.find((container) => asksForDevices(container, devices)) ??
    containers.find(starts) ??
    containers.find(engine) ??
    containers[0]
  );
}

/** Declared, else told by command and image; plain vLLM on an Ascend device is vLLM-Ascend, its plugin. */
function engineOf(command: EngineCommand, onAscend: boolean, declared: EngineId | undefined): EngineId {
  if (declared !== undefined) return declared;
  const told = command.engine ?? "vllm";
  return told === "vllm" && onAscend ? "vllm-ascend" : told;
}

type Sizes = { readonly sizes: GivenSizes; readonly sizesHidden: boolean };
const SIZE_KEYS = ["tp", "pp", "dp", "dpLocal", "pcp"] as const satisfies readonly (keyof Parallelism)[];

/** `--data-parallel-rank` starts one rank by itself: one rank on the pod, unless a script may start more of them. */
const oneRank = ({ flags, opaque }: EngineCommand): boolean => {
  const rank = flags.values.get("--data-parallel-rank")?.[0];
  return rank !== undefined && (!opaque || /^\d+$/.test(rank));
};

function readSizes(command: EngineCommand, engine: EngineProfile): Sizes {
  const read = SIZE_KEYS.map((key) => [key, integerFlag(command.flags, engine.names[key])] as const);
  const known = Object.fromEntries(read.filter(([, value]) => typeof value === "number")) as GivenSizes;
  const local = oneRank(command) && known.dpLocal === undefined ? { dpLocal: 1 } : {};
  const expert = isSet(command.flags, engine.names.expert) ? { expert: true } : {};
  // A configuration file of the engine may hold any of them.
  const inFile = command.flags.values.has("--config") && known.tp === undefined;
  const elsewhere = inFile || (hidesArguments(command.flags) && known.tp === undefined);
  const hidden = !command.found || elsewhere || read.some(([, value]) => value === "hidden");
  return { sizes: { ...known, ...local, ...expert }, sizesHidden: hidden };
}

function readDataParallelMode({ flags }: EngineCommand): DataParallelMode {
  if (isSet(flags, ["--data-parallel-hybrid-lb"])) return "hybrid";
  if (isSet(flags, ["--data-parallel-external-lb"]) || flags.values.has("--data-parallel-rank")) return "external";
  return "internal";
}

const optional = <K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } =>
  value === undefined ? {} : ({ [key]: value } as { [P in K]: V });

const number = (value: number | "hidden" | undefined): number | undefined =>
  typeof value === "number" ? value : undefined;

function readPorts(container: Container, command: EngineCommand, engine: EngineProfile): Partial<Inferred> {
  const http = container.ports?.find((port) => port.name === "http")?.containerPort;
  const flag = number(integerFlag(command.flags, engine.names.port));
  return { ...optional("portFlag", flag), ...optional("portHttp", http) };
}

/** vLLM forces nothing, Ascend forces its own size: there the argument says nothing. */
function readBlockSize(command: EngineCommand, engine: EngineProfile): number | undefined {
  if (engine.id === "vllm-ascend") return engine.blockSize;
  return flagValues(command.flags, engine.names.blockSize) === undefined
    ? engine.blockSize
    : number(integerFlag(command.flags, engine.names.blockSize));
}

export interface Declared {
  readonly container?: string | undefined;
  readonly engine?: EngineId | undefined;
  /** The device profiles there are. */
  readonly devices: Devices;
}

/** True where the flag stands for the variable that Tandem sets, and not for a configuration of the user's own. */
export const refersToOurs = (command: EngineCommand): boolean =>
  refersTo(command, TRANSFER_FLAG, ENGINE_ENV.kvTransferConfig);

function ownTransfer(command: EngineCommand, engine: EngineId, named: string | undefined): GivenTransfer | undefined {
  if (engine === "sglang") return readDisaggregation((flag) => command.flags.values.get(flag)?.[0]);
  const { given, value } = jsonFlag(command.flags, TRANSFER_FLAG);
  if (given) return refersToOurs(command) ? undefined : readTransfer(value);
  return named === undefined ? undefined : readTransfer(parsed(named));
}

/** Whether our variable reaches the engine: by the flag that is added, or by a script that hands it on. */
const isHandedOn = (container: Container, { opaque }: EngineCommand): boolean =>
  !opaque || [ENGINE_ENV.kvTransferConfig, ENGINE_ENV.engineArgs].some((name) => mentions(container, name));

/** A configuration of the user's own under our variable. Behind a script that does not name it, it may be ours. */
const namedTransfer = (container: Container, command: EngineCommand): string | undefined =>
  isHandedOn(container, command)
    ? container.env?.find(({ name }) => name === ENGINE_ENV.kvTransferConfig)?.value
    : undefined;

function parsed(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

/** Everything a template tells; undefined where it has no container of the declared name. */
export function infer(template: PodTemplate, declared: Declared): Inferred | undefined {
  const container = engineContainer(template, declared);
  if (container === undefined) return undefined;
  const command = readCommand(container);
  const request = deviceRequest(container, declared.devices);
  const foreign = request === undefined ? foreignRequest(container, declared.devices) : undefined;
  const onAscend = request?.device.vendor === "ascend" || foreign?.startsWith("huawei.com/") === true;
  const engine = engineProfile(engineOf(command, onAscend, declared.engine));
  const rule = request === undefined ? undefined : countRule(request.device, template.spec);
  const transfer = ownTransfer(command, engine.id, namedTransfer(container, command));
  return {
    container,
    command,
    engine,
    ...optional("request", request),
    ...optional("foreign", foreign),
    ...optional("foreignCount", foreign === undefined ? undefined : foreignCount(container, foreign)),
    ...optional("companion", request === undefined ? companionProfile(container, declared.devices) : undefined),
    ...optional("rule", rule),
    ...readSizes(command, engine),
    ...readPorts(container, command, engine),
    ...optional("blockSize", readBlockSize(command, engine)),
    ...optional("maxSequences", number(integerFlag(command.flags, engine.names.maxSequences))),
    dataParallelMode: readDataParallelMode(command),
    ...optional("transfer", transfer),
    ...optional("events", readEvents(command.flags, engine.id)),
  };
}

/** Starts Ray and no engine: Ray runs the leader's here. */
export const joinsRay = ({ container, command }: Inferred): boolean => !command.found && startsRay(container);

/** First port of the connector as the template names it: in the environment, or in the configuration. */
export function givenKvPort({ container, transfer, engine }: Inferred, connector: Connector): number | undefined {
  const name = connectorProfile(connector, engine.id)?.portEnv;
  const named = container.env?.find((item) => item.name === name)?.value;
  const port = name === undefined ? (transfer?.port ?? 0) : Number(named);
  return Number.isInteger(port) && port > 0 && port < 65536 ? port : undefined;
}

/** Module of the connector class, for engine images that do not register it. */
export const connectorModule = (inferred: Inferred, connector: Connector): string | undefined =>
  inferred.engine.id === "vllm-ascend" ? mooncakeModule(inferred.container.image ?? "", connector) : undefined;
