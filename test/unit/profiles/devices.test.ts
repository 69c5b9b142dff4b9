import t from "tap";
import Value from "typebox/value";
import { DeviceProfileSchema } from "../../../src/config/devices.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Affinity, PodSpec, ResourceRequirements } from "../../../src/kinds/kube.ts";
import { BUILT_IN, configuredDevices, deviceProfile, type Devices } from "../../../src/profiles/devices.ts";
import { countRule, handsOut, mooncakePort, reservedPorts, rounded } from "../../../src/profiles/devices/product.ts";
import { profile, type CountRule } from "../../../src/profiles/devices/profile.ts";
import { companionProfile, deviceRequest, foreignRequest } from "../../../src/profiles/devices/request.ts";

const devices: Devices = { defaultProfile: "nvidia", profiles: BUILT_IN };

const asked = (resources: ResourceRequirements, of = devices): string => {
  const found = deviceRequest({ name: "c", resources }, of);
  return found === undefined ? "none" : `${found.count} x ${found.resource} of ${found.device.name}`;
};

t.test("every dialect is recognised by its resource and what goes with it", (t) => {
  const cases: readonly [limits: Record<string, string | number>, expected: string][] = [
    [{ "nvidia.com/gpu": 8 }, "8 x nvidia.com/gpu of nvidia"],
    [{ "nvidia.com/mig-3g.40gb": 2 }, "2 x nvidia.com/mig-3g.40gb of nvidia-mig"],
    [{ "nvidia.com/mig-1g.10gb": 1, "nvidia.com/mig-2g.20gb": 2 }, "3 x nvidia.com/mig-1g.10gb of nvidia-mig"],
    [{ "nvidia.com/gpu.shared": 1 }, "1 x nvidia.com/gpu.shared of nvidia-shared"],
    [{ "nvidia.com/gpumem": 20000, "nvidia.com/gpu": 1 }, "1 x nvidia.com/gpu of hami-nvidia"],
    [{ "nvidia.com/gpu": 2, "nvidia.com/gpumem-percentage": 50 }, "2 x nvidia.com/gpu of hami-nvidia"],
    [{ "nvidia.com/gpu": 2, "nvidia.com/gpucores": 30 }, "2 x nvidia.com/gpu of hami-nvidia"],
    [{ "volcano.sh/vgpu-number": 1, "volcano.sh/vgpu-memory": 3000 }, "1 x volcano.sh/vgpu-number of volcano-vgpu"],
    [{ "huawei.com/Ascend910": "16" }, "16 x huawei.com/Ascend910 of mindcluster-910"],
    [{ "huawei.com/Ascend310P": 1 }, "1 x huawei.com/Ascend310P of mindcluster-310p"],
    [{ "huawei.com/Ascend310": 1 }, "1 x huawei.com/Ascend310 of mindcluster-310"],
    [{ "huawei.com/npu": 8 }, "8 x huawei.com/npu of mindcluster-npu"],
    [{ "huawei.com/Ascend910-4c": 1 }, "1 x huawei.com/Ascend910-4c of mindcluster-910-vnpu"],
    [{ "huawei.com/Ascend310P-2c.1cpu": 1 }, "1 x huawei.com/Ascend310P-2c.1cpu of mindcluster-310p-vnpu"],
    [{ "huawei.com/npu-core": 4 }, "1 x huawei.com/npu-core of mindcluster-vnpu"],
    [{ "huawei.com/ascend-1980": 4 }, "4 x huawei.com/ascend-1980 of cce-910"],
    [{ "huawei.com/ascend-310": 1 }, "1 x huawei.com/ascend-310 of cce-310"],
    [{ "huawei.com/Ascend910A": 1, "huawei.com/Ascend910A-memory": 4369 }, "1 x huawei.com/Ascend910A of hami-910a"],
    [{ "huawei.com/Ascend910B2": 2 }, "2 x huawei.com/Ascend910B2 of hami-910b2"],
    [{ "huawei.com/Ascend910B3-memory": 1, "huawei.com/Ascend910B3": 1 }, "1 x huawei.com/Ascend910B3 of hami-910b3"],
    [{ "huawei.com/Ascend910B4": 2 }, "2 x huawei.com/Ascend910B4 of hami-910b4"],
    [{ "huawei.com/Ascend910B4-1": 2 }, "2 x huawei.com/Ascend910B4-1 of hami-910b4-1"],
    [{ "huawei.com/Ascend910C": 2 }, "2 x huawei.com/Ascend910C of hami-910c"],
    [{ "huawei.com/Ascend310P-core": 5, "huawei.com/Ascend310P": 1 }, "1 x huawei.com/Ascend310P of hami-310p"],
    [{ "amd.com/gpu": 8 }, "8 x amd.com/gpu of amd"],
    [{ "gpu.intel.com/i915": 1 }, "1 x gpu.intel.com/i915 of intel-i915"],
    [{ "gpu.intel.com/xe": 1 }, "1 x gpu.intel.com/xe of intel-xe"],
    [{ "habana.ai/gaudi": 8 }, "8 x habana.ai/gaudi of gaudi"],
    [{ "google.com/tpu": 4 }, "4 x google.com/tpu of google-tpu"],
    [{ "aws.amazon.com/neuron": 1 }, "1 x aws.amazon.com/neuron of aws-neuron"],
    [{ "aws.amazon.com/neuroncore": 2 }, "2 x aws.amazon.com/neuroncore of aws-neuroncore"],
    [{ memory: "8Gi", "nvidia.com/gpu": "0" }, "none"],
    [{ "nvidia.com/gpumem": 3000 }, "none"],
    [{ "deviceclass.resource.kubernetes.io/gpu": 1 }, "none"],
  ];
  for (const [limits, expected] of cases) {
    t.equal(asked({ limits }), expected, JSON.stringify(limits));
    t.equal(asked({ requests: limits }), expected, `requests ${JSON.stringify(limits)}`);
  }
  for (const { name } of BUILT_IN)
    t.ok(
      cases.some(([, expected]) => expected.endsWith(` of ${name}`)),
      `${name} has a case`,
    );
  t.end();
});

