/**
 * The cluster as the extender reads it: tree, free devices and cells of one snapshot, kept from one call to the next.
 *
 * kube-scheduler asks twice for each pod, and every binding makes a new snapshot. What did not change is not worked out
 * again: the tree stands while no node's labels and no HyperNode change, free devices are counted by difference,
 * workloads are decoded once for each version. The owner of the routes makes one ExtenderMemo; there is no other state.
 */
import type { Config } from "../config/schema.ts";
import { replaced } from "../gang/change.ts";
import { DeviceLedger, type Amounts } from "../gang/devices.ts";
import { isMember, podCell, topologyPolicy, type CellMember, type TopologyPolicy } from "../gang/members.ts";
import { Patterns, type Pattern } from "../gang/pack.ts";
import { Tallies } from "../gang/tally.ts";
import type { Namespace, Node, Pod, Workload } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Devices } from "../profiles/devices.ts";
import { topologySource, topologyTree, type TopologyTree } from "../topology/tree.ts";
import { cellKey } from "../workload/cell.ts";
import { workloadSpec } from "../workload/decode.ts";
import { templateOf } from "../workload/template.ts";
import { CellPlans } from "./plans.ts";

export interface ViewConfig {
  readonly topology: Config["topology"];
  /** The device profiles there are, and that of workloads that name none. */
  readonly devices: Devices;
}

export interface ClusterView {
  readonly tree: TopologyTree;
  readonly ledger: DeviceLedger;
  readonly nodes: ReadonlyMap<string, Node>;
  /** What is planned for the pods of a cell that are not bound yet. */
  readonly plans: CellPlans;
  readonly cells: CellDirectory;
}

/** The cells of a snapshot. */
export interface CellDirectory {
  /** Cells that have a workload. */
  keys(): Iterable<string>;
  workloads(key: string): readonly CellMember[];
  /** Pods that count as members, bound or not. */
  pods(key: string): ReadonlySet<Pod>;
  policy(key: string): TopologyPolicy | undefined;
  demand(pod: Pod): Amounts;
  pattern(pod: Pod): Pattern;
}

/** What stands while no node comes, goes, or changes in what scheduling reads, and no HyperNode changes. */
interface Ground {
  readonly tree: TopologyTree;
  readonly patterns: Patterns;
  readonly tallies: Tallies;
}

interface Cell {
  readonly members: CellMember[];
}

const NO_PODS: ReadonlySet<Pod> = new Set();

export class ExtenderMemo {
  readonly #config: ViewConfig;
  readonly #ledger = new DeviceLedger();
  readonly #pods = new Map<string, Set<Pod>>();
  #snapshot: ClusterSnapshot | undefined;
  #view: ClusterView | undefined;
  #ground: Ground | undefined;
  #nodes: ReadonlyMap<string, Node> = new Map();
  #cells: ReadonlyMap<string, Cell> = new Map();

  constructor(config: ViewConfig) {
    this.#config = config;
  }

