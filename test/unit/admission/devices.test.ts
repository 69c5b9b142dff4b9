import t from "tap";
import fc from "fast-check";
import { stringify } from "yaml";
import { admitAll } from "../../../src/cli/admit.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Container, KubeObject, PodSpec, ResourceRequirements, StringMap } from "../../../src/kinds/kube.ts";
import { isDenied } from "../../../src/kinds/verdict.ts";
import { BUILT_IN } from "../../../src/profiles/devices.ts";

type Quantities = Readonly<Record<string, string | number>>;

interface Case {
  readonly image?: string;
  readonly tp?: number;
  readonly resources?: ResourceRequirements;
  readonly annotations?: StringMap;
  readonly podAnnotations?: StringMap;
  readonly pod?: Partial<PodSpec>;
  /** Other objects of the snapshot. */
  readonly others?: readonly KubeObject[];
  /** YAML below `admission`. */
  readonly admission?: string;
}

const ASCEND = "ascend/vllm-ascend:v0.18.0";

function deployment({ image = "vllm/vllm-openai:v0.13.0", tp = 1, ...one }: Case): KubeObject {
  const container = {
    name: "engine",
    image,
    command: ["vllm", "serve", "m", "--tensor-parallel-size", String(tp)],
    ...(one.resources === undefined ? {} : { resources: one.resources }),
  };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: "d",
      namespace: "default",
      labels: { "tandem.sh/model": "m", "tandem.sh/role": "prefill" },
      annotations: { ...one.annotations },
    },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: "d" } },
      template: {
        metadata: { labels: { app: "d" }, annotations: { ...one.podAnnotations } },
        spec: { ...one.pod, containers: [container] },
      },
    },
  };
}

const node = (name: string, allocatable: Quantities, labels: StringMap = {}): KubeObject => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name, labels: { ...labels } },
  status: { allocatable },
});

interface Outcome {
  readonly told: readonly string[];
  readonly denied: boolean;
  readonly template: { readonly spec: PodSpec };
  readonly pod: KubeObject & { readonly spec: PodSpec };
}

function admit(one: Case): Outcome {
  const config = loadConfig({ text: `admission: ${one.admission ?? "{}"}` });
  const admitted = admitAll([...(one.others ?? []), deployment(one)], config.admission, true);
  const workload = admitted.find(({ before }) => before.kind === "Deployment");
  const pod = admitted.find(({ before }) => before.kind === "Pod");
  const verdicts = workload?.result.verdicts ?? [];
  return {
    told: verdicts.map(({ outcome, reason, message }) => `${outcome} ${reason}: ${message}`),
    denied: verdicts.some(isDenied),
    template: (workload?.result.object as unknown as { spec: { template: { spec: PodSpec } } }).spec.template,
    pod: pod?.result.object as unknown as Outcome["pod"],
  };
}

const engineOf = ({ spec }: { readonly spec: PodSpec }): Container => spec.containers[0] ?? { name: "" };
const limits = (limits: Quantities): { resources: ResourceRequirements } => ({ resources: { limits: { ...limits } } });
const product = (type: string): { pod: Partial<PodSpec> } => ({ pod: { nodeSelector: { "accelerator-type": type } } });

