import t from "tap";
import type { Pod } from "../../../src/kinds/kube.ts";
import { endpointsOfPool, inferencePool } from "../../../src/workload/pool.ts";

const object = (spec: unknown): Parameters<typeof inferencePool>[0] => ({
  apiVersion: "inference.networking.k8s.io/v1",
  kind: "InferencePool",
  metadata: { name: "qwen-pool", namespace: "n" },
  spec,
});
const pod = (name: string, labels: Readonly<Record<string, string>>, over: object = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "n", uid: name, labels },
  spec: { containers: [{ name: "engine", image: "vllm/vllm-openai", args: ["--model", "Qwen/Q"] }] },
  status: { podIP: "10.0.0.7", phase: "Running", conditions: [{ type: "Ready", status: "True" }] },
  ...over,
});
const selector = { matchLabels: { app: "vllm" } };
const pool = (...ports: number[]): NonNullable<ReturnType<typeof inferencePool>> => {
  const targetPorts = ports.map((number) => ({ number }));
  const found = inferencePool(object({ selector, targetPorts, endpointPickerRef: { name: "tandem-router" } }));
  if (found === undefined) throw new Error("the pool cannot be read");
  return found;
};

t.test("a pool is read as far as it can be", (t) => {
  const { name, namespace, matchLabels, targetPorts } = pool(8000);
  t.same(
    { name, namespace, matchLabels, targetPorts },
    {
      ...{ name: "qwen-pool", namespace: "n", matchLabels: { app: "vllm" }, targetPorts: [8000] },
    },
  );
  const ports = [{ number: 8000 }];
  const bad: readonly (readonly [string, unknown])[] = [
    ["no spec", undefined],
    ["no selector", { targetPorts: ports }],
    ["a selector that would select everything", { selector: { matchLabels: {} }, targetPorts: ports }],
    ["no port", { selector, targetPorts: [] }],
    ["no port that is one", { selector, targetPorts: [{ number: 0 }, { number: 65536 }, { number: "8000" }, null] }],
    ["ports that are no list", { selector, targetPorts: 8000 }],
  ];
  for (const [name, spec] of bad) t.equal(inferencePool(object(spec)), undefined, name);
  const many = Array.from({ length: 20 }, (_, index) => 8000 + index);
  t.equal(pool(...many).targetPorts.length, 8, "eight ports at most");
  t.end();
});

t.test("members need no label of ours: the pool is their service, and its port is theirs", (t) => {
  const [endpoint, ...others] = endpointsOfPool(pool(9000), [
    pod("a", { app: "vllm" }),
    pod("stranger", { app: "other" }),
    { ...pod("elsewhere", { app: "vllm" }), metadata: { name: "e", namespace: "m", labels: { app: "vllm" } } },
  ]);
  t.same(others, []);
  t.match(endpoint, { name: "a", address: "10.0.0.7:9000", role: "both", service: "qwen-pool", models: ["Qwen/Q"] });
  t.match(endpoint, { ready: true, draining: false, dataParallelRank: 0, namespace: "n" });
  t.end();
});

t.test("labels of ours tell more, and prefill engines count wherever they are in the namespace", (t) => {
  const ours = { "tandem.sh/model": "qwen" };
  const found = endpointsOfPool(pool(8000), [
    pod("decode", { app: "vllm", ...ours, "tandem.sh/role": "decode" }),
    pod("prefill-in", { app: "vllm", ...ours, "tandem.sh/role": "prefill" }),
    pod("prefill-out", { ...ours, "tandem.sh/role": "prefill" }),
    pod("decode-out", { ...ours, "tandem.sh/role": "decode" }),
  ]);
  t.same(
    found.map(({ name, role, service }) => `${name} ${role} ${service}`),
    ["decode decode qwen", "prefill-in prefill qwen", "prefill-out prefill qwen"],
    "no client is sent outside the pool",
  );
  t.end();
});

t.test("each target port is an endpoint: a data-parallel rank of the same instance", (t) => {
  const found = endpointsOfPool(pool(8000, 8001), [pod("a", { app: "vllm" })]);
  t.same(
    found.map(({ id, address, dataParallelRank, instance }) => ({ id, address, dataParallelRank, instance })),
    [
      { id: "a/0:8000", address: "10.0.0.7:8000", dataParallelRank: 0, instance: "a" },
      { id: "a/0:8001", address: "10.0.0.7:8001", dataParallelRank: 1, instance: "a" },
    ],
  );
  t.end();
});

t.test("a member that goes, or is not ready, is known and not picked", (t) => {
  const going = pod("going", { app: "vllm" });
  const found = endpointsOfPool(pool(8000), [
    { ...going, metadata: { ...going.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } },
    pod("unready", { app: "vllm" }, { status: { podIP: "fd00::1", phase: "Running", conditions: [] } }),
    pod("new", { app: "vllm" }, { status: {} }),
  ]);
  t.match(found, [
    { name: "going", draining: true },
    { name: "unready", ready: false, address: "[fd00::1]:8000" },
  ]);
  t.equal(found.length, 2);
  t.end();
});
