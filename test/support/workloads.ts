/** Random Deployments as people write them, for property tests of admission. */
import fc from "fast-check";
import type { HyperNode, Workload } from "../../src/kinds/kube.ts";

const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });

/** Drops what is undefined, as a manifest would. */
const defined = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;

const env = fc.uniqueArray(
  fc.constantFrom("VLLM_HOST_IP", "GLOO_SOCKET_IFNAME", "HF_HOME", "TANDEM_TP_SIZE", "TANDEM_KV_TRANSFER_CONFIG"),
  { maxLength: 3 },
);

/** What a container may ask for beside its memory: mostly a device that its engine runs on. */
const DEVICES = {
  vllm: ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpumem", "volcano.sh/vgpu-number", "amd.com/gpu"],
  ascend: ["huawei.com/Ascend910", "huawei.com/npu", "huawei.com/ascend-1980", "huawei.com/Ascend910C"],
} as const;
const mostly = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ arbitrary: usual, weight: 7 }, { arbitrary: odd, weight: 1 });
const limitsOf = (ascend: boolean): fc.Arbitrary<string> =>
  mostly<string>(
    fc.constantFrom(...DEVICES[ascend ? "ascend" : "vllm"]),
    fc.constantFrom("memory", ...DEVICES[ascend ? "vllm" : "ascend"]),
  );
const hardware = fc
  .boolean()
  .chain((ascend) => fc.record({ ascend: fc.constant(ascend), limits: maybe(limitsOf(ascend)) }));

const container = fc
  .record({
    hardware,
    engine: fc.constantFrom("args", "command", "script", "file"),
    tp: fc.constantFrom(1, 2, 4, 8),
    requests: maybe(fc.constant({ cpu: "4" })),
    env: maybe(env),
    port: maybe(fc.constantFrom(8000, 9000)),
    shm: fc.boolean(),
    own: fc.boolean(),
  })
  .map(({ hardware: { ascend, limits: device }, ...c }) => {
    const image = ascend ? "ascend/vllm-ascend:v0.18.0" : "vllm/vllm-openai:v0.11.0";
    const flags = ["--tensor-parallel-size", String(c.tp)];
    const own = c.own ? ["--kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'] : [];
    const start = {
      args: { args: ["--model", "m", ...flags, ...own] },
      command: { command: ["vllm", "serve", "m"], args: [...flags, ...own] },
      script: { command: ["sh", "-c", `exec vllm serve m ${flags.join(" ")}`] },
      file: { command: ["/start.sh"] },
    }[c.engine];
    const limits = device === undefined ? undefined : { [device]: device === "memory" ? "8Gi" : String(c.tp) };
    const resources = defined({ limits, requests: c.requests });
    return defined({
      name: "engine",
      image,
      ...start,
      env: c.env?.map((name) => ({ name, value: "given" })),
      ports: c.port === undefined ? undefined : [{ name: "http", containerPort: c.port }],
      resources: limits === undefined && c.requests === undefined ? undefined : resources,
      volumeMounts: c.shm ? [{ name: "shm", mountPath: "/dev/shm" }] : undefined,
    });
  });

const term = {
  weight: 7,
  podAffinityTerm: { labelSelector: { matchLabels: { app: "x" } }, topologyKey: "kubernetes.io/hostname" },
};

const affinity = fc.constantFrom(
  {},
  { podAffinity: {} },
  { podAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [term] } },
  { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } },
);

const annotations = fc.record(
  {
    "tandem.sh/scheduler": fc.constantFrom("keep", "volcano", "default"),
    "tandem.sh/topology": fc.constantFrom("required", "preferred", "off"),
    "tandem.sh/gang": fc.constantFrom("auto", "off", "prefill=1,decode=2"),
    "tandem.sh/queue": fc.constant("inference"),
    "tandem.sh/skip": fc.constantFrom("devices", "kv,engine", "scheduling"),
    "tandem.sh/compat": fc.constantFrom("a", "b"),
    "tandem.sh/mode": mostly<string>(fc.constant("manage"), fc.constantFrom("route", "observe", "off")),
    "example.com/other": fc.constant("x"),
  },
  { requiredKeys: [] },
);

export const workloads: fc.Arbitrary<Workload> = fc
  .record({
    role: mostly<string>(fc.constantFrom("prefill", "decode"), fc.constant("both")),
    group: maybe(fc.constantFrom("g1", "g2")),
    annotations: maybe(annotations),
    template: maybe(fc.constantFrom({}, { annotations: {} }, { annotations: { a: "b" } })),
    scheduler: maybe(fc.constantFrom("default-scheduler", "volcano", "other")),
    affinity: maybe(affinity),
    links: maybe(fc.boolean()),
    sidecar: fc.boolean(),
    container,
    replicas: fc.integer({ min: 1, max: 3 }),
  })
  .map((w) => {
    const labels = defined({ "tandem.sh/model": "m", "tandem.sh/role": w.role, "tandem.sh/group": w.group });
    const spec = defined({
      schedulerName: w.scheduler,
      affinity: w.affinity,
      enableServiceLinks: w.links,
      containers: w.sidecar ? [{ name: "sidecar", image: "envoy" }, w.container] : [w.container],
      volumes: w.container.volumeMounts === undefined ? undefined : [{ name: "shm", emptyDir: {} }],
    });
    return {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: defined({
        name: "w",
        namespace: "n",
        labels: labels as Record<string, string>,
        annotations: w.annotations,
      }),
      spec: {
        replicas: w.replicas,
        selector: { matchLabels: { app: "w" } },
        template: { metadata: { labels: { app: "w" }, ...w.template }, spec },
      },
    } as unknown as Workload;
  });

const leaf = (name: string, tier: number, key: string): HyperNode => ({
  apiVersion: "topology.volcano.sh/v1alpha1",
  kind: "HyperNode",
  metadata: { name },
  spec: { tier, members: [{ type: "Node", selector: { labelMatch: { matchLabels: { [key]: name } } } }] },
});

export const hyperNodes: fc.Arbitrary<readonly HyperNode[]> = fc.constantFrom(
  [],
  [leaf("l1", 1, "example.com/leaf"), leaf("l2", 1, "example.com/leaf")],
  [leaf("l1", 1, "example.com/leaf"), leaf("b1", 2, "example.com/block")],
);