t.test("counts that no device plugin would hand out are denied, with what it does", (t) => {
  const cases: readonly [title: string, one: Case, expected: RegExp | undefined][] = [
    [
      "a ring of four",
      { image: ASCEND, tp: 3, ...product("module"), ...limits({ "huawei.com/Ascend910": 3 }) },
      /910A.*gets 1, 2, 4, 8/,
    ],
    [
      "9 of a box of 16",
      { image: ASCEND, tp: 9, ...product("module-910b-16"), ...limits({ "huawei.com/Ascend910": 9 }) },
      /gets 1.*10, 12, 14, 16/,
    ],
    [
      "half a module",
      { image: ASCEND, tp: 3, ...product("module-a3-16"), ...limits({ "huawei.com/Ascend910": 3 }) },
      /A3, 16 a node/,
    ],
    [
      "an even A3",
      { image: ASCEND, tp: 6, ...product("module-a3-16"), ...limits({ "huawei.com/Ascend910": 6 }) },
      undefined,
    ],
    [
      "by injection too",
      { image: ASCEND, tp: 5, ...product("module-a3-16"), annotations: { "tandem.sh/accelerator": "mindcluster-910" } },
      /5 x huawei.com.Ascend910 for container engine on A3, 16 a node .node label accelerator-type.:/,
    ],
    [
      "more than a node of no table",
      { image: ASCEND, tp: 9, ...product("350-Atlas-8"), ...limits({ "huawei.com/npu": 9 }) },
      /a node has 8/,
    ],
    ["two slices", { image: ASCEND, tp: 2, ...limits({ "huawei.com/Ascend910-4c": 2 }) }, /one pod gets 1$/],
    ["one slice", { image: ASCEND, ...limits({ "huawei.com/Ascend910-4c": 1 }) }, undefined],
    ["one die of a module", { image: ASCEND, ...limits({ "huawei.com/Ascend910C": 1 }) }, undefined],
    ["three dies", { image: ASCEND, tp: 3, ...limits({ "huawei.com/Ascend910C": 3 }) }, /1 or a multiple of 2/],
    [
      "part of two cards",
      { image: ASCEND, tp: 2, ...limits({ "huawei.com/Ascend910B3": 2, "huawei.com/Ascend910B3-memory": 16384 }) },
      /part of one device, but 2/,
    ],
    [
      "part of one card",
      { image: ASCEND, ...limits({ "huawei.com/Ascend910B3": 1, "huawei.com/Ascend910B3-memory": 16384 }) },
      undefined,
    ],
    [
      "two whole cards",
      { image: ASCEND, tp: 2, ...limits({ "huawei.com/Ascend910B3": 2, "huawei.com/Ascend910B3-memory": 65536 }) },
      undefined,
    ],
    ["too few", { tp: 4, ...limits({ "nvidia.com/gpu": 2 }) }, /sizes use 4/],
    ["too few of a DeviceClass", { tp: 4, ...limits({ "deviceclass.resource.kubernetes.io/gpu": 2 }) }, /sizes use 4/],
    ["enough of a DeviceClass", { tp: 2, ...limits({ "deviceclass.resource.kubernetes.io/gpu": 2 }) }, undefined],
    [
      "requests below limits",
      {
        resources: { limits: { "huawei.com/ascend-1980": 1 }, requests: { "huawei.com/ascend-1980": 2 } },
        image: ASCEND,
      },
      /must equal/,
    ],
    [
      "another vendor's engine",
      { image: ASCEND, ...limits({ "amd.com/gpu": 1 }) },
      /does not run on device profile amd/,
    ],
    [
      "a whole instance of parts of nodes",
      {
        image: ASCEND,
        tp: 16,
        ...product("module-a3-16"),
        annotations: { "tandem.sh/nodes-per-instance": "2" },
        ...limits({ "huawei.com/Ascend910": 8 }),
      },
      /over several nodes each pod must ask for 16/,
    ],
    [
      "another profile's request",
      { annotations: { "tandem.sh/accelerator": "nvidia-mig" }, ...limits({ "nvidia.com/gpu": 1 }) },
      /nvidia-mig, but nvidia.com\/gpu/,
    ],
    [
      "HAMi by name, whole card",
      { annotations: { "tandem.sh/accelerator": "hami-nvidia" }, ...limits({ "nvidia.com/gpu": 1 }) },
      undefined,
    ],
  ];
  for (const [title, one, expected] of cases) {
    const { told, denied } = admit(one);
    const denials = told.filter((line) => line.startsWith("denied"));
    if (expected === undefined) t.same(denials, [], title);
    else t.match(denials.join("\n"), expected, title);
    t.equal(denied, expected !== undefined, title);
  }
  t.end();
});

t.test("an unknown profile is denied with those there are", (t) => {
  const annotations = { "tandem.sh/accelerator": "mine" };
  const { told } = admit({ annotations });
  t.match(told.join("\n"), /denied InvalidAnnotation: tandem.sh\/accelerator: "mine" is not accepted; give nvidia, /);
  const profiles = "{ profiles: [{ name: mine, resource: example.com/npu }] }";
  t.equal(admit({ annotations, admission: profiles }).denied, false);
  t.end();
});

