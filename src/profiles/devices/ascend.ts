/** Ascend, by MindCluster's device plugin and scheduler plugin, and by Huawei CCE's device plugin. */
import { even, profile, transferMount, upTo, type CountRule, type DeviceProfile, type Given } from "./profile.ts";

/** Label of MindCluster's device plugin: the product of the node. */
const PRODUCT = "accelerator-type";
/** Label of the chip alone: it does not tell how many a node has. */
const CHIP = "node.kubernetes.io/npu.chip.name";
const POLICY = "huawei.com/schedule_policy";

type Told = Partial<CountRule> & Pick<CountRule, "value" | "product" | "perNode">;

const rule = (told: Told): CountRule => ({
  label: PRODUCT,
  counts: [],
  ring: 0,
  wholeNodes: false,
  annotations: {},
  ...told,
});

const BOX_16 = [...upTo(8), 10, 12, 14, 16];
/** A module has two dies, which go out together; one die alone is a job of its own. */
const A3 = { perNode: 16, counts: [1, ...even(16)], wholeNodes: true };
/** Devices of a logical super pod: those of the instance. */
const SUPER_POD = { "sp-block": "{instance}" };

/** Affinity rules of the Ascend scheduler plugin: counts that fit an HCCS ring of 4, a box of 16, or modules of two dies. */
const RULES_910: readonly CountRule[] = [
  rule({ value: "module", product: "910A, 8 a node", perNode: 8, counts: [1, 2, 4, 8], ring: 4 }),
  rule({ value: "module-910b-8", product: "910B, 8 a node", perNode: 8, counts: upTo(8) }),
  rule({ value: "module-910b-16", product: "910B, 16 a node", perNode: 16, counts: BOX_16 }),
  rule({ value: "module-a3-16", product: "A3, 16 a node", ...A3 }),
  rule({ value: "module-a3-16-super-pod", product: "A3 super pod, 16 a node", ...A3, annotations: SUPER_POD }),
  rule({ label: CHIP, value: "910A*", product: "910A", perNode: 8, counts: [1, 2, 4, 8] }),
  rule({ label: CHIP, value: "910B*", product: "910B", perNode: 16, counts: BOX_16 }),
];

/** These products have no default policy: without the annotation the scheduler plugin refuses the job. */
const policy = (name: string, more: CountRule["annotations"] = {}): Pick<CountRule, "annotations"> => ({
  annotations: { [POLICY]: name, ...more },
});
const ATLAS_850 = { perNode: 8, counts: [1, 2, 4, 8], wholeNodes: true };
const RACK = { ...SUPER_POD, "ra-block": "{devices}" };

/** What the device plugin gave, then what the scheduler plugin chose. */
const ALLOCATED = ["huawei.com/AscendReal", "huawei.com/Ascend910"];

const RULES_NPU: readonly CountRule[] = [
  rule({ value: "350-Atlas-8", product: "Atlas 350, 8 a node", perNode: 8, ...policy("chip1-node8") }),
  rule({ value: "350-Atlas-16", product: "Atlas 350, 16 a node", perNode: 16, ...policy("chip1-node16") }),
  rule({ value: "350-Atlas-4p-8", product: "Atlas 350, 8 a node in fours", perNode: 8, ...policy("chip4-node8") }),
  rule({ value: "350-Atlas-4p-16", product: "Atlas 350, 16 a node in fours", perNode: 16, ...policy("chip4-node16") }),
  rule({ value: "850-Atlas-8p-8", product: "Atlas 850", ...ATLAS_850, ...policy("chip8-node8") }),
  rule({
    value: "850-SuperPod-Atlas-8",
    product: "Atlas 850 super pod",
    ...ATLAS_850,
    ...policy("chip8-node8-sp", SUPER_POD),
  }),
  rule({
    value: "950-SuperPod-Atlas-8",
    product: "Atlas 950 super pod",
    perNode: 8,
    counts: upTo(8),
    wholeNodes: true,
    ...policy("chip8-node8-ra64-sp", RACK),
  }),
];

/** Not in the base list of Ascend Docker Runtime, and read by the transfer engine to find the device network. */
const TRANSFER_MOUNTS = [
  transferMount("tandem-hccn-conf", "/etc/hccn.conf", "File"),
  transferMount("tandem-ascend-tools", "/usr/local/Ascend/driver/tools", "Directory"),
  transferMount("tandem-ascend-version", "/usr/local/Ascend/driver/version.info", "File"),
  transferMount("tandem-ascend-install", "/etc/ascend_install.info", "File"),
];

/** Any Ascend device; HAMi's are made of it too. */
export const ascend = (given: Given): DeviceProfile =>
  profile({ fabric: "ascend-910", vendor: "ascend", mounts: TRANSFER_MOUNTS, ...given });

/** The scheduler plugin checks whole PodGroups and loses one with a pod of it; it keeps a service's near each other. */
const mindCluster = (given: Given): DeviceProfile =>
  ascend({ podGroup: "instance", labels: { inferserviceid: "{cell}" }, ...given });

/** A slice of a chip, made beforehand: a container gets one. */
const slice = (given: Given): DeviceProfile => mindCluster({ share: true, counts: [1], ...given });

export const ASCEND: readonly DeviceProfile[] = [
  mindCluster({
    name: "mindcluster-910",
    resource: "huawei.com/Ascend910",
    rules: [...RULES_910],
    allocated: ALLOCATED,
  }),
  mindCluster({ name: "mindcluster-npu", resource: "huawei.com/npu", fabric: "ascend-npu", rules: [...RULES_NPU] }),
  mindCluster({ name: "mindcluster-310p", resource: "huawei.com/Ascend310P", fabric: "ascend-310p" }),
  mindCluster({ name: "mindcluster-310", resource: "huawei.com/Ascend310", fabric: "ascend-310" }),
  // As huawei.com/Ascend910-4c, huawei.com/Ascend310P-2c.1cpu.
  slice({ name: "mindcluster-910-vnpu", resource: "huawei.com/Ascend910-*" }),
  slice({ name: "mindcluster-310p-vnpu", resource: "huawei.com/Ascend310P-*", fabric: "ascend-310p" }),
  slice({ name: "mindcluster-vnpu", resource: "huawei.com/npu-core", fabric: "ascend-310p", measures: "cores" }),
  ascend({
    name: "cce-910",
    resource: "huawei.com/ascend-1980",
    requestsEqualLimits: true,
    rules: RULES_910.map((one) => ({ ...one, annotations: {} })),
  }),
  ascend({
    name: "cce-310",
    resource: "huawei.com/ascend-310",
    fabric: "ascend-310",
    requestsEqualLimits: true,
  }),
];
