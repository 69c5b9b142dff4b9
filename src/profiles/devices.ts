/**
 * Device profiles: the resource a container asks for, how many a node hands out together, and what else an engine on
 * that device needs from the pod.
 *
 * Data with small functions, one entry a device plugin. No profile sets a node selector or a runtime class: an extended
 * resource exists only on nodes that have the device, and the runtimes (`nvidia`, Ascend Docker Runtime) are the node's
 * default where they are needed; a name that the cluster does not have would make every pod unschedulable. None sets
 * ASCEND_VISIBLE_DEVICES: the device plugin owns it, and from an annotation it is right under one scheduler only.
 */
import { entry, type Container, type StringMap } from "../kinds/kube.ts";

/** A file or folder of the node that the engine reads. */
export interface HostMount {
  /** Name of the volume. */
  readonly name: string;
  readonly path: string;
  readonly type: "File" | "Directory";
}

/** Which counts of one pod a product hands out. */
export interface CountRule {
  /** Node label and value that tell the product, as a pod's node selector names them. */
  readonly label: string;
  readonly value: string;
  /** For messages. */
  readonly product: string;
  readonly counts: readonly number[];
  /** Devices of one node. */
  readonly perNode: number;
}

export interface DeviceProfile {
  readonly name: string;
  /** Extended resource of whole devices. */
  readonly resource: string;
  /** Devices that can reach each other's memory. */
  readonly fabric: string;
  readonly vendor: "nvidia" | "ascend";
  /** The device plugin wants requests written out and equal to limits. */
  readonly requestsEqualLimits: boolean;
  /** Read by the engine for KV transfer between pods, and not brought in by the container runtime. */
  readonly transferMounts: readonly HostMount[];
  readonly rules: readonly CountRule[];
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
const even = (count: number): number[] => upTo(count / 2).map((half) => half * 2);
const rule = (value: string, product: string, perNode: number, counts: readonly number[]): CountRule => ({
  label: "accelerator-type",
  value,
  product,
  counts,
  perNode,
});

/** Affinity rules of the Ascend scheduler plugin: counts that fit an HCCS ring, a box of 16, or modules of two dies. */
const ASCEND_RULES: readonly CountRule[] = [
  rule("module", "910A, 8 a node", 8, [1, 2, 4, 8]),
  rule("module-910b-8", "910B, 8 a node", 8, upTo(8)),
  rule("module-910b-16", "910B, 16 a node", 16, [...upTo(8), 10, 12, 14, 16]),
  rule("module-a3-16", "A3, 16 a node", 16, [1, ...even(16)]),
  rule("module-a3-16-super-pod", "A3 super pod, 16 a node", 16, [1, ...even(16)]),
];

/** Not in the base list of Ascend Docker Runtime, and read by the transfer engine to find the device network. */
const ASCEND_TRANSFER_MOUNTS: readonly HostMount[] = [
  { name: "tandem-hccn-conf", path: "/etc/hccn.conf", type: "File" },
  { name: "tandem-ascend-tools", path: "/usr/local/Ascend/driver/tools", type: "Directory" },
  { name: "tandem-ascend-version", path: "/usr/local/Ascend/driver/version.info", type: "File" },
  { name: "tandem-ascend-install", path: "/etc/ascend_install.info", type: "File" },
];

export const DEVICES: readonly DeviceProfile[] = [
  {
    name: "nvidia",
    resource: "nvidia.com/gpu",
    fabric: "nvidia",
    vendor: "nvidia",
    requestsEqualLimits: false,
    transferMounts: [],
    rules: [],
  },
  {
    name: "mindcluster-910",
    resource: "huawei.com/Ascend910",
    fabric: "ascend-910",
    vendor: "ascend",
    requestsEqualLimits: false,
    transferMounts: ASCEND_TRANSFER_MOUNTS,
    rules: ASCEND_RULES,
  },
  {
    name: "cce-910",
    resource: "huawei.com/ascend-1980",
    fabric: "ascend-910",
    vendor: "ascend",
    requestsEqualLimits: true,
    transferMounts: ASCEND_TRANSFER_MOUNTS,
    rules: ASCEND_RULES,
  },
];

export const DEVICE_NAMES: readonly string[] = DEVICES.map((device) => device.name);

/** The profile of a name; undefined for one that no profile has. */
export const deviceProfile = (name: string): DeviceProfile | undefined =>
  DEVICES.find((device) => device.name === name);

/** What a container asks of a resource that some profile knows. */
export interface DeviceRequest {
  readonly device: DeviceProfile;
  readonly count: number;
}

const quantity = (map: Container["resources"], of: "limits" | "requests", resource: string): number | undefined => {
  const value = map?.[of] ?? {};
  return Object.hasOwn(value, resource) ? Number(value[resource]) : undefined;
};

/** The device request of a container, limits before requests; undefined where it has none. */
export function deviceRequest(container: Container): DeviceRequest | undefined {
  for (const device of DEVICES) {
    const asked = (of: "limits" | "requests"): number | undefined => quantity(container.resources, of, device.resource);
    const count = asked("limits") ?? asked("requests");
    if (count !== undefined && Number.isInteger(count) && count > 0) return { device, count };
  }
  return undefined;
}

/** Slices, shared devices and other plugins' names (HAMi, vNPU, DRA drivers): accelerators, but not of a profile. */
const OTHER_DEVICES =
  /^(nvidia\.com\/(gpu\.shared|mig-)|huawei\.com\/|volcano\.sh\/vgpu|amd\.com\/gpu|gpu\.intel\.com\/|habana\.ai\/|google\.com\/tpu|aws\.amazon\.com\/neuron)/;

/** What a container asks for that is an accelerator of no profile: a resource, or a claim. Never to be asked for twice. */
export function foreignRequest(container: Container): string | undefined {
  if (deviceRequest(container) !== undefined) return undefined;
  const { limits, requests, claims } = container.resources ?? {};
  const named = Object.keys({ ...limits, ...requests }).find((name) => OTHER_DEVICES.test(name) && !isProfiled(name));
  return named ?? (Array.isArray(claims) && claims.length > 0 ? "a resource claim" : undefined);
}

const isProfiled = (resource: string): boolean => DEVICES.some((device) => device.resource === resource);

/** The product that a pod's node selector names, if a rule knows it. */
export const countRule = (device: DeviceProfile, nodeSelector: StringMap | undefined): CountRule | undefined =>
  device.rules.find((candidate) => entry(nodeSelector, candidate.label) === candidate.value);

/**
 * First handshake port of the Mooncake connector: clear of the [20000, 20000 + 1000 x devices of the node) that
 * AscendDirectTransport binds at random. On nodes of 8 it stays below Linux's ephemeral ports, which begin at 32768.
 */
export const mooncakePort = (perNode: number | undefined): number => (perNode === 8 ? 28000 : 36000);

/** Ports that AscendDirectTransport may bind by itself on a node of so many devices; 16 where that is not known. */
export const reservedPorts = (perNode: number | undefined): { readonly first: number; readonly last: number } => ({
  first: 20000,
  last: 20000 + 1000 * (perNode ?? 16) - 1,
});
