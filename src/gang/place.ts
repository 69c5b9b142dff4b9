/**
 * The planner: a node for each pod, or the reason why not.
 *
 * Decided from nodes, topology, the pods there are, and the WorkloadSpecs of the cells; from nothing else, and the same
 * for any order of them. A cell goes whole into the smallest domain that has room for all its pods, the tightest among
 * equals; else its minimum viable set does, and the rest follows as near as it can; else none of it is placed. It never
 * moves a bound pod, never preempts, and never half-places a gang.
 */
import { keyOf, type Node, type Pod } from "../kinds/kube.ts";
import { denied, type Verdict } from "../kinds/verdict.ts";
import { byText, type TopologyTree } from "../topology/tree.ts";
import { cellKey, cellOf, serviceKey } from "../workload/cell.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { placeCell, type CellField, type CellOutcome } from "./cell-plan.ts";
import { DeviceLedger, isBound, hasEnded, scarcest, Trial } from "./devices.ts";
import { nodeVerdict } from "./fit.ts";
import { cellName, nodesOf, podCell, podRole, podsByCell, topologyPolicy } from "./members.ts";
import { Patterns, type Task } from "./pack.ts";
import { minimumViableSet } from "./podgroup.ts";
import { neighbourVerdict, rulesFor } from "./rules.ts";
import { Tallies } from "./tally.ts";

export interface PlacementInput {
  readonly nodes: readonly Node[];
  readonly tree: TopologyTree;
  /** Bound pods, which hold what they ask for, and unbound ones, which are placed. */
  readonly pods: readonly Pod[];
  /** The workloads of each cell. */
  readonly cells: readonly (readonly WorkloadSpec[])[];
}

export interface Placement {
  readonly pod: Pod;
  readonly node: string | null;
  /** The smallest domain that holds every placed pod of the cell, and its tier. Null where the pod is not placed. */
  readonly domain: string | null;
  readonly tier: number | null;
  /** `Placed`, or why not. */
  readonly verdict: Verdict;
  /** For a pod that is not placed: every node that cannot carry it, each with its reason. */
  readonly refused: readonly Verdict[];
}

export interface GangOutcome {
  /** Key of the cell: namespace, model, group and cell. */
  readonly key: string;
  readonly group: string;
  readonly cell: string;
  /** Whether its minimum viable set stands, with what is bound and what was placed now. */
  readonly placed: boolean;
  readonly verdict: Verdict;
}

export interface PlacementPlan {
  /** One for each unbound pod, in the order given. */
  readonly pods: readonly Placement[];
  readonly gangs: readonly GangOutcome[];
}

/** Plans every unbound pod that has not ended. Cells that have begun come first, then by key; lone pods come last. */
export function placePods(input: PlacementInput): PlacementPlan {
  const run = new Run(input);
  const pending = input.pods.filter((pod) => !isBound(pod) && !hasEnded(pod));
  const [ours, others] = [
    pending.filter((pod) => podCell(pod) !== undefined),
    pending.filter((pod) => podCell(pod) === undefined),
  ];
  run.placeCells(ours);
  for (const pod of others.toSorted(byName)) run.placeAlone(pod);
  return { pods: pending.flatMap((pod) => run.placements.get(pod) ?? []), gangs: run.gangs };
}

const byName = (a: Pod, b: Pod): number => byText(keyOf(a), keyOf(b));

class Run {
  readonly placements = new Map<Pod, Placement>();
  readonly gangs: GangOutcome[] = [];
  readonly #input: PlacementInput;
  readonly #ledger: DeviceLedger;
  readonly #room: Trial;
  readonly #patterns: Patterns;
  readonly #tallies: Tallies;

  constructor(input: PlacementInput) {
    this.#input = input;
    this.#ledger = new DeviceLedger();
    this.#ledger.update(input.nodes, input.pods);
    this.#tallies = new Tallies(input.tree, this.#ledger);
    this.#room = new Trial(this.#ledger);
    this.#patterns = new Patterns(input.nodes);
  }