t.test("what no known node could give is denied; without such nodes nobody can tell", (t) => {
  const eight = node("n", { "nvidia.com/gpu": "8" });
  const bare = node("cpu", { cpu: "64" });
  t.match(
    admit({ tp: 16, others: [eight, bare] }).told.join("\n"),
    /denied.*16 x nvidia.com\/gpu: no node has more than 8/,
  );
  t.equal(admit({ tp: 8, others: [eight] }).denied, false);
  t.equal(admit({ tp: 16, others: [bare] }).denied, false);
  t.equal(admit({ tp: 16 }).denied, false);
  const small = node("small", { "nvidia.com/gpu": "1" }, { size: "small" });
  const two = { tp: 2, others: [eight, small] };
  t.equal(admit(two).denied, false);
  t.match(admit({ ...two, pod: { nodeSelector: { size: "small" } } }).told.join("\n"), /denied.*has more than 1/);
  t.equal(admit({ ...two, pod: { nodeSelector: { size: "none yet" } } }).denied, false);
  const terms = [{ matchExpressions: [{ key: "size", operator: "In" as const, values: ["none yet"] }] }];
  const affinity = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } };
  t.equal(admit({ tp: 16, others: [eight], pod: { affinity } }).denied, false, "a pool scaled to zero");
  t.match(admit({ tp: 16, others: [eight] }).told.join("\n"), /denied DevicesTooMany/);
  t.equal(admit({ tp: 16, others: [eight], annotations: { "tandem.sh/skip": "devices" } }).denied, false);
  const a3 = node("a3", { "huawei.com/Ascend910": "16" }, { "accelerator-type": "module-a3-16" });
  const three = { image: ASCEND, tp: 3, ...limits({ "huawei.com/Ascend910": 3 }) };
  t.match(admit({ ...three, others: [a3] }).told.join("\n"), /denied.*no node hands out so many.*A3/);
  const other = node("x", { "huawei.com/Ascend910": "8" });
  t.equal(admit({ ...three, others: [a3, other] }).denied, false);
  t.end();
});

t.test("a scheduler that would leave the pods without devices is warned about", (t) => {
  const share = limits({ "nvidia.com/gpu": 1, "nvidia.com/gpumem": 20000 });
  const volcano = { annotations: { "tandem.sh/scheduler": "volcano" } };
  const warned = (one: Case): string =>
    admit(one)
      .told.filter((line) => line.includes("SchedulerContradict"))
      .join("\n");
  t.match(warned({ ...share, ...volcano }), /own webhook names, not by volcano/);
  t.equal(warned(share), "");
  t.equal(warned({ ...share, pod: { schedulerName: "hami-scheduler" } }), "");
  t.match(warned(limits({ "volcano.sh/vgpu-number": 1 })), /handed out by Volcano/);
  t.equal(warned({ ...limits({ "volcano.sh/vgpu-number": 1 }), ...volcano }), "");
  const npu = { image: ASCEND, ...limits({ "huawei.com/Ascend910B3": 1 }) };
  t.equal(warned({ ...npu, ...volcano }), "", "Volcano hands these out itself");
  t.end();
});

t.test("cores of a shared NPU want the mode that counts them", (t) => {
  const one = { image: ASCEND, ...limits({ "huawei.com/Ascend910B3": 1, "huawei.com/Ascend910B3-core": 10 }) };
  t.match(admit(one).told.join("\n"), /warned.*huawei.com\/vnpu-mode: hami-core/);
  const podAnnotations = { "huawei.com/vnpu-mode": "hami-core" };
  t.notMatch(admit({ ...one, podAnnotations }).told.join("\n"), /vnpu-mode/);
  t.end();
});

