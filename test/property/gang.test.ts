import fc from "fast-check";
import t from "tap";
import { podDemand } from "../../src/gang/devices.ts";
import { minimumViableSet } from "../../src/gang/podgroup.ts";
import { placePods, type PlacementInput } from "../../src/gang/place.ts";
import { isBound } from "../../src/gang/devices.ts";
import { podCell, podRole } from "../../src/gang/members.ts";
import type { Node, Pod } from "../../src/kinds/kube.ts";
import { topologyTree } from "../../src/topology/tree.ts";
import { cellKey, cellOf, groupByCell } from "../../src/workload/cell.ts";
import { workloadSpec } from "../../src/workload/decode.ts";
import { deployment, fabric, node, pod } from "../support/placement.ts";
import { BUILT_IN } from "../../src/profiles/devices.ts";

const MODELS = ["a", "b"] as const;
const ROLES = ["prefill", "decode"] as const;

/** A pod: whose, how large, and bound to which node if any. */
const anyPod = fc.record({
  model: fc.constantFrom("a", "b", null),
  role: fc.constantFrom(...ROLES),
  gpus: fc.constantFrom(0, 1, 2, 4, 8),
  on: fc.option(fc.integer({ min: 0, max: 5 }), { freq: 2 }),
});

const anyScene = fc.record({
  gpus: fc.array(fc.constantFrom(0, 4, 8), { minLength: 6, maxLength: 6 }),
  cordoned: fc.integer({ min: 0, max: 5 }),
  pods: fc.array(anyPod, { maxLength: 10 }),
  topology: fc.constantFrom("required", "preferred", "off"),
  gang: fc.constantFrom("auto", "off", "prefill=1,decode=2"),
  replicas: fc.record({ prefill: fc.integer({ min: 0, max: 3 }), decode: fc.integer({ min: 0, max: 3 }) }),
});
type Scene = typeof anyScene extends fc.Arbitrary<infer T> ? T : never;

function input({ gpus, cordoned, pods, topology, gang, replicas }: Scene): PlacementInput {
  const cluster = fabric(3, 2);
  const nodes = cluster.nodes.map((one, index) =>
    node(one.metadata.name ?? "", { gpus: gpus[index] ?? 0, spec: { unschedulable: index === cordoned } }),
  );
  const free = new Map<string, number>(nodes.map((one, index) => [one.metadata.name ?? "", gpus[index] ?? 0]));
  const made = pods.map(({ model, role, gpus: needs, on }, index): Pod => {
    const nodeName = on === null ? undefined : nodes[on]?.metadata.name;
    const left = (free.get(nodeName ?? "") ?? 0) - needs;
    if (nodeName === undefined || left < 0) return pod(`pod-${index}`, { model, role, gpus: needs });
    free.set(nodeName, left);
    return pod(`pod-${index}`, { model, role, gpus: needs, nodeName });
  });
  const annotations = { "tandem.sh/topology": topology, "tandem.sh/gang": gang };
  const specs = MODELS.flatMap((model) =>
    ROLES.map((role) => deployment(`${model}-${role}`, { model, role, annotations, replicas: replicas[role] })),
  ).flatMap(
    (workload) => workloadSpec(workload, { devices: { defaultProfile: "nvidia", profiles: BUILT_IN } }).spec ?? [],
  );
  const tree = topologyTree(nodes, { kind: "hypernodes", hyperNodes: cluster.hyperNodes });
  return { nodes, tree, pods: made, cells: [...groupByCell(specs).values()] };
}

t.test("never more on a node than it has, and never on a closed node", (t) => {
  fc.assert(
    fc.property(anyScene, (scene) => {
      const given = input(scene);
      const plan = placePods(given);
      const used = new Map<string, number>();
      const take = (on: string, one: Pod): void => {
        used.set(on, (used.get(on) ?? 0) + (podDemand(one.spec).get("nvidia.com/gpu") ?? 0));
      };
      for (const one of given.pods) if (isBound(one)) take(one.spec.nodeName ?? "", one);
      for (const { pod: one, node: on } of plan.pods) if (on !== null) take(on, one);
      const closed = given.nodes[scene.cordoned]?.metadata.name;
      if (plan.pods.some(({ node: on }) => on === closed)) return false;
      return given.nodes.every((one: Node) => {
        const has = Number(one.status?.allocatable?.["nvidia.com/gpu"] ?? 0);
        return (used.get(one.metadata.name ?? "") ?? 0) <= has;
      });
    }),
    { numRuns: 400 },
  );
  t.end();
});

t.test("a gang is never half placed", (t) => {
  fc.assert(
    fc.property(anyScene, (scene) => {
      const given = input(scene);
      const plan = placePods(given);
      return given.cells.every((specs) => {
        const key = cellKey(cellOf(specs[0]!));
        const ours = (one: Pod): boolean =>
          cellKey(podCell(one) ?? cellOf(specs[0]!)) === key && podCell(one) !== undefined;
        const placed = plan.pods.filter(({ pod: one, node: on }) => on !== null && ours(one)).map((one) => one.pod);
        if (placed.length === 0) return true;
        const standing = [...placed, ...given.pods.filter((one) => isBound(one) && ours(one))];
        return minimumViableSet(specs).every(
          ({ role, pods }) => standing.filter((one) => podRole(one) === role).length >= pods,
        );
      });
    }),
    { numRuns: 400 },
  );
  t.end();
});

t.test("required keeps what is placed within one domain of its tier, unless bound pods lie apart already", (t) => {
  fc.assert(
    fc.property(anyScene, (scene) => {
      const given = input({ ...scene, topology: "required" });
      const plan = placePods(given);
      return MODELS.every((model) => {
        const ours = ({ metadata }: Pod): boolean => metadata.labels?.["tandem.sh/model"] === model;
        if (given.pods.some((one) => ours(one) && isBound(one))) return true;
        const nodes = plan.pods.flatMap(({ pod: one, node: on }) => (on !== null && ours(one) ? [on] : []));
        return nodes.length === 0 || given.tree.commonDomain(nodes).tier <= 1;
      });
    }),
    { numRuns: 400 },
  );
  t.end();
});

t.test("the same plan for any order of nodes and pods", (t) => {
  fc.assert(
    fc.property(anyScene, (scene) => {
      const given = input(scene);
      const turned = { ...given, nodes: given.nodes.toReversed(), pods: given.pods.toReversed() };
      const summary = (plan: ReturnType<typeof placePods>): unknown =>
        plan.pods.map(({ pod: one, node: on, domain }) => [one.metadata.name, on, domain]).toSorted();
      return JSON.stringify(summary(placePods(given))) === JSON.stringify(summary(placePods(turned)));
    }),
    { numRuns: 400 },
  );
  t.end();
});

t.test("every pod that is not placed says why", (t) => {
  fc.assert(
    fc.property(anyScene, (scene) => {
      const given = input(scene);
      const plan = placePods(given);
      if (plan.pods.length !== given.pods.filter((one) => !isBound(one)).length) return false;
      return plan.pods.every(({ node: on, verdict }) => (on === null) === (verdict.outcome === "denied"));
    }),
    { numRuns: 200 },
  );
  t.end();
});
