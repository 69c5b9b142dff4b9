/** What a container asks for: the resource of a profile, or an accelerator that no profile knows. */
import type { Container, ResourceRequirements } from "../../kinds/kube.ts";
import type { Devices } from "../devices.ts";
import type { DeviceProfile } from "./profile.ts";

/** What a container asks of a resource that some profile knows. */
export interface DeviceRequest {
  readonly device: DeviceProfile;
  /** The name as it is written; the profile's may stand for several. */
  readonly resource: string;
  /** Devices, whatever the resource counts. */
  readonly count: number;
}

const amountOf = (map: ResourceRequirements["limits"], resource: string): number | undefined =>
  map !== undefined && Object.hasOwn(map, resource) ? Number(map[resource]) : undefined;

const named = (container: Container): string[] => [
  ...new Set([...Object.keys(container.resources?.limits ?? {}), ...Object.keys(container.resources?.requests ?? {})]),
];

/** The device request of a container, limits before requests; undefined where it has none. */
export function deviceRequest(container: Container, devices: Devices): DeviceRequest | undefined {
  const names = named(container);
  for (const resource of names) {
    const device = profileOfResource(resource, names, devices);
    const amount = amountOf(container.resources?.limits, resource) ?? amountOf(container.resources?.requests, resource);
    if (device !== undefined && amount !== undefined && Number.isInteger(amount) && amount > 0)
      return { device, resource, count: device.measures === "cores" ? 1 : amount };
  }
  return undefined;
}

/** Whether a name is the resource, or one that its `*` stands for. */
export function matches(resource: string, name: string): boolean {
  const star = resource.indexOf("*");
  if (star === -1) return resource === name;
  return (
    name.length >= resource.length &&
    name.startsWith(resource.slice(0, star)) &&
    name.endsWith(resource.slice(star + 1))
  );
}

/**
 * Of the profiles with this resource the one that has most of the other names as companions; then that of the
 * configuration's default, then the first.
 */
function profileOfResource(resource: string, names: readonly string[], devices: Devices): DeviceProfile | undefined {
  const found = devices.profiles.filter((device) => matches(device.resource, resource));
  if (found.length < 2) return found[0];
  const companions = (device: DeviceProfile): number =>
    names.filter((name) => device.companions.some((companion) => matches(companion.resource, name))).length;
  const rank = (device: DeviceProfile): number =>
    companions(device) * 2 + (device.name === devices.defaultProfile ? 1 : 0);
  return found.toSorted((a, b) => rank(b) - rank(a))[0];
}

/** Slices, shared devices and other plugins' names: accelerators, but not of a profile. */
const OTHER_DEVICES =
  /^(nvidia\.com\/(gpu|mig-)|huawei\.com\/|volcano\.sh\/vgpu|amd\.com\/gpu|gpu\.intel\.com\/|habana\.ai\/|google\.com\/tpu|aws\.amazon\.com\/neuron|deviceclass\.resource\.kubernetes\.io\/)/;

/** What a container asks for that is an accelerator of no profile: a resource, or a claim. Never to be asked for twice. */
export function foreignRequest(container: Container, devices: Devices): string | undefined {
  if (deviceRequest(container, devices) !== undefined) return undefined;
  const other = named(container).find((name) => OTHER_DEVICES.test(name) && !isProfiled(name, devices));
  const claims = container.resources?.["claims"];
  return other ?? (Array.isArray(claims) && claims.length > 0 ? "a resource claim" : undefined);
}

const isProfiled = (name: string, { profiles }: Devices): boolean =>
  profiles.some(({ resource }) => matches(resource, name));
