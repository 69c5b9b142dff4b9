/** Ascend, by MindCluster's device plugin and by Huawei CCE's. */
import { even, profile, transferMount, upTo, type CountRule, type DeviceProfile } from "./profile.ts";

const rule = (value: string, product: string, perNode: number, counts: readonly number[]): CountRule => ({
  label: "accelerator-type",
  value,
  product,
  counts: [...counts],
  perNode,
  annotations: {},
});

/** Affinity rules of the Ascend scheduler plugin: counts that fit an HCCS ring, a box of 16, or modules of two dies. */
export const ASCEND_RULES: readonly CountRule[] = [
  rule("module", "910A, 8 a node", 8, [1, 2, 4, 8]),
  rule("module-910b-8", "910B, 8 a node", 8, upTo(8)),
  rule("module-910b-16", "910B, 16 a node", 16, [...upTo(8), 10, 12, 14, 16]),
  rule("module-a3-16", "A3, 16 a node", 16, [1, ...even(16)]),
  rule("module-a3-16-super-pod", "A3 super pod, 16 a node", 16, [1, ...even(16)]),
];

/** Not in the base list of Ascend Docker Runtime, and read by the transfer engine to find the device network. */
const TRANSFER_MOUNTS = [
  transferMount("tandem-hccn-conf", "/etc/hccn.conf", "File"),
  transferMount("tandem-ascend-tools", "/usr/local/Ascend/driver/tools", "Directory"),
  transferMount("tandem-ascend-version", "/usr/local/Ascend/driver/version.info", "File"),
  transferMount("tandem-ascend-install", "/etc/ascend_install.info", "File"),
];

export const ASCEND: readonly DeviceProfile[] = [
  profile({
    name: "mindcluster-910",
    resource: "huawei.com/Ascend910",
    fabric: "ascend-910",
    vendor: "ascend",
    mounts: TRANSFER_MOUNTS,
    rules: [...ASCEND_RULES],
    podGroup: "instance",
  }),
  profile({
    name: "cce-910",
    resource: "huawei.com/ascend-1980",
    fabric: "ascend-910",
    vendor: "ascend",
    requestsEqualLimits: true,
    mounts: TRANSFER_MOUNTS,
    rules: [...ASCEND_RULES],
  }),
];