t.test("limits stand before requests, and the default decides between profiles of one resource", (t) => {
  const both = { limits: { "huawei.com/ascend-1980": "2" }, requests: { "huawei.com/ascend-1980": "1" } };
  t.equal(asked(both), "2 x huawei.com/ascend-1980 of cce-910");
  const hami: Devices = { ...devices, defaultProfile: "hami-nvidia" };
  t.equal(asked({ limits: { "nvidia.com/gpu": 2 } }, hami), "2 x nvidia.com/gpu of hami-nvidia");
  t.end();
});

t.test("what no profile knows is foreign, a companion alone is not", (t) => {
  const foreign = (resources: ResourceRequirements): string | undefined =>
    foreignRequest({ name: "c", resources }, devices);
  t.equal(foreign({ limits: { "huawei.com/Ascend910D": 1 } }), "huawei.com/Ascend910D");
  t.equal(
    foreign({ limits: { "deviceclass.resource.kubernetes.io/gpu": 1 } }),
    "deviceclass.resource.kubernetes.io/gpu",
  );
  t.equal(foreign({ claims: [{ name: "gpu" }] }), "a resource claim");
  t.equal(foreign({ limits: { "nvidia.com/gpu": 1 }, claims: [{ name: "nic" }] }), undefined);
  t.equal(foreign({ limits: { "nvidia.com/gpumem": 3000 } }), undefined);
  const alone = { name: "c", resources: { limits: { "nvidia.com/gpumem": 3000 } } };
  t.equal(companionProfile(alone, devices)?.name, "hami-nvidia");
  t.equal(foreign({ limits: { "rdma/roce_gdr": 1, cpu: 4 } }), undefined);
  t.end();
});

const on = (label: string, value: string): PodSpec => ({ containers: [], nodeSelector: { [label]: value } });

