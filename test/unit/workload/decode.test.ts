import t from "tap";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import type { KubeObject, Namespace } from "../../../src/kinds/kube.ts";
import { AUTOSCALING_PREFIX } from "../../../src/kinds/names.ts";
import { workloadSpec, type Decoded } from "../../../src/workload/decode.ts";
import { ALL_KEYS } from "../../../src/workload/keys.ts";

const LABELS = { "tandem.sh/model": "qwen", "tandem.sh/role": "prefill" };

const deployment = (container: object, annotations: object = {}, labels: object = {}): KubeObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "w", namespace: "n", labels: { ...LABELS, ...labels }, annotations: { ...annotations } },
  spec: { replicas: 2, template: { spec: { containers: [{ name: "engine", ...container }, { name: "sidecar" }] } } },
});

const decode = (object: KubeObject, namespace?: Namespace): Decoded =>
  workloadSpec(object, { devices: { defaultProfile: "nvidia", profiles: BUILT_IN }, namespace });

const GPU = { resources: { limits: { "nvidia.com/gpu": 4 } } };
const VLLM = { image: "vllm/vllm-openai:v0.11.0", args: ["--model", "Qwen/Q", "-tp", "4"], ...GPU };

t.test("everything can be read off the Deployment", (t) => {
  const { spec } = decode(deployment({ ...VLLM, ports: [{ name: "http", containerPort: 9000 }] }));
  t.match(spec, {
    mode: "manage",
    role: "prefill",
    group: "qwen",
    cell: "0",
    engine: "vllm",
    container: "engine",
    port: 9000,
    parallelism: { tp: 4, pp: 1, dp: 1, dpLocal: 1, pcp: 1, expert: false },
    accelerator: "nvidia",
    acceleratorsPerPod: 4,
    served: ["Qwen/Q"],
    connector: "nixl",
    kvPort: 5600,
    blockSize: 16,
    replicas: 2,
  });
  t.end();
});

t.test("devices of a pod: tensor x pipeline x context x local data parallel, over the pods of an instance", (t) => {
  const count = (args: string[], annotations: object = {}): number | undefined =>
    decode(deployment({ image: "vllm/vllm-openai", args }, annotations)).spec?.acceleratorsPerPod;
  t.equal(count(["-tp", "4", "-pp", "2"]), 8);
  t.equal(count(["-tp", "2", "-dp", "4"]), 8);
  t.equal(count(["-tp", "2", "-dp", "4", "-dpl", "2"]), 4);
  t.equal(count(["-tp", "16"], { "tandem.sh/nodes-per-instance": "2" }), 8);
  t.equal(count(["-tp", "2", "-dp", "8", "--data-parallel-rank", "3"]), 2);
  t.equal(count(["-tp", "2"], { "tandem.sh/accelerators-per-pod": "8" }), 8);
  t.end();
});

t.test("modes: by role, by annotation, for Pods by the carried intent", (t) => {
  const mode = (object: KubeObject): string | undefined => decode(object).spec?.mode;
  t.equal(mode(deployment(VLLM, {}, { "tandem.sh/role": "both" })), "route");
  t.equal(mode(deployment(VLLM, { "tandem.sh/mode": "observe" })), "observe");
  t.equal(mode(deployment(VLLM, { "tandem.sh/mode": "off" })), undefined);
  const pod = (annotations: Record<string, string>): KubeObject => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", labels: LABELS, annotations },
    spec: { containers: [{ name: "engine", ...VLLM }] },
  });
  t.equal(mode(pod({})), "route", "a bare labelled Pod");
  t.equal(mode(pod({ "status.tandem.sh/intent": "{}" })), "manage");
  t.equal(mode(pod({ "status.tandem.sh/intent": "not JSON" })), "route");
  const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { annotations: { "tandem.sh/mode": "route" } } };
  t.equal(decode(pod({ "status.tandem.sh/intent": "{}" }), namespace).spec?.mode, "manage", "the workload has decided");
  t.end();
});

