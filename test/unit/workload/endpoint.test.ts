import t from "tap";
import { admitObject, admitPod } from "../../../src/admission/admit.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Pod, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { endpointsOf } from "../../../src/workload/endpoint.ts";
import { podFromTemplate } from "../../../src/workload/template.ts";

/** A running Pod; what is given replaces fields of metadata, status and container. */
const pod = (over: { metadata?: object; status?: object; container?: object } = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: "decode-0",
    namespace: "n",
    uid: "u1",
    labels: { "tandem.sh/model": "qwen", "tandem.sh/role": "decode" },
    ...over.metadata,
  },
  spec: {
    containers: [{ name: "engine", image: "vllm/vllm-openai", args: ["--model", "Qwen/Q"], ...over.container }],
  },
  status: {
    podIP: "10.0.0.7",
    phase: "Running",
    conditions: [{ type: "Ready", status: "True" }],
    containerStatuses: [{ name: "engine", restartCount: 1, containerID: "containerd://abc" }],
    ...over.status,
  },
});

t.test("a bare labelled Pod is read off its own containers", (t) => {
  t.same(endpointsOf(pod()), [
    {
      id: "u1/0",
      address: "10.0.0.7:8000",
      name: "decode-0",
      namespace: "n",
      role: "decode",
      service: "qwen",
      group: "qwen",
      cell: "0",
      instance: "decode-0",
      dataParallelRank: 0,
      models: ["Qwen/Q"],
      compatibility: { connector: "none", engine: "vllm", tag: "", fabric: "", tensorParallel: 1, blockSize: 16 },
      draining: false,
      ready: true,
      bootId: "u1/1/containerd://abc",
    },
  ]);
  t.end();
});

t.test("a headless engine has no API server to route to, read off its arguments or told at admission", (t) => {
  const container = { args: ["--model", "m", "--headless"] };
  t.same(endpointsOf(pod({ container })), []);
  const intent = { "status.tandem.sh/intent": "{}" };
  const labels = { "tandem.sh/model": "qwen", "tandem.sh/role": "decode" };
  const context = { snapshot: EMPTY_SNAPSHOT, settings: loadConfig({}).admission };
  const admitted = admitPod(pod({ container, metadata: { labels, annotations: intent } }), context).object as Pod;
  t.equal(admitted.metadata.labels?.["tandem.sh/entry"], undefined);
  t.same(endpointsOf(admitted), []);
  t.end();
});

t.test("an admitted Pod says what its workload's contract is", (t) => {
  const settings = loadConfig({}).admission;
  const context = { snapshot: EMPTY_SNAPSHOT, settings };
  const workload: Workload = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: "w",
      labels: { "tandem.sh/model": "qwen", "tandem.sh/role": "prefill", "tandem.sh/group": "blue" },
      annotations: { "tandem.sh/compat": "v2", "tandem.sh/port": "9000" },
    },
    spec: {
      template: {
        spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m", "-tp", "2"] }] },
      },
    },
  };
  const admitted = admitObject(workload, context).object as Workload;
  const made = admitPod(podFromTemplate(admitted, "w-0"), context).object as Pod;
  const [endpoint] = endpointsOf({ ...made, status: { podIP: "fd00::1" } });
  t.match(endpoint, {
    address: "[fd00::1]:9000",
    group: "blue",
    models: ["m"],
    compatibility: { connector: "nixl", tag: "v2", fabric: "nvidia", tensorParallel: 2 },
    ready: false,
  });
  t.end();
});

t.test("pods that offer nothing", (t) => {
  const none: [string, Parameters<typeof pod>[0]][] = [
    ["no address yet", { status: { podIP: "" } }],
    ["over", { status: { phase: "Failed" } }],
    ["no role", { metadata: { labels: { "tandem.sh/model": "qwen" } } }],
    ["mode off", { metadata: { annotations: { "tandem.sh/mode": "off" } } }],
    [
      "node rank 1 of internal data parallelism",
      { metadata: { labels: { "tandem.sh/model": "q", "tandem.sh/role": "decode", "tandem.sh/node-rank": "1" } } },
    ],
  ];
  for (const [name, over] of none) t.same(endpointsOf(pod(over)), [], name);
  t.end();
});