function ruleOf(name: string, spec: PodSpec): CountRule | undefined {
  const device = deviceProfile(name, devices);
  if (device === undefined) throw new Error(`no profile ${name}`);
  return countRule(device, spec);
}

t.test("counts follow the product that the pod selects", (t) => {
  const upTo8 = [1, 2, 3, 4, 5, 6, 7, 8];
  const even = [1, 2, 4, 6, 8, 10, 12, 14, 16];
  const box16 = [...upTo8, 10, 12, 14, 16];
  const cases: readonly [name: string, type: string, counts: readonly number[], perNode: number, whole: boolean][] = [
    ["mindcluster-910", "module", [1, 2, 4, 8], 8, false],
    ["mindcluster-910", "module-910b-8", upTo8, 8, false],
    ["mindcluster-910", "module-910b-16", box16, 16, false],
    ["mindcluster-910", "module-a3-16", even, 16, true],
    ["mindcluster-910", "module-a3-16-super-pod", even, 16, true],
    ["cce-910", "module-910b-16", box16, 16, false],
    ["mindcluster-npu", "850-Atlas-8p-8", [1, 2, 4, 8], 8, true],
    ["mindcluster-npu", "850-SuperPod-Atlas-8", [1, 2, 4, 8], 8, true],
    ["mindcluster-npu", "950-SuperPod-Atlas-8", upTo8, 8, true],
    ["mindcluster-npu", "350-Atlas-16", Array.from({ length: 16 }, (_, index) => index + 1), 16, false],
  ];
  for (const [name, type, counts, perNode, whole] of cases) {
    const rule = ruleOf(name, on("accelerator-type", type));
    const given = Array.from({ length: 20 }, (_, index) => index + 1).filter(
      (count) => rule !== undefined && handsOut(rule, count),
    );
    t.same(given, counts, `${name} on ${type}`);
    t.match(rule, { perNode, wholeNodes: whole });
  }
  t.equal(ruleOf("mindcluster-910", on("accelerator-type", "card")), undefined, "an unknown product never refuses");
  t.equal(ruleOf("nvidia", on("accelerator-type", "module")), undefined);
  t.same(ruleOf("mindcluster-910", on("node.kubernetes.io/npu.chip.name", "910B3"))?.counts, box16);
  t.same(ruleOf("mindcluster-910", on("node.kubernetes.io/npu.chip.name", "910A"))?.counts, [1, 2, 4, 8]);
  t.end();
});

t.test("a required node affinity names products too; one way out of them, and nothing is refused", (t) => {
  const affinity = (...terms: readonly (readonly string[])[]): PodSpec => {
    const nodeSelectorTerms = terms.map((values) => ({
      matchExpressions: [{ key: "accelerator-type", operator: "In" as const, values: [...values] }],
    }));
    const nodeAffinity: Affinity["nodeAffinity"] = {
      requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms },
    };
    return { containers: [], affinity: { nodeAffinity } };
  };
  t.same(ruleOf("mindcluster-910", affinity(["module"]))?.counts, [1, 2, 4, 8]);
  t.match(ruleOf("mindcluster-910", affinity(["module"], ["module-910b-8"])), {
    product: "910A, 8 a node or 910B, 8 a node",
    counts: [1, 2, 3, 4, 5, 6, 7, 8],
    perNode: 8,
  });
  t.match(ruleOf("mindcluster-910", affinity(["module", "module-a3-16-super-pod"])), { perNode: 16, annotations: {} });
  t.equal(ruleOf("mindcluster-910", affinity(["module", "card"])), undefined);
  t.equal(ruleOf("mindcluster-910", affinity(["module"], ["card"])), undefined);
  t.equal(ruleOf("mindcluster-910", { containers: [] }), undefined);
  const absent = {
    nodeSelectorTerms: [{ matchExpressions: [{ key: "accelerator-type", operator: "Exists" as const }] }],
  };
  const spec = {
    containers: [],
    affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: absent } },
  };
  t.equal(ruleOf("mindcluster-910", spec), undefined);
  t.end();
});