t.test("the workload wins over its Namespace, both over the template", (t) => {
  const namespace: Namespace = {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { annotations: { "tandem.sh/compat": "ns", "tandem.sh/gang": "off" } },
  };
  const { spec } = decode(deployment(VLLM, { "tandem.sh/compat": "w" }), namespace);
  t.match(spec, { compat: "w", gang: { kind: "off" } });
  const bad = decode(deployment(VLLM), { ...namespace, metadata: { annotations: { "tandem.sh/gang": "x" } } });
  t.match(bad.verdicts[0]?.message, /^tandem.sh\/gang of the Namespace: "x" is not accepted/);
  t.end();
});

t.test("every key denies a bad value with its name, the value and what it accepts", (t) => {
  const bad: Record<string, string> = {
    "tandem.sh/compat": "\u0007",
    "tandem.sh/served-model": "x".repeat(257),
    "tandem.sh/topology-tier": "",
    "tandem.sh/container": "nobody",
  };
  for (const key of ALL_KEYS.filter((one) => !one.key.startsWith(AUTOSCALING_PREFIX))) {
    const value = bad[key.key] ?? "?!";
    const place = { [key.key]: value };
    const object = key.where === "label" ? deployment(VLLM, {}, place) : deployment(VLLM, place);
    const { spec, verdicts } = decode(object);
    t.equal(spec, undefined, key.key);
    const [first] = verdicts;
    t.equal(first?.outcome, "denied", key.key);
    t.ok(first?.message.includes(key.key) && first.message.includes("give "), first?.message ?? key.key);
  }
  t.end();
});

t.test("a role is needed, a container must exist, labels and annotations are not mixed up", (t) => {
  const roleless = deployment(VLLM);
  roleless.metadata.labels = { "tandem.sh/model": "qwen" };
  t.match(decode(roleless).verdicts, [
    { outcome: "denied", message: /tandem.sh\/role is missing; give prefill, decode/ },
  ]);
  t.match(decode(deployment(VLLM, { "tandem.sh/role": "decode" })).verdicts.at(-1), {
    reason: "UnknownKey",
    message: /is read as label, not as annotation/,
  });
  t.match(decode({ ...deployment(VLLM), spec: { template: {} } }).verdicts[0], { reason: "RequestMalformed" });
  t.match(decode({ ...deployment(VLLM), metadata: { name: "w" } }).verdicts, [{ reason: "NotOurs" }]);
  t.end();
});

t.test("declarations and arguments that differ are denied", (t) => {
  const messages = (annotations: object, args: string[]): string =>
    decode(deployment({ ...VLLM, args: ["--model", "m", ...args] }, annotations))
      .verdicts.map(({ message }) => message)
      .join("\n");
  t.match(messages({ "tandem.sh/parallelism": "tp=8" }, ["-tp", "4"]), /says tp=8, the arguments say 4/);
  t.match(messages({ "tandem.sh/port": "9000" }, ["--port", "8000"]), /port is 9000, but --port is 8000/);
  t.match(
    messages({ "tandem.sh/kv-connector": "mooncake" }, ["--kv-transfer-config", '{"kv_connector":"NixlConnector"}']),
    /kv-connector is mooncake, the arguments load nixl/,
  );
  t.end();
});

t.test("hidden sizes are not guessed", (t) => {
  const hidden = decode(deployment({ image: "vllm/vllm-openai", command: ["/start.sh"] }));
  t.match(hidden.spec, { sizesHidden: true, acceleratorsPerPod: 0, opaque: true });
  t.match(hidden.verdicts.at(-1), { outcome: "warned", reason: "EngineOpaque" });
  const requested = decode(deployment({ image: "vllm/vllm-openai", command: ["/start.sh"], ...GPU }));
  t.equal(requested.spec?.acceleratorsPerPod, 4);
  const declared = decode(
    deployment({ image: "vllm/vllm-openai", command: ["/start.sh"] }, { "tandem.sh/parallelism": "tp=2,ep=2" }),
  );
  t.match(declared.spec, { sizesHidden: undefined, acceleratorsPerPod: 2, parallelism: { tp: 2, expert: true } });
  t.end();
});

