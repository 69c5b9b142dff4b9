/**
 * The parts of a WorkloadSpec that a declaration and the template decide together: ports, sizes and devices, KV transfer.
 * A declaration wins over what the template tells; where both are explicit and differ, it is a denial.
 */
import type { Connector } from "../kinds/endpoint.ts";
import type { PodTemplate } from "../kinds/kube.ts";
import { ENGINE_ENV } from "../kinds/names.ts";
import { denied, warned, type Verdict } from "../kinds/verdict.ts";
import { CONNECTORS } from "../profiles/connectors.ts";
import { deviceNames, deviceProfile, type DeviceProfile, type Devices } from "../profiles/devices.ts";
import { countRule, mooncakePort } from "../profiles/devices/product.ts";
import { connectorModule, givenKvPort, type Inferred } from "./infer.ts";
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
}

type Ports = Pick<WorkloadSpec, "port" | "rankPorts">;

/** The serving port: declared, else the port named `http`, else `--port`, else the engine's. */
export function portsOf(reading: Reader, inferred: Inferred): Ports {
  const rankPorts = reading.read("rankPorts");
  const declared = reading.read("port");
  if (declared !== undefined && inferred.portFlag !== undefined && declared !== inferred.portFlag)
    reading.verdicts.push(
      denied("EngineContradict", `${KEYS.port.key} is ${declared}, but --port is ${inferred.portFlag}`),
    );
  const told = inferred.portHttp ?? inferred.portFlag ?? inferred.engine.port;
  return { port: declared ?? rankPorts?.first ?? told, ...(rankPorts === undefined ? {} : { rankPorts }) };
}

type DeviceFacts = Pick<
  WorkloadSpec,
  "parallelism" | "accelerator" | "device" | "acceleratorsPerPod" | "nodesPerInstance" | "sizesHidden"
>;

/** Sizes from declaration over arguments; devices from those, or from an existing request where a script hides them. */
export function devicesOf(reading: Reader, base: Base, devices: Devices): DeviceFacts {
  const { request } = base.inferred;
  const { given, hidden } = sizesOf(reading, base);
  const nodesPerInstance = reading.read("nodesPerInstance") ?? 1;
  const accelerator = acceleratorOf(reading, base.inferred, devices);
  const device = deviceProfile(accelerator, devices);
  const computed = hidden ? (request?.count ?? 0) : devicesPerPod(given, nodesPerInstance);
  return {
    parallelism: complete(given),
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
  if (declared === undefined) return recognised(inferred, devices.defaultProfile);
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

/** The profile of the request; beside an accelerator that no profile knows, none, so that nothing is asked for twice. */
const recognised = ({ request, foreign }: Inferred, defaultProfile: string): string =>
  request?.device.name ?? (foreign === undefined ? defaultProfile : "");

function sizesOf(reading: Reader, { inferred, mode }: Base): { given: GivenSizes; hidden: boolean } {
  const declared = reading.read("parallelism") ?? {};
  reading.verdicts.push(...sizeContradictions(declared, inferred.sizes));
  const hidden = inferred.sizesHidden && declared.tp === undefined;
  if (hidden && mode === "manage") reading.verdicts.push(hiddenSizes(inferred));
  return { given: { ...inferred.sizes, ...declared }, hidden };
}

const ONE: Parallelism = { tp: 1, pp: 1, dp: 1, dpLocal: 1, pcp: 1, expert: false };

/** vLLM runs all data-parallel ranks on the pod unless it is told how many are local. */
const complete = (given: GivenSizes): Parallelism => ({
  ...ONE,
  ...given,
  dpLocal: given.dpLocal ?? given.dp ?? 1,
});

/** Devices of one pod: tensor x pipeline x context x local data parallel size, spread over the pods of an instance. */
function devicesPerPod(given: GivenSizes, nodes: number): number {
  const { tp, pp, pcp, dp } = complete(given);
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

type Transfer = Pick<WorkloadSpec, "connector" | "compat" | "kvPort" | "connectorModule">;

export function transferOf(reading: Reader, base: Base, device: DeviceProfile | undefined): Transfer {
  const connector = connectorOf(reading, base);
  const port = givenKvPort(base.inferred, connector) ?? defaultKvPort(connector, base, device);
  const module = connectorModule(base.inferred, connector);
  return {
    connector,
    compat: reading.read("compat") ?? "",
    ...(port === undefined ? {} : { kvPort: port }),
    ...(module === undefined ? {} : { connectorModule: module }),
  };
}

function defaultKvPort(
  connector: Connector,
  { template }: Base,
  device: DeviceProfile | undefined,
): number | undefined {
  if (connector !== "mooncake") return CONNECTORS[connector]?.port;
  const rule = device === undefined ? undefined : countRule(device, template.spec);
  return mooncakePort(rule?.perNode);
}

/** Declared, else what the arguments load, else the engine's own for half of a managed pair. */
function connectorOf(reading: Reader, base: Base): Connector {
  const declared = reading.read("kvConnector");
  const { transfer } = base.inferred;
  const told = transfer?.connector;
  if (declared === undefined) {
    if (transfer !== undefined && told === undefined && base.mode === "manage")
      reading.verdicts.push(unknownClass(base.inferred));
    return told ?? undeclared(reading, base);
  }
  if (told !== undefined && declared !== told)
    reading.verdicts.push(denied("KvContradict", `${KEYS.kvConnector.key} is ${declared}, the arguments load ${told}`));
  return declared;
}

/** An engine that loads an unknown class, serves alone or is left as it is transfers nothing that we know of. */
function undeclared(reading: Reader, { mode, role, inferred, skip }: Base): Connector {
  const left = mode !== "manage" || skip.includes("kv") || inferred.transfer !== undefined;
  if (left || role === "both") return "none";
  if (!inferred.command.found || !inferred.command.opaque || passesOurs(inferred)) return inferred.engine.connector;
  reading.verdicts.push(loadsNone(inferred));
  return "none";
}

/** A script that can be read and hands our variable on, to the engine or to a script of its own. */
const passesOurs = ({ command }: Inferred): boolean => command.script.includes(ENGINE_ENV.kvTransferConfig);

const loadsNone = ({ container }: Inferred): Verdict =>
  warned(
    "EngineOpaque",
    `script of ${container.name} loads no KV connector; pass --kv-transfer-config "$${ENGINE_ENV.kvTransferConfig}"`,
  );

const unknownClass = (inferred: Inferred): Verdict =>
  warned(
    "KvContradict",
    `kv_connector ${inferred.transfer?.className ?? "(unreadable)"} is not known; give ${KEYS.kvConnector.key}`,
  );
