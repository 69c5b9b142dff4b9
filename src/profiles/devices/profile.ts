/** How a built-in profile is written: what differs from the defaults of the schema. */
import type { CompanionResource, DeviceProfile, HostMount } from "../../config/devices.ts";

export type { CompanionResource, CountRule, DeviceProfile, HostMount } from "../../config/devices.ts";

/** The defaults of `DeviceProfileSchema`; a test compares. */
const DEFAULTS: Omit<DeviceProfile, "name" | "resource" | "fabric"> = {
  companions: [],
  vendor: "other",
  share: false,
  measures: "devices",
  unit: 1,
  counts: [],
  rules: [],
  allocated: [],
  requestsEqualLimits: false,
  runtimeClassName: "",
  nodeSelector: {},
  labels: {},
  annotations: {},
  env: {},
  mounts: [],
  podGroup: "cell",
  scheduler: "any",
};

export type Given = Pick<DeviceProfile, "name" | "resource"> & Partial<DeviceProfile>;

/** A complete profile; one without a fabric is its own. */
export const profile = (given: Given): DeviceProfile => ({
  ...DEFAULTS,
  ...given,
  fabric: given.fabric === undefined || given.fabric === "" ? given.name : given.fabric,
});

export const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
export const even = (count: number): number[] => upTo(count / 2).map((half) => half * 2);

/** A resource beside the device, recognised only; amounts up to `largestPart` are part of one device. */
export const companion = (resource: string, more: Partial<CompanionResource> = {}): CompanionResource => ({
  resource,
  amount: "",
  largestPart: 0,
  annotations: {},
  ...more,
});

/** Read by an engine for KV transfer between pods, and not brought in by the container runtime. */
export const transferMount = (name: string, path: string, type: HostMount["type"]): HostMount => ({
  name,
  path,
  type,
  for: "transfer",
});