  placeCells(pending: readonly Pod[]): void {
    const specs = new Map(
      this.#input.cells.flatMap((cell) => (cell[0] === undefined ? [] : [[cellKey(cellOf(cell[0])), cell] as const])),
    );
    const members = podsByCell(this.#input.pods);
    const waiting = podsByCell(pending);
    const begun = (key: string): number => ((members.get(key) ?? []).some(isBound) ? 0 : 1);
    const keys = [...waiting.keys()].sort((a, b) => begun(a) - begun(b) || byText(a, b));
    for (const key of keys)
      this.#placeCell(key, waiting.get(key) ?? [], { members: members.get(key) ?? [], specs: specs.get(key) ?? [] });
  }

  #placeCell(
    key: string,
    pods: readonly Pod[],
    cell: { members: readonly Pod[]; specs: readonly WorkloadSpec[] },
  ): void {
    const bound = cell.members.filter(isBound);
    // By name: they may be placed one by one, and the order in which pods are listed must mean nothing.
    const tasks = pods.toSorted(byName).map((pod) => this.#task(pod));
    const outcome = placeCell(
      {
        name: cellName(pods[0] === undefined ? undefined : podCell(pods[0])),
        tasks,
        minimum: minimumViableSet(cell.specs),
        boundRoles: bound.map(podRole),
        bound: nodesOf(bound),
        policy: topologyPolicy(cell.specs, this.#input.tree),
        others: this.#othersOf(key),
      },
      this.#field(tasks),
    );
    this.#keep(outcome, tasks, nodesOf(bound));
    const id = podCell(pods[0] as Pod);
    if (outcome.gang !== undefined && id !== undefined)
      this.gangs.push({
        key,
        group: id.group,
        cell: id.cell,
        placed: outcome.gang.outcome === "allowed",
        verdict: outcome.gang,
      });
  }

  /** Nodes of the other cells of the service: of bound pods, and of those placed before. */
  #othersOf(key: string): readonly string[] {
    return this.#input.pods.flatMap((pod) => {
      const id = podCell(pod);
      if (id === undefined || cellKey(id) === key || serviceKey(cellKey(id)) !== serviceKey(key)) return [];
      return (isBound(pod) ? pod.spec.nodeName : this.placements.get(pod)?.node) ?? [];
    });
  }

  #keep(outcome: CellOutcome, tasks: readonly Task[], bound: readonly string[]): void {
    const { tree } = this.#input;
    const domain = tree.commonDomain([...bound, ...outcome.nodes.values()]);
    for (const task of tasks) {
      const node = outcome.nodes.get(task);
      const verdict = outcome.verdicts.get(task) ?? denied("NoDomainFits", "no node was found", { subject: task.key });
      if (node === undefined) this.#refuse(task, verdict);
      else
        this.placements.set(task.pod, {
          pod: task.pod,
          node,
          domain: domain.name,
          tier: domain.tier,
          verdict,
          refused: [],
        });
    }
  }

  #refuse(task: Task, verdict: Verdict): void {
    const rules = rulesFor([task.pod], this.#room);
    const judged = this.#input.nodes.map((node) => {
      const found = nodeVerdict(task.pod, node, task.pattern.demand, this.#room);
      if (found.outcome === "denied") return found;
      return neighbourVerdict(task.pod, node.metadata.name ?? "", rules) ?? found;
    });
    const refused = judged.filter(({ outcome }) => outcome === "denied");
    this.placements.set(task.pod, { pod: task.pod, node: null, domain: null, tier: null, verdict, refused });
  }

  /** A pod that is not ours: the tightest node with room. */
  placeAlone(pod: Pod): void {
    const task = this.#task(pod);
    const outcome = placeCell(
      {
        name: keyOf(pod),
        tasks: [task],
        minimum: [],
        boundRoles: [],
        bound: [],
        policy: { mode: "off", tier: undefined, asked: undefined },
      },
      this.#field([task]),
    );
    this.#keep(outcome, [task], []);
  }

  #field(tasks: readonly Task[]): CellField {
    const resource = scarcest(tasks.map(({ pattern }) => pattern.demand));
    return { tree: this.#input.tree, room: this.#room, tallies: this.#tallies, resource };
  }

  #task(pod: Pod): Task {
    return { pod, key: keyOf(pod), role: podRole(pod), pattern: this.#patterns.of(pod, this.#ledger.demand(pod)) };
  }
}
