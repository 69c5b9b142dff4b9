/**
 * Device profiles: the resource a container asks for, how many a node hands out together, and what else an engine on
 * that device needs from the pod. Data of one schema: those built in, and those of `admission.profiles`.
 *
 * No built-in profile sets a node selector or a runtime class: an extended resource exists only on nodes that have the
 * device, and the runtimes (`nvidia`, Ascend Docker Runtime) are the node's default where they are needed; a name that
 * the cluster does not have would make every pod unschedulable. No profile can set ASCEND_VISIBLE_DEVICES or a
 * privileged container: the device plugin owns the first, and needs the second never.
 */
import type { Config } from "../config/schema.ts";
import { ASCEND } from "./devices/ascend.ts";
import { HAMI_ASCEND } from "./devices/hami.ts";
import { NVIDIA } from "./devices/nvidia.ts";
import { OTHERS } from "./devices/others.ts";
import { profile, type DeviceProfile } from "./devices/profile.ts";

export type { DeviceProfile } from "./devices/profile.ts";

export const BUILT_IN: readonly DeviceProfile[] = [...NVIDIA, ...ASCEND, ...HAMI_ASCEND, ...OTHERS];

/** The device profiles that count, and the one of a workload that names and requests none. */
export interface Devices {
  /** Name of a profile; empty where none is known. */
  readonly defaultProfile: string;
  readonly profiles: readonly DeviceProfile[];
  /** True where the configuration is not at hand: a name that is not among the profiles is believed. */
  readonly partial?: true;
}

/** For readers of what admission wrote, without its configuration. */
export const UNCONFIGURED: Devices = { defaultProfile: "", profiles: BUILT_IN, partial: true };

type Settings = Pick<Config["admission"], "defaultProfile" | "profiles">;

const known = new WeakMap<Settings, Devices>();

/** Built-in and configured profiles; a later one of the same name stands in the place of the earlier. */
export function configuredDevices(settings: Settings): Devices {
  const found = known.get(settings);
  if (found !== undefined) return found;
  const profiles = new Map([...BUILT_IN, ...settings.profiles.map(profile)].map((one) => [one.name, one]));
  const devices = { defaultProfile: settings.defaultProfile, profiles: [...profiles.values()] };
  known.set(settings, devices);
  return devices;
}

/** The profile of a name; undefined for one that no profile has. */
export const deviceProfile = (name: string, { profiles }: Devices): DeviceProfile | undefined =>
  profiles.find((device) => device.name === name);

export const deviceNames = ({ profiles }: Devices): readonly string[] => profiles.map(({ name }) => name);
