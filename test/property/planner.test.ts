/**
 * The planner against an exhaustive reference on 1,000 small clusters: it places a gang exactly where one fits, never
 * more than fits, and as close as can be.
 */
import fc from "fast-check";
import t from "tap";
import { placeCell } from "../../src/gang/cell-plan.ts";
import { DeviceLedger, Trial } from "../../src/gang/devices.ts";
import { Patterns, type Task } from "../../src/gang/pack.ts";
import { Tallies } from "../../src/gang/tally.ts";
import { keyOf, type Pod } from "../../src/kinds/kube.ts";
import { topologyTree, type TopologyTree } from "../../src/topology/tree.ts";
import { exact, hyperNode, node, pod } from "../support/placement.ts";

const RESOURCE = "nvidia.com/gpu";
const size = fc.constantFrom(1, 2, 3, 4, 5, 8);
const scene = fc.record({
  /** Leaves, each of nodes with so many devices. */
  leaves: fc.array(fc.array(fc.constantFrom(2, 4, 8), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }),
  /** Leaves below the first spine; the others hang below another. */
  split: fc.integer({ min: 0, max: 3 }),
  /** Devices held by others, node by node. */
  used: fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 9, maxLength: 9 }),
  idle: fc.boolean(),
  prefill: fc.record({ pods: fc.integer({ min: 1, max: 3 }), size }),
  decode: fc.record({ pods: fc.integer({ min: 0, max: 2 }), size }),
});
type Scene = typeof scene extends fc.Arbitrary<infer T> ? T : never;

interface Ground {
  readonly tree: TopologyTree;
  readonly ledger: DeviceLedger;
  readonly tasks: readonly Task[];
}

function ground({ leaves, split, used, idle, prefill, decode }: Scene): Ground {
  const named = leaves.map((sizes, leaf) => sizes.map((gpus, index) => node(`l${leaf}n${index}`, { gpus })));
  const hyperNodes = named.map((nodes, leaf) =>
    hyperNode(`leaf-${leaf}`, 1, exact("Node", ...nodes.map(({ metadata }) => metadata.name ?? ""))),
  );
  for (const [name, below] of [
    ["s0", named.map((_, leaf) => leaf).filter((leaf) => leaf < split)],
    ["s1", named.map((_, leaf) => leaf).filter((leaf) => leaf >= split)],
  ] as const)
    if (below.length > 0)
      hyperNodes.push(hyperNode(name, 2, exact("HyperNode", ...below.map((leaf) => `leaf-${leaf}`))));
  const nodes = named.flat();
  const sizes = leaves.flat();
  const holders: Pod[] = nodes.flatMap(({ metadata }, index) => {
    const { name = "" } = metadata;
    const gpus = idle ? 0 : Math.min(sizes[index] as number, used[index] as number);
    return gpus === 0 ? [] : [pod(`held-${name}`, { model: null, gpus, nodeName: name })];
  });
  const ledger = new DeviceLedger();
  ledger.update(nodes, holders);
  const patterns = new Patterns(nodes);
  const tasks = (["prefill", "decode"] as const).flatMap((role) => {
    const wanted = role === "prefill" ? prefill : decode;
    return Array.from({ length: wanted.pods }, (_, index): Task => {
      const made = pod(`${role}-${index}`, { role, gpus: wanted.size });
      return { pod: made, key: keyOf(made), role, pattern: patterns.of(made, ledger.demand(made)) };
    });
  });
  return { tree: topologyTree(nodes, { kind: "hypernodes", hyperNodes }), ledger, tasks };
}

const demandOf = (task: Task): number => task.pattern.demand.get(RESOURCE) ?? 0;

/** Every assignment there is: the smallest tier distance and the smallest mean tier distance; undefined where none fits. */
function reference({ tree, ledger, tasks }: Ground): { steps: number; cost: number } | undefined {
  const names = tree.root.nodes;
  const free = names.map((name) => ledger.free(name, RESOURCE));
  const chosen: string[] = [];
  let best: { steps: number; cost: number } | undefined;
  const keep = (): void => {
    const [steps, cost] = [stepsOf(tree, chosen), meanTiers(tree, chosen)];
    best = { steps: Math.min(steps, best?.steps ?? Infinity), cost: Math.min(cost, best?.cost ?? Infinity) };
  };
  const descend = (): void => {
    const task = tasks[chosen.length];
    if (task === undefined) {
      keep();
      return;
    }
    for (const [index, name] of names.entries()) {
      if ((free[index] ?? 0) < demandOf(task)) continue;
      free[index] = (free[index] ?? 0) - demandOf(task);
      chosen.push(name);
      descend();
      chosen.pop();
      free[index] = (free[index] ?? 0) + demandOf(task);
    }
  };
  descend();
  return best;
}

/** 0 on one node, else the step of the smallest domain that holds all. */
const stepsOf = (tree: TopologyTree, nodes: readonly string[]): number =>
  new Set(nodes).size === 1 ? 0 : tree.commonDomain(nodes).step;

/** Mean tier distance of two pods: steps to the domain that holds both; a node is no tier, so the closest is 1. */
function meanTiers(tree: TopologyTree, nodes: readonly string[]): number {
  const steps = nodes.flatMap((a, index) => nodes.slice(index + 1).map((b) => tree.commonDomain([a, b]).step));
  return steps.length === 0 ? 0 : steps.reduce((sum, one) => sum + one, 0) / steps.length;
}

function planned({ tree, ledger, tasks }: Ground): readonly string[] {
  const outcome = placeCell(
    {
      name: "m",
      tasks,
      minimum: (["prefill", "decode"] as const).map((role) => {
        const pods = tasks.filter((task) => task.role === role).length;
        return { role, pods, instances: pods, spec: undefined as never };
      }),
      bound: [],
      boundRoles: [],
      policy: { mode: "preferred", tier: undefined, asked: undefined },
    },
    { tree, room: new Trial(ledger), resource: RESOURCE, tallies: new Tallies(tree, ledger) },
  );
  return tasks.flatMap((task) => outcome.nodes.get(task) ?? []);
}

const NEVER_WORSE = 1.1;

t.test("places a gang exactly where one fits, within 1.1 of the optimal tier distance", (t) => {
  const seen = { fitting: 0, not: 0, worst: 1 };
  fc.assert(
    fc.property(scene, (given) => {
      const around = ground(given);
      const [wanted, nodes] = [reference(around), planned(around)];
      if (wanted === undefined) {
        seen.not += 1;
        return nodes.length === 0;
      }
      seen.fitting += 1;
      if (nodes.length !== around.tasks.length) return false;
      const used = new Map<string, number>();
      around.tasks.forEach((task, index) => {
        const name = nodes[index] ?? "";
        used.set(name, (used.get(name) ?? 0) + demandOf(task));
      });
      const [steps, cost] = [stepsOf(around.tree, nodes), meanTiers(around.tree, nodes)];
      if (wanted.cost > 0) seen.worst = Math.max(seen.worst, cost / wanted.cost);
      return (
        [...used].every(([name, amount]) => amount <= around.ledger.free(name, RESOURCE)) &&
        steps <= NEVER_WORSE * wanted.steps &&
        cost <= NEVER_WORSE * wanted.cost
      );
    }),
    { numRuns: 1000, seed: 20 },
  );
  t.comment(
    `${seen.fitting} fit, ${seen.not} do not; worst mean tier distance ${seen.worst.toFixed(3)} of the optimum`,
  );
  t.ok(seen.fitting > 300 && seen.not > 100, "both kinds were seen");
  t.end();
});
