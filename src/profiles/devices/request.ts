/** What a container asks for: the resource of a profile, or an accelerator that no profile knows. */
import { isObject, type Container, type ResourceRequirements } from "../../kinds/kube.ts";
import type { Devices } from "../devices.ts";
import type { CompanionResource, DeviceProfile } from "./profile.ts";

/** What a container asks of a resource that some profile knows. */
export interface DeviceRequest {
  readonly device: DeviceProfile;
  /** The name as it is written; the profile's may stand for several. */
  readonly resource: string;
  /** Devices, whatever the resource counts. */
  readonly count: number;
}

/** The amount as written, limits before requests; undefined where there is none. */
export function askedAmount({ resources }: Container, resource: string): string | undefined {
  const of = (map: ResourceRequirements["limits"]): string | number | undefined =>
    isObject(map) && Object.hasOwn(map, resource) ? map[resource] : undefined;
  const amount = of(resources?.limits) ?? of(resources?.requests);
  return amount === undefined ? undefined : String(amount);
}

/** Devices of one resource: whole and above 0; undefined for anything else. */
function countOf(container: Container, resource: string): number | undefined {
  const count = Number(askedAmount(container, resource));
  return Number.isInteger(count) && count > 0 ? count : undefined;
}

/** Names of extended resources: Kubernetes' own have no slash. */
function names({ resources }: Container): string[] {
  const found = Object.keys(resources?.limits ?? {}).filter((name) => name.includes("/"));
  for (const name of Object.keys(resources?.requests ?? {}))
    if (name.includes("/") && !found.includes(name)) found.push(name);
  return found;
}

/** Whether a name is the resource, or one that its `*` stands for. */
export function matches(resource: string, name: string): boolean {
  const star = resource.indexOf("*");
  if (star === -1) return resource === name;
  const fits = name.startsWith(resource.slice(0, star)) && name.endsWith(resource.slice(star + 1));
  return fits && name.length >= resource.length;
}

/** Profiles by the resources they name, so that a container is not held against each of them. */
interface Index {
  readonly exact: ReadonlyMap<string, readonly DeviceProfile[]>;
  readonly patterns: readonly DeviceProfile[];
  readonly companions: ReadonlyMap<string, readonly DeviceProfile[]>;
  readonly companionPatterns: readonly DeviceProfile[];
}

const indexes = new WeakMap<readonly DeviceProfile[], Index>();

/** Worked out once for a list of profiles, which never changes. */
function indexOf({ profiles }: Devices): Index {
  const known = indexes.get(profiles);
  if (known !== undefined) return known;
  const beside = profiles.flatMap((device) => device.companions.map(({ resource }) => ({ resource, device })));
  const byName = Map.groupBy(beside, ({ resource }) => resource);
  const index = {
    exact: Map.groupBy(profiles, ({ resource }) => resource),
    patterns: profiles.filter(({ resource }) => resource.includes("*")),
    companions: new Map([...byName].map(([name, found]) => [name, found.map(({ device }) => device)])),
    companionPatterns: profiles.filter(({ companions }) => companions.some(({ resource }) => resource.includes("*"))),
  };
  indexes.set(profiles, index);
  return index;
}

/** The profiles that have a resource beside their device. */
const havingBeside = (name: string, { companions, companionPatterns }: Index): readonly DeviceProfile[] =>
  companions.get(name) ?? companionPatterns.filter((device) => isOf(device, name));

/** The profiles of a resource, by its exact name before one with `*`; a companion is no device of its own. */
function havingResource(name: string, index: Index): readonly DeviceProfile[] {
  const exact = index.exact.get(name);
  if (exact !== undefined) return exact;
  return havingBeside(name, index).length > 0 ? [] : index.patterns.filter((device) => matches(device.resource, name));
}

const isOf = ({ companions }: DeviceProfile, name: string): boolean =>
  companions.some(({ resource }) => matches(resource, name));

/** The device request of a container, limits before requests; undefined where it has none. */
export function deviceRequest(container: Container, devices: Devices): DeviceRequest | undefined {
  const all = names(container);
  for (const resource of all) {
    const device = profileOf(resource, all, devices);
    const count = countOf(container, resource);
    if (device !== undefined && count !== undefined) return { device, resource, count: total(container, device, all) };
  }
  return undefined;
}

/** Slices of several geometries add up; of a resource that counts cores any amount is one device. */
function total(container: Container, device: DeviceProfile, all: readonly string[]): number {
  if (device.measures === "cores") return 1;
  const ours = all.filter((name) => matches(device.resource, name) && !isOf(device, name));
  return ours.reduce((sum, name) => sum + (countOf(container, name) ?? 0), 0);
}

/** Of several profiles the one with most of the other names as companions, then the default, then the first. */
function profileOf(resource: string, all: readonly string[], devices: Devices): DeviceProfile | undefined {
  const { defaultProfile } = devices;
  const found = havingResource(resource, indexOf(devices));
  if (found.length < 2) return found[0];
  const rank = (device: DeviceProfile): number =>
    2 * all.filter((name) => isOf(device, name)).length + (device.name === defaultProfile ? 1 : 0);
  return found.toSorted((a, b) => rank(b) - rank(a))[0];
}

/** Names under which a container asks for a profile's devices. */
export const requestedNames = (container: Container, device: DeviceProfile): readonly string[] =>
  names(container).filter((name) => matches(device.resource, name) && !isOf(device, name));

/** The profile of a companion that is asked for without its device, as HAMi permits. */
export const companionProfile = (container: Container, devices: Devices): DeviceProfile | undefined =>
  names(container).flatMap((name) => havingBeside(name, indexOf(devices)))[0];

/** Companions of a profile that a container asks for. */
export const askedCompanions = (
  container: Container,
  device: DeviceProfile,
): readonly (CompanionResource & { readonly asked: string })[] =>
  device.companions.flatMap((one) => {
    const name = names(container).find((candidate) => matches(one.resource, candidate));
    return name === undefined ? [] : [{ ...one, resource: name, asked: askedAmount(container, name) ?? "" }];
  });

/** Served by a DRA driver of that DeviceClass, through a plain request. */
const DRA = "deviceclass.resource.kubernetes.io/";

/** Names of device plugins that no profile has (further HAMi chips, tiles): accelerators all the same. */
const OTHER_DEVICES =
  /^(nvidia\.com\/(gpu|mig-)|huawei\.com\/|volcano\.sh\/vgpu|amd\.com\/gpu|gpu\.intel\.com\/|habana\.ai\/|google\.com\/tpu|aws\.amazon\.com\/neuron|deviceclass\.resource\.kubernetes\.io\/)/;

/** What a container asks for that is an accelerator of no profile: a resource, or a claim. Never to be asked for twice. */
export function foreignRequest(container: Container, devices: Devices): string | undefined {
  if (deviceRequest(container, devices) !== undefined) return undefined;
  const index = indexOf(devices);
  const isKnown = (name: string): boolean =>
    havingResource(name, index).length > 0 || havingBeside(name, index).length > 0;
  const other = names(container).find((name) => OTHER_DEVICES.test(name) && !isKnown(name));
  const claims = container.resources?.["claims"];
  return other ?? (Array.isArray(claims) && claims.length > 0 ? "a resource claim" : undefined);
}

/** Devices of a foreign request: a DeviceClass counts them; what another plugin's resource counts is not known. */
export const foreignCount = (container: Container, resource: string): number | undefined =>
  resource.startsWith(DRA) ? countOf(container, resource) : undefined;