t.test("a module of two dies makes two of one", (t) => {
  const device = deviceProfile("hami-910c", devices);
  t.same(device === undefined ? [] : [1, 2, 4].map((count) => rounded(device, count)), [2, 2, 4]);
  t.end();
});

t.test("handshake ports stay clear of what the transfer library binds", (t) => {
  for (const perNode of [8, 16, undefined])
    t.ok(mooncakePort(perNode) > reservedPorts(perNode).last, `${String(perNode)} devices a node`);
  t.end();
});

t.test("built-in profiles are values of the schema, with its defaults", (t) => {
  for (const one of BUILT_IN) {
    t.same([...Value.Errors(DeviceProfileSchema, one)], [], one.name);
    t.not(one.env["ASCEND_VISIBLE_DEVICES"], "never", one.name);
    t.equal(one.runtimeClassName, "", `${one.name}: a runtime class is the operator's to name`);
  }
  t.equal(new Set(BUILT_IN.map(({ name }) => name)).size, BUILT_IN.length);
  const bare = { name: "mine", resource: "example.com/npu" };
  t.same(profile(bare), { ...(Value.Default(DeviceProfileSchema, { ...bare }) as object), fabric: "mine" });
  t.end();
});

t.test("profiles of the configuration join the built-in ones, or stand in their place", (t) => {
  const text = `admission: { defaultProfile: mine, profiles: [
    { name: mine, resource: example.com/npu, vendor: other },
    { name: nvidia, resource: nvidia.com/gpu, vendor: nvidia, runtimeClassName: nvidia }] }`;
  const { admission } = loadConfig({ text });
  const found = configuredDevices(admission);
  t.equal(found.profiles.length, BUILT_IN.length + 1);
  t.equal(deviceProfile("nvidia", found)?.runtimeClassName, "nvidia");
  t.equal(deviceProfile("mine", found)?.fabric, "mine");
  t.equal(asked({ limits: { "example.com/npu": 2 } }, found), "2 x example.com/npu of mine");
  t.equal(configuredDevices(admission), found, "worked out once");
  t.end();
});

t.test("a profile of the configuration is refused where a built-in one would be", (t) => {
  const problem = (entry: string): string => {
    try {
      loadConfig({ text: `admission: { profiles: [${entry}] }`, name: "c" });
      return "accepted";
    } catch (error) {
      return (error as Error).message;
    }
  };
  t.equal(problem("{ name: mine, resource: example.com/npu }"), "accepted");
  t.match(
    problem("{ name: Mine, resource: example.com/npu }"),
    /profiles\.0\.name: "Mine" is not accepted; give a DNS label/,
  );
  t.match(problem("{ name: mine, resource: npu }"), /profiles\.0\.resource: "npu" is not accepted/);
  t.match(problem("{ name: mine }"), /is not accepted/);
  t.match(problem("{ name: mine, resource: a.b/c, privileged: true }"), /profiles\.0\.privileged: unknown key/);
  t.match(
    problem("{ name: mine, resource: a.b/c, env: { ASCEND_VISIBLE_DEVICES: '0' } }"),
    /profiles\.0\.env\.ASCEND_VISIBLE_DEVICES: the name is not accepted here/,
  );
  t.match(problem("{ name: mine, resource: a.b/c, mounts: [{ name: m, path: etc }] }"), /mounts\.0\.path: "etc"/);
  t.match(problem("{ name: mine, resource: a.b/c, nodeSelector: { zone: 'a b' } }"), /nodeSelector\.zone/);
  t.match(problem("{ name: mine, resource: a.b/c, podGroup: pod }"), /podGroup: "pod" is not accepted; give one of/);
  t.match(problem("{ name: mine, resource: a.b/c, rules: [{ label: x, value: y, product: z }] }"), /rules\.0/);
  t.end();
});
