/**
 * The cluster as the extender reads it: tree, free devices and cells of one snapshot, kept from one call to the next.
 *
 * kube-scheduler asks twice for each pod, and every binding makes a new snapshot. What did not change is not worked out
 * again: workloads are decoded once for each version. The owner of the routes makes one ExtenderMemo; there is no other
 * state.
 */
import type { Config } from "../config/schema.ts";
import { replaced } from "../gang/change.ts";
import type { Amounts, DeviceLedger } from "../gang/devices.ts";
import { GroundMemo, type Ground } from "../gang/ground.ts";
import { isMember, podCell, topologyPolicy, type CellMember, type TopologyPolicy } from "../gang/members.ts";
import type { Pattern } from "../gang/pack.ts";
import type { Namespace, Node, Pod, Workload } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Devices } from "../profiles/devices.ts";
import type { TopologyTree } from "../topology/tree.ts";
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

interface Cell {
  readonly members: CellMember[];
}

const NO_PODS: ReadonlySet<Pod> = new Set();

export class ExtenderMemo {
  readonly #config: ViewConfig;
  readonly #grounds: GroundMemo;
  readonly #pods = new Map<string, Set<Pod>>();
  #snapshot: ClusterSnapshot | undefined;
  #view: ClusterView | undefined;
  #nodes: ReadonlyMap<string, Node> = new Map();
  #cells: ReadonlyMap<string, Cell> = new Map();

  constructor(config: ViewConfig) {
    this.#config = config;
    this.#grounds = new GroundMemo(config.topology, config.devices.profiles);
  }

  /** The view of this snapshot; the same object while the snapshot is. A view is spent once a later one is asked for. */
  view(snapshot: ClusterSnapshot): ClusterView {
    if (this.#view !== undefined && this.#snapshot === snapshot) return this.#view;
    const before = this.#snapshot;
    this.#snapshot = snapshot;
    const ground = this.#grounds.of(snapshot);
    replaced(before?.pods ?? [], snapshot.pods, { left: (pod) => this.#leave(pod), came: (pod) => this.#come(pod) });
    if (before?.workloads !== snapshot.workloads || before.namespaces !== snapshot.namespaces)
      this.#cells = cellsOf(snapshot, this.#config.devices);
    if (before?.nodes !== snapshot.nodes)
      this.#nodes = new Map(snapshot.nodes.map((node) => [node.metadata.name ?? "", node]));
    const cells = this.#directory(ground);
    const plans = new CellPlans({ ...ground, cells });
    this.#view = { tree: ground.tree, ledger: ground.ledger, nodes: this.#nodes, cells, plans };
    return this.#view;
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

  #directory({ tree, patterns, ledger }: Ground): CellDirectory {
    const [cells, pods] = [this.#cells, this.#pods];
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
