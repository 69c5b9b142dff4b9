import t from "tap";
import { capacity, DeviceLedger, lacking, podDemand, scarcest, Trial } from "../../../src/gang/devices.ts";
import { amountOf, formatAmount, parseQuantity } from "../../../src/gang/quantity.ts";
import type { Pod, PodSpec } from "../../../src/kinds/kube.ts";
import { node, pod } from "../../support/placement.ts";

t.test("quantities", (t) => {
  const rows: [string | number, number | undefined][] = [
    ["2", 2],
    [2, 2],
    ["1500m", 1.5],
    ["16Gi", 16 * 2 ** 30],
    ["1e3", 1000],
    ["2E", 2e18],
    ["0.5", 0.5],
    [".5k", 500],
    ["-1", -1],
    ["", undefined],
    ["1 Gi", undefined],
    ["Gi", undefined],
    ["0x10", undefined],
    ["1GiB", undefined],
  ];
  for (const [text, expected] of rows) t.equal(parseQuantity(text), expected, String(text));
  t.end();
});

t.test("amounts are whole, in the units kube-scheduler counts in", (t) => {
  t.equal(amountOf("cpu", "1.1"), 1100);
  t.equal(amountOf("cpu", "100u"), 1);
  t.equal(amountOf("memory", "1.5"), 2);
  t.equal(amountOf("nvidia.com/gpu", "8"), 8);
  t.equal(amountOf("nvidia.com/gpu", "eight"), 0);
  t.equal(formatAmount("cpu", 1500), "1500m");
  t.equal(formatAmount("memory", 3 * 2 ** 30), "3Gi");
  t.equal(formatAmount("nvidia.com/gpu", 1024), "1024");
  t.end();
});

const demand = (spec: Partial<PodSpec>): Record<string, number> =>
  Object.fromEntries(podDemand({ containers: [], ...spec }));

const asks = (cpu: string, gpu?: string): { requests: Record<string, string>; limits: Record<string, string> } => ({
  requests: { cpu },
  limits: gpu === undefined ? {} : { "nvidia.com/gpu": gpu },
});

t.test("the demand of a pod", (t) => {
  t.same(
    demand({
      containers: [
        { name: "a", resources: asks("1", "2") },
        { name: "b", resources: asks("500m") },
      ],
    }),
    { cpu: 1500, "nvidia.com/gpu": 2, pods: 1 },
    "containers add up; a limit without a request is the request",
  );
  t.same(
    demand({
      containers: [{ name: "a", resources: asks("1") }],
      initContainers: [{ name: "i", resources: asks("3", "1") }],
    }),
    { cpu: 3000, "nvidia.com/gpu": 1, pods: 1 },
    "the hungriest init container counts where it asks for more",
  );
  t.same(
    demand({
      containers: [{ name: "a", resources: asks("1") }],
      initContainers: [
        { name: "early", resources: asks("2") },
        { name: "sidecar", restartPolicy: "Always", resources: asks("1") },
        { name: "late", resources: asks("2") },
      ],
    }),
    { cpu: 3000, pods: 1 },
    "a sidecar runs beside the containers and beside later init containers",
  );
  t.same(
    demand({ containers: [{ name: "a", resources: asks("1") }], overhead: { cpu: "250m" } }),
    { cpu: 1250, pods: 1 },
    "overhead of the runtime class",
  );
  t.end();
});

t.test("free is allocatable minus what bound pods ask that have not ended", (t) => {
  const ended: Pod = { ...pod("done", { nodeName: "n0" }), status: { phase: "Succeeded" } };
  const leaving = pod("leaving", { nodeName: "n0", gpus: 1 });
  leaving.metadata.deletionTimestamp = "2026-01-01T00:00:00Z";
  const ledger = new DeviceLedger();
  ledger.update([node("n0")], [pod("a", { nodeName: "n0", gpus: 2 }), ended, leaving, pod("waiting", { gpus: 8 })]);
  t.equal(ledger.free("n0", "nvidia.com/gpu"), 5);
  t.equal(ledger.free("n0", "amd.com/gpu"), 0);
  t.equal(ledger.free("gone", "nvidia.com/gpu"), 0);
  t.end();
});

t.test("an updated ledger says what a new one says, and names the nodes that changed", (t) => {
  const nodes = [node("n0"), node("n1")];
  const [a, b, c] = [pod("a", { nodeName: "n0" }), pod("b", { nodeName: "n1" }), pod("c", { nodeName: "n1", gpus: 1 })];
  const ledger = new DeviceLedger();
  ledger.update(nodes, [a, b]);
  t.same([...ledger.update(nodes, [a, b, c])], ["n1"]);
  t.same([...ledger.update(nodes, [b, c])], ["n0"]);
  t.same([...ledger.update([node("n0", { gpus: 2 }), node("n1")], [b, c])].sort(), ["n0", "n1"]);
  t.equal(ledger.free("n0", "nvidia.com/gpu"), 2);
  t.equal(ledger.free("n1", "nvidia.com/gpu"), 3);
  t.end();
});

t.test("a trial takes from what lies below without changing it", (t) => {
  const ledger = new DeviceLedger();
  ledger.update([node("n0")], []);
  const trial = new Trial(ledger);
  const needs = podDemand(pod("p", { gpus: 3 }).spec);
  t.equal(capacity(trial, "n0", needs), 2);
  trial.take("n0", needs);
  t.equal(trial.free("n0", "nvidia.com/gpu"), 5);
  t.equal(ledger.free("n0", "nvidia.com/gpu"), 8);
  trial.take("n0", needs);
  t.equal(lacking(trial, "n0", needs), "nvidia.com/gpu");
  t.equal(scarcest([needs]), "nvidia.com/gpu");
  t.equal(scarcest([podDemand(pod("p", { gpus: 0 }).spec)]), "cpu");
  t.end();
});
