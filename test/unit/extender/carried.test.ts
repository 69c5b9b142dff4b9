/** When the plan of a cell is carried from one snapshot to the next, and when it is made anew. */
import t from "tap";
import { filterNodes } from "../../../src/extender/decide.ts";
import { ExtenderMemo } from "../../../src/extender/view.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { deployment, fabric, pod, snapshotOf } from "../../support/placement.ts";

const { nodes, hyperNodes } = fabric(2, 2);
const names = nodes.map(({ metadata }) => metadata.name ?? "");
const memo = (): ExtenderMemo =>
  new ExtenderMemo({
    topology: { source: "hypernodes", preset: "", levels: [] },
    devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
  });

const annotations = { "tandem.sh/topology": "required" };
const workloads = [deployment("p", { annotations }), deployment("d", { role: "decode", annotations })];
const apart = { labelSelector: { matchLabels: { noisy: "yes" } }, topologyKey: "kubernetes.io/hostname" };
const shy: Partial<Pod["spec"]> = {
  affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [apart] } },
};
const noisy = (node: string): Pod =>
  pod(`noisy-${node}`, { model: null, gpus: 0, nodeName: node, labels: { noisy: "yes" } });

/** The nodes to which the pod may go, by a memo that has seen these snapshots. */
function fit(asked: Pod, snapshots: readonly (readonly Pod[])[]): readonly string[] {
  const kept = memo();
  let found: readonly string[] = [];
  const base = snapshotOf({ nodes, hyperNodes, workloads });
  for (const pods of snapshots) ({ fit: found } = filterNodes(asked, names, kept.view({ ...base, pods })));
  return found;
}

t.test("a plan whose nodes a neighbour has closed is made anew: its cell is not kept out of the rest", (t) => {
  const cell = [pod("p-0", { spec: shy }), pod("d-0", { role: "decode", spec: shy })];
  const asked = cell[0] as Pod;
  const before = fit(asked, [cell]);
  t.same(before, ["r0n0", "r0n1"]);
  const after = [...cell, ...before.map(noisy)];
  t.same(fit(asked, [after]), ["r1n0", "r1n1"]);
  t.same(fit(asked, [cell, after]), ["r1n0", "r1n1"]);
  t.end();
});

t.test("a plan is made anew for pods that may not use its nodes", (t) => {
  const picky = { nodeSelector: { "kubernetes.io/hostname": "r1n0" } };
  const asked = pod("p-0");
  const cell = [asked, pod("d-0", { role: "decode" })];
  const after = [pod("p-1", { spec: picky }), pod("d-1", { role: "decode", spec: picky })];
  t.same(fit(asked, [cell]), ["r0n0", "r0n1"]);
  t.same(fit(asked, [after]), ["r1n0", "r1n1"]);
  t.same(fit(asked, [cell, after]), ["r1n0", "r1n1"]);
  t.end();
});

t.test("a plan is made anew when a workload asks for closer nodes", (t) => {
  const wide = fabric(2, 1);
  const within = (tier: string): ReturnType<typeof deployment>[] =>
    ["prefill", "decode"].map((role) =>
      deployment(role, { role, gpus: 8, annotations: { ...annotations, "tandem.sh/topology-tier": tier } }),
    );
  const pods = [pod("p-0", { gpus: 8 }), pod("d-0", { role: "decode", gpus: 8 })];
  const base = snapshotOf({ ...wide, pods, workloads: within("2") });
  const kept = memo();
  const fitOf = (given: typeof base): readonly string[] =>
    filterNodes(pods[0] as Pod, ["r0n0", "r1n0"], kept.view(given)).fit;
  t.same(fitOf(base), ["r0n0", "r1n0"]);
  t.same(fitOf({ ...base, workloads: within("1") }), []);
  t.end();
});