t.test("sizes that only the container will know are hidden, not 1", (t) => {
  const script = (text: string, more: object = {}): object => ({
    image: "vllm/vllm-openai",
    command: ["sh", "-c", text],
    ...more,
  });
  const cases: [container: object, tp: number | undefined][] = [
    [script("vllm serve m -tp 4"), 4],
    [script('vllm serve m "${ARGS[@]}"'), undefined],
    [script("vllm serve m $EXTRA_ARGS"), undefined],
    [script("vllm serve m --enforce-eager ${VLLM_OPTS}"), undefined],
    [script("vllm serve $MODEL --port $PORT"), 1],
    [script("vllm serve m -tp $((A * 2)) --seed 1"), undefined],
    [script("vllm serve m -tp `nproc`"), undefined],
    [script("vllm serve m -tp ${TP:-8}"), 8],
    [script("vllm serve m -tp ${TP:-8}", { envFrom: [{}] }), undefined],
    [script("vllm serve m -tp ${TP:-8}", { env: [{ name: "TP", valueFrom: { fieldRef: {} } }] }), undefined],
    [script("vllm serve m -tp ${TP:-8}", { env: [{ name: "TP", value: "2" }] }), 2],
    [{ image: "vllm/vllm-openai", args: ["--model", "m", "-tp", "auto"] }, undefined],
    [{ image: "vllm/vllm-openai", args: ["--model", "m", "--tensor-parallel-size=0"] }, undefined],
    [{ image: "vllm/vllm-openai", args: ["--model", "m", "$(EXTRA_ARGS)"] }, undefined],
  ];
  for (const [container, tp] of cases) {
    const { spec } = decode(deployment(container));
    t.equal(spec?.sizesHidden === true ? undefined : spec?.parallelism.tp, tp, JSON.stringify(container));
  }
  t.end();
});

t.test("the engine's container is the one with devices, else the one that is an engine, else the first", (t) => {
  const chosen = (...containers: object[]): string | undefined =>
    decode({ ...deployment({}), spec: { template: { spec: { containers } } } }).spec?.container;
  const proxy = { name: "proxy", image: "envoy" };
  t.equal(chosen(proxy, { name: "e", image: "vllm/vllm-openai" }), "e");
  t.equal(chosen(proxy, { name: "e", image: "mine", command: ["sh", "-c", "vllm serve m"] }), "e");
  t.equal(chosen({ name: "v", image: "vllm/vllm-openai" }, { name: "e", image: "mine", ...GPU }), "e");
  t.equal(chosen(proxy, { name: "e", image: "mine", resources: { claims: [{ name: "gpu" }] } }), "e");
  t.equal(chosen(proxy, { name: "e", image: "mine" }), "proxy");
  const router = { name: "router", image: "vllm/vllm-router:v0.1.0", args: ["--port", "8000"] };
  t.equal(chosen(router, { name: "e", image: "mine", command: ["vllm", "serve"] }), "e", "named after the engine");
  t.equal(
    chosen({ name: "s", image: "mine/vllm-downloader" }, { name: "e", image: "mine", args: ["vllm", "serve"] }),
    "e",
  );
  t.end();
});

t.test("an accelerator that no profile knows has none", (t) => {
  for (const resources of [
    { limits: { "huawei.com/Ascend910D": 1 } },
    { requests: { "deviceclass.resource.kubernetes.io/gpu.example.com": "8" } },
    { claims: [{ name: "gpu" }] },
  ])
    t.equal(
      decode(deployment({ image: "vllm/vllm-openai", resources })).spec?.accelerator,
      "",
      JSON.stringify(resources),
    );
  const shared = { limits: { "nvidia.com/gpu": 1, "nvidia.com/gpumem": 1000 } };
  t.match(decode(deployment({ image: "vllm/vllm-openai", resources: shared })).spec, { accelerator: "hami-nvidia" });
  t.end();
});

t.test("a tier is a number or a name, never a number that none has", (t) => {
  const tier = (text: string): unknown =>
    decode(deployment(VLLM, { "tandem.sh/topology-tier": text })).spec?.topologyTier;
  t.equal(tier("2"), 2);
  t.equal(tier("example.com/rack"), "example.com/rack");
  for (const text of ["-1", "1.5", "99999", "a b", "x".repeat(254)]) t.equal(tier(text), undefined, text.slice(0, 20));
  t.end();
});

t.test("under Kueue there is no gang of ours", (t) => {
  const { spec } = decode(deployment(VLLM, {}, { "kueue.x-k8s.io/queue-name": "q" }));
  t.same(spec?.gang, { kind: "off" });
  t.end();
});
