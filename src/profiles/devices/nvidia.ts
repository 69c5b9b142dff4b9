/** NVIDIA's own device plugin: whole devices. */
import { profile, type DeviceProfile } from "./profile.ts";

export const NVIDIA: readonly DeviceProfile[] = [
  profile({ name: "nvidia", resource: "nvidia.com/gpu", fabric: "nvidia", vendor: "nvidia" }),
];