t.test("what a profile names reaches the workload and its pods, with the words filled in", (t) => {
  const mine = {
    name: "mine",
    resource: "example.com/npu",
    companions: [{ resource: "example.com/npu-memory", amount: "16Gi" }],
    requestsEqualLimits: true,
    runtimeClassName: "mine-runtime",
    nodeSelector: { "example.com/kind": "fast" },
    labels: { "example.com/cell": "{cell}" },
    annotations: { "example.com/block": "{devices} of {instance}" },
    env: { MINE: "1" },
    mounts: [
      { name: "mine-driver", path: "/opt/mine", type: "Directory" },
      { name: "mine-net", path: "/etc/mine.conf", type: "File", for: "transfer" },
    ],
  };
  const admission = stringify({ defaultProfile: "mine", profiles: [mine] }, { collectionStyle: "flow" });
  const { template, pod } = admit({ tp: 4, admission });
  const wanted = { "example.com/npu": "4", "example.com/npu-memory": "16Gi" };
  t.match(engineOf(template).resources, { limits: wanted, requests: wanted });
  t.match(template.spec, { runtimeClassName: "mine-runtime", nodeSelector: { "example.com/kind": "fast" } });
  t.match(pod.metadata.labels, { "example.com/cell": /^tandem-m-0-[0-9a-f]{8}$/ });
  t.match(pod.metadata.annotations, { "example.com/block": "4 of 4" });
  t.match(
    engineOf(pod).env?.filter(({ name }) => name === "MINE"),
    [{ name: "MINE", value: "1" }],
  );
  const paths = (one: Outcome["pod"]): unknown => engineOf(one).volumeMounts?.map(({ mountPath }) => mountPath);
  t.same(paths(pod), ["/dev/shm", "/opt/mine", "/etc/mine.conf"]);
  const alone = admit({ tp: 4, admission, annotations: { "tandem.sh/kv-connector": "none" } });
  t.same(paths(alone.pod), ["/dev/shm", "/opt/mine"], "nothing is transferred");
  t.end();
});

t.test("MindCluster's products get what its scheduler plugin asks for", (t) => {
  const annotations = (type: string, resource: string, more: Case = {}): StringMap | undefined =>
    admit({ image: ASCEND, tp: 8, ...product(type), ...limits({ [resource]: 8 }), ...more }).pod.metadata.annotations;
  t.match(annotations("module-a3-16-super-pod", "huawei.com/Ascend910"), { "sp-block": "8" });
  t.match(annotations("950-SuperPod-Atlas-8", "huawei.com/npu"), {
    "sp-block": "8",
    "ra-block": "8",
    "huawei.com/schedule_policy": "chip8-node8-ra64-sp",
  });
  t.match(annotations("850-Atlas-8p-8", "huawei.com/npu"), { "huawei.com/schedule_policy": "chip8-node8" });
  const own = { podAnnotations: { "sp-block": "16" } };
  t.match(
    annotations("module-a3-16-super-pod", "huawei.com/Ascend910", own),
    { "sp-block": "16" },
    "the user's stands",
  );
  const plain = annotations("module-910b-8", "huawei.com/Ascend910") ?? {};
  t.notOk(Object.hasOwn(plain, "sp-block") || Object.hasOwn(plain, "huawei.com/schedule_policy"));
  t.end();
});

t.test("a share that HAMi would complete is completed, whatever its scheduler", (t) => {
  const { template, pod } = admit(limits({ "nvidia.com/gpumem": 3000 }));
  t.same(engineOf(template).resources, { limits: { "nvidia.com/gpumem": 3000, "nvidia.com/gpu": "1" } });
  t.equal(template.spec.schedulerName, undefined, "its webhook names the scheduler");
  t.match(pod.metadata.labels, { "scheduling.x-k8s.io/pod-group": /^tandem-m-0-/ });
  t.end();
});

t.test("a profile that selects a product is bound by its counts", (t) => {
  const rules = [{ label: "example.com/box", value: "pair", product: "pair", counts: [1, 2], perNode: 2 }];
  const pair = { name: "pair", resource: "example.com/npu", nodeSelector: { "example.com/box": "pair" }, rules };
  const admission = stringify({ defaultProfile: "pair", profiles: [pair] }, { collectionStyle: "flow" });
  t.equal(admit({ tp: 2, admission }).denied, false);
  t.match(
    admit({ tp: 4, admission }).told.join("\n"),
    /denied.*4 x .* on pair \(node label [^)]+\): one pod gets 1, 2/,
  );
  t.end();
});