  /** The view of this snapshot; the same object while the snapshot is. A view is spent once a later one is asked for. */
  view(snapshot: ClusterSnapshot): ClusterView {
    if (this.#view !== undefined && this.#snapshot === snapshot) return this.#view;
    const before = this.#snapshot;
    this.#snapshot = snapshot;
    const touched = this.#ledger.update(snapshot.nodes, snapshot.pods);
    replaced(before?.pods ?? [], snapshot.pods, { left: (pod) => this.#leave(pod), came: (pod) => this.#come(pod) });
    const ground = this.#groundOf(before, snapshot);
    ground.tallies.refresh(touched);
    if (before?.workloads !== snapshot.workloads || before.namespaces !== snapshot.namespaces)
      this.#cells = cellsOf(snapshot, this.#config.devices);
    if (before?.nodes !== snapshot.nodes)
      this.#nodes = new Map(snapshot.nodes.map((node) => [node.metadata.name ?? "", node]));
    const cells = this.#directory(ground);
    const plans = new CellPlans({ ...ground, ledger: this.#ledger, cells });
    this.#view = { tree: ground.tree, ledger: this.#ledger, nodes: this.#nodes, cells, plans };
    return this.#view;
  }

  #groundOf(before: ClusterSnapshot | undefined, { nodes, hyperNodes }: ClusterSnapshot): Ground {
    const kept = before?.hyperNodes === hyperNodes && sameStanding(before.nodes, nodes) ? this.#ground : undefined;
    if (kept !== undefined) return kept;
    const tree = topologyTree(nodes, topologySource(this.#config.topology, hyperNodes));
    this.#ground = { tree, patterns: new Patterns(nodes), tallies: new Tallies(tree, this.#ledger) };
    return this.#ground;
  }

  #leave(pod: Pod): void {
    const cell = podCell(pod);
    if (cell !== undefined) this.#pods.get(cellKey(cell))?.delete(pod);
  }

  #come(pod: Pod): void {
    const cell = podCell(pod);
    if (cell === undefined || !isMember(pod)) return;
    const key = cellKey(cell);
    const pods = this.#pods.get(key) ?? new Set();
    this.#pods.set(key, pods.add(pod));
  }

  #directory({ tree, patterns }: Ground): CellDirectory {
    const [cells, pods, ledger] = [this.#cells, this.#pods, this.#ledger];
    const policies = new Map<string, TopologyPolicy>();
    return {
      keys: () => cells.keys(),
      workloads: (key) => cells.get(key)?.members ?? [],
      pods: (key) => pods.get(key) ?? NO_PODS,
      policy: (key) => {
        const cell = cells.get(key);
        if (cell === undefined) return undefined;
        const specs = cell.members.map(({ spec }) => spec);
        const policy = policies.get(key) ?? (specs.length === 0 ? UNMANAGED : topologyPolicy(specs, tree));
        policies.set(key, policy);
        return policy;
      },
      demand: (pod) => ledger.demand(pod),
      pattern: (pod) => patterns.of(pod, ledger.demand(pod)),
    };
  }
}

/** Workloads of the cell exist, but none that may be managed: mode off, or refused. */
const UNMANAGED: TopologyPolicy = { mode: "off", tier: undefined, asked: undefined };

/** Whether these are the same nodes, open to the same pods; most changes of a node are heartbeats. */
function sameStanding(before: readonly Node[], after: readonly Node[]): boolean {
  if (before === after) return true;
  return before.length === after.length && after.every((node, index) => sameNode(before[index], node));
}

function sameNode(before: Node | undefined, after: Node): boolean {
  return before === after || (before !== undefined && standing(before) === standing(after));
}

/** What tree and patterns read of a node; allocatable amounts are the ledger's. */
const standing = ({ metadata, spec, status }: Node): string =>
  JSON.stringify([
    metadata.name,
    metadata.labels ?? {},
    spec?.unschedulable ?? false,
    spec?.taints ?? [],
    status?.conditions?.find(({ type }) => type === "Ready")?.status,
  ]);

function cellsOf({ workloads, namespaces }: ClusterSnapshot, devices: Devices): ReadonlyMap<string, Cell> {
  const byName = new Map(namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
  const cells = new Map<string, Cell>();
  for (const workload of workloads) {
    const id = podCell(workload);
    if (id === undefined) continue;
    const cell = cells.get(cellKey(id)) ?? { members: [] };
    cells.set(cellKey(id), cell);
    cell.members.push(...memberOf(workload, byName.get(id.namespace), devices));
  }
  return cells;
}

function memberOf(workload: Workload, namespace: Namespace | undefined, devices: Devices): CellMember[] {
  const { spec } = workloadSpec(workload, { devices, ...(namespace === undefined ? {} : { namespace }) });
  const template = templateOf(workload)?.template;
  return spec === undefined || template === undefined ? [] : [{ spec, template }];
}