t.test("each rank with an API server is an endpoint, and ranks go on over nodes", (t) => {
  const labels = { "tandem.sh/model": "q", "tandem.sh/role": "decode", "tandem.sh/node-rank": "1" };
  const annotations = { "tandem.sh/rank-ports": "8000+2" };
  const found = endpointsOf(pod({ metadata: { labels, annotations } }));
  t.same(
    found.map(({ address, dataParallelRank }) => [address, dataParallelRank]),
    [
      ["10.0.0.7:8000", 2],
      ["10.0.0.7:8001", 3],
    ],
  );
  t.equal(new Set(found.map(({ id }) => id)).size, 2);
  t.end();
});

t.test("draining, instance, boot id", (t) => {
  const [drained] = endpointsOf(pod({ metadata: { annotations: { "status.tandem.sh/drain": "true" } } }));
  t.equal(drained?.draining, true);
  const [leaving] = endpointsOf(pod({ metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } }));
  t.equal(leaving?.draining, true);
  const labels = { "tandem.sh/model": "q", "tandem.sh/role": "both", "tandem.sh/instance": "i7" };
  t.equal(endpointsOf(pod({ metadata: { labels } }))[0]?.instance, "i7");
  const restarted = pod({ status: { containerStatuses: [{ name: "engine", restartCount: 2, containerID: "x" }] } });
  t.not(endpointsOf(restarted)[0]?.bootId, endpointsOf(pod())[0]?.bootId);
  t.end();
});

t.test("a broken annotation falls back to the containers", (t) => {
  for (const text of [
    "{",
    "[]",
    '{"connector":"x","port":1}',
    '{"connector":"nixl","port":"8000"}',
    "x".repeat(70000),
  ]) {
    const [endpoint] = endpointsOf(pod({ metadata: { annotations: { "status.tandem.sh/endpoint": text } } }));
    t.equal(endpoint?.address, "10.0.0.7:8000", text.slice(0, 40));
  }
  t.end();
});

t.test("llm-d's sidecar runs the prefill legs of its pod, and takes requests in the engine's place", (t) => {
  const sidecar = { name: "routing-proxy", image: "ghcr.io/llm-d/llm-d-routing-sidecar:v0.8.0" };
  const bare = pod({ container: { args: ["--model", "m", "--port", "8200"] } });
  const beside = (more: object, annotations = {}): Pod => ({
    ...bare,
    metadata: { ...bare.metadata, annotations },
    spec: { ...bare.spec, initContainers: [{ ...sidecar, ...more }] },
  });
  const table: readonly [string, Pod, string | undefined, string][] = [
    ["none", bare, undefined, "10.0.0.7:8200"],
    ["its argument", beside({ args: ["--port=8001", "--vllm-port=8200"] }), "sidecar", "10.0.0.7:8001"],
    ["its port", beside({ ports: [{ containerPort: 8002 }] }), "sidecar", "10.0.0.7:8002"],
    ["its default", beside({}), "sidecar", "10.0.0.7:8000"],
    ["not to be used", beside({}, { "tandem.sh/prefill-runner": "router" }), undefined, "10.0.0.7:8200"],
  ];
  for (const [name, given, runner, address] of table) {
    const [endpoint] = endpointsOf(given);
    t.equal(endpoint?.prefillRunner, runner, name);
    t.equal(endpoint?.address, address, name);
  }
  const declared = pod({
    metadata: { annotations: { "tandem.sh/prefill-runner": "sidecar" }, labels: bare.metadata.labels },
  });
  t.match(endpointsOf(declared), [{ prefillRunner: "sidecar", address: "10.0.0.7:8000" }]);
  t.end();
});

t.test("what a pod lies in, and the ranks behind its one API server", (t) => {
  const bare = pod({ container: { args: ["--model", "m", "-dp", "4"] } });
  const labels = { ...bare.metadata.labels, "tandem.sh/cell": "7", "topology.kubernetes.io/zone": "z" };
  const bound = { ...bare, metadata: { ...bare.metadata, labels }, spec: { ...bare.spec, nodeName: "n1" } };
  t.match(endpointsOf(bound), [{ domains: ["z", "7", "n1"], ranks: 4 }]);
  t.notOk("domains" in (endpointsOf(bare)[0] ?? {}), "no node yet");
  t.end();
});