t.test("RDMA is asked for where the configuration names the site's, and memory may be locked", (t) => {
  const admission = "{ rdma: { resource: rdma/roce_gdr, count: 2 } }";
  const added = (one: Case): unknown => engineOf(admit(one).pod).securityContext;
  const { template, pod } = admit({ tp: 2, admission });
  t.match(engineOf(template).resources, { limits: { "nvidia.com/gpu": "2", "rdma/roce_gdr": "2" } });
  t.match(engineOf(pod).securityContext, { capabilities: { add: ["IPC_LOCK"] } });
  const own = admit({ ...limits({ "nvidia.com/gpu": 1, "vpc.amazonaws.com/efa": 4 }), admission });
  t.same(engineOf(own.template).resources, { limits: { "nvidia.com/gpu": 1, "vpc.amazonaws.com/efa": 4 } });
  t.match(engineOf(own.pod).securityContext, { capabilities: { add: ["IPC_LOCK"] } });
  t.equal(added({ admission: "{ rdma: { resource: rdma/roce_gdr, lockMemory: false } }" }), undefined);
  t.equal(added({}), undefined, "none is named");
  t.equal(added({ admission, annotations: { "tandem.sh/kv-connector": "none" } }), undefined, "nothing is transferred");
  t.equal(added({ admission, image: ASCEND, ...limits({ "huawei.com/Ascend910": 1 }) }), undefined, "its own network");
  t.end();
});

t.test("a slice that nobody asked for is not guessed", (t) => {
  for (const name of ["nvidia-mig", "mindcluster-vnpu"]) {
    const image = name === "nvidia-mig" ? undefined : ASCEND;
    const { told, template } = admit({
      annotations: { "tandem.sh/accelerator": name },
      ...(image === undefined ? {} : { image }),
    });
    t.match(told.join("\n"), /warned DevicesContradict: device profile .* write the request/);
    t.equal(engineOf(template).resources, undefined);
  }
  t.end();
});

const RESOURCES = [
  ...BUILT_IN.flatMap(({ resource, companions }) => [
    resource.replace("*", "4c"),
    ...companions.map((one) => one.resource),
  ]),
  "deviceclass.resource.kubernetes.io/gpu",
  "rdma/roce_gdr",
  "cpu",
  "memory",
];
const quantities = fc.dictionary(fc.constantFrom(...RESOURCES), fc.constantFrom("1", "2", 8, "16384", "0"), {
  maxKeys: 4,
});
const requests = fc.record(
  { limits: quantities, requests: quantities, claims: fc.constant([{ name: "gpu" }]) },
  { requiredKeys: [] },
);

const keeps = (before: ResourceRequirements, after: ResourceRequirements | undefined): boolean =>
  (["limits", "requests"] as const).every((side) =>
    Object.entries(before[side] ?? {}).every(([name, amount]) => after?.[side]?.[name] === amount),
  );

t.test(
  "a request that the user wrote is never changed, and nothing is asked for beside a device of no profile",
  (t) => {
    const admission = "{ rdma: { resource: rdma/site } }";
    const property = fc.property(
      requests,
      fc.constantFrom(ASCEND, undefined),
      fc.integer({ min: 1, max: 8 }),
      (resources, image, tp) => {
        const before: ResourceRequirements = structuredClone(resources);
        const { template, denied } = admit({ resources, tp, admission, ...(image === undefined ? {} : { image }) });
        const after = engineOf(template).resources;
        if (!keeps(before, after)) return false;
        const foreign =
          Object.keys({ ...before.limits, ...before.requests }).length === 0 && before["claims"] !== undefined;
        return denied || !foreign || JSON.stringify(after) === JSON.stringify(before);
      },
    );
    t.doesNotThrow(() => fc.assert(property, { numRuns: 200 }));
    t.end();
  },
);
