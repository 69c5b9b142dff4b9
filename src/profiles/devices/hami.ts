/**
 * Ascend by HAMi's device plugin, one resource for each chip. Volcano's `deviceshare` plugin reads the same names, so
 * that both schedulers hand them out.
 */
import { ascend } from "./ascend.ts";
import { companion, type CompanionResource, type DeviceProfile, type Given } from "./profile.ts";

/** Cores are told apart only by the soft slicing of hami-core. */
const SOFT = { annotations: { "huawei.com/vnpu-mode": "hami-core" } };

/** `-memory` counts MiB, rounded up to the next template; above the largest one it is the whole card. */
const companions = (resource: string, largestTemplate: number): CompanionResource[] => [
  companion(`${resource}-memory`, { largestPart: largestTemplate }),
  companion(`${resource}-core`, SOFT),
];

const chip = (name: string, largestTemplate: number, more: Partial<Given> = {}): DeviceProfile => {
  const resource = `huawei.com/Ascend${name}`;
  return ascend({
    name: `hami-${name.toLowerCase()}`,
    resource,
    companions: companions(resource, largestTemplate),
    labels: { "scheduling.x-k8s.io/pod-group": "{cell}" },
    ...more,
  });
};

/** Largest templates as in HAMi's default device configuration. */
export const HAMI_ASCEND: readonly DeviceProfile[] = [
  chip("910A", 17476),
  chip("910B2", 32768),
  chip("910B3", 32768),
  chip("910B4", 16384),
  chip("910B4-1", 32768),
  // A module of two dies: one is made two by HAMi's webhook, and three are refused.
  chip("910C", 0, { unit: 2 }),
  // Its name is MindCluster's too: without a companion the request is taken as MindCluster's.
  chip("310P", 12288, { fabric: "ascend-310p" }),
];
