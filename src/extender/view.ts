/**
 * The cluster as the extender reads it: tree, free devices and cells of one snapshot, kept from one call to the next.
 *
 * kube-scheduler asks twice for each pod, and every binding makes a new snapshot. What did not change is not worked out
 * again: workloads are decoded once for each version. The owner of the routes makes one ExtenderMemo; there is no other
 * state.
 */
import type { Config } from "../config/schema.ts";
import { replaced } from "../gang/change.ts";
import { podDemand, type Amounts, type DeviceLedger } from "../gang/devices.ts";
import { GroundMemo, type Ground } from "../gang/ground.ts";
import { isMember, podCell, topologyPolicy, type CellMember, type TopologyPolicy } from "../gang/members.ts";
import type { Pattern } from "../gang/pack.ts";
import { Holds, podId } from "../gang/reservations.ts";
import type { Namespace, Node, Pod, Workload } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Devices } from "../profiles/devices.ts";
import type { TopologyTree } from "../topology/tree.ts";
import { cellKey } from "../workload/cell.ts";
import { workloadSpec } from "../workload/decode.ts";
import { templateOf } from "../workload/template.ts";
import { CellPlans, type PlanMemory } from "./plans.ts";

export interface ViewConfig {
  readonly topology: Config["topology"];
  /** The device profiles there are, and that of workloads that name none. */
  readonly devices: Devices;
  /** `gang.bindSeconds`, in milliseconds, by which reservations lapse. Absent where no time passes: they do not. */
  readonly bindMs?: number;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
}

export interface ClusterView {
  readonly tree: TopologyTree;
  readonly ledger: DeviceLedger;
  /** Room that is kept for pods which are not bound to it yet. */
  readonly holds: Holds;
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
  /** Any pod of the snapshot, ours or foreign, by its uid. */
  byUid(uid: string): Pod | undefined;
}

interface Cell {
  readonly members: CellMember[];
}

const NO_PODS: ReadonlySet<Pod> = new Set();

export class ExtenderMemo {
  readonly #config: ViewConfig;
  readonly #memory: PlanMemory = new Map();
  readonly #members = new WeakMap<Workload, Decoded>();
  readonly #grounds: GroundMemo;
  readonly #pods = new Map<string, Set<Pod>>();
  readonly #uids = new Map<string, Pod>();
  /** With what binding assumes, which no snapshot knows. */
  readonly holds: Holds;
  #ledger: DeviceLedger | undefined;
  #version = 0;
  #snapshot: ClusterSnapshot | undefined;
  #view: ClusterView | undefined;
  readonly #nodes = new Map<string, Node>();
  #cells: ReadonlyMap<string, Cell> = new Map();

  constructor(config: ViewConfig) {
    this.#config = config;
    this.#grounds = new GroundMemo(config.topology, config.devices.profiles);
    const demand = (pod: Pod): Amounts => this.#ledger?.demand(pod) ?? podDemand(pod.spec);
    this.holds = new Holds(config.bindMs ?? Infinity, demand);
  }

  /**
   * The view of this snapshot; the same object while the snapshot is, and no room came to be held or let go. A view is
   * spent once a later one is asked for.
   */
  view(snapshot: ClusterSnapshot): ClusterView {
    this.#expire();
    if (this.#view !== undefined && this.#snapshot === snapshot && this.#version === this.holds.version)
      return this.#view;
    const ground = this.#advance(snapshot);
    this.#expire();
    this.#version = this.holds.version;
    const [cells, { holds }] = [this.#directory(ground), this];
    const plans = new CellPlans({ ...ground, cells, holds, memory: this.#memory });
    this.#view = { tree: ground.tree, ledger: ground.ledger, holds, nodes: this.#nodes, cells, plans };
    return this.#view;
  }

  #expire(): void {
    this.holds.expire(this.#config.now?.() ?? 0);
  }

  #advance(snapshot: ClusterSnapshot): Ground {
    const before = this.#snapshot;
    this.#snapshot = snapshot;
    const ground = this.#grounds.of(snapshot);
    this.#ledger = ground.ledger;
    replaced(before?.pods ?? [], snapshot.pods, { left: (pod) => this.#leave(pod), came: (pod) => this.#come(pod) });
    if (before?.workloads !== snapshot.workloads || before.namespaces !== snapshot.namespaces) {
      this.#cells = cellsOf(snapshot, (workload, namespace) => this.#memberOf(workload, namespace));
      for (const key of this.#memory.keys()) if (!this.#cells.has(key)) this.#memory.delete(key);
    }
    replaced(before?.nodes ?? [], snapshot.nodes, {
      left: ({ metadata }) => this.#nodes.delete(metadata.name ?? ""),
      came: (node) => this.#nodes.set(node.metadata.name ?? "", node),
    });
    return ground;
  }

  /** A workload object never changes: it is decoded once for each version of it and of its namespace. */
  #memberOf(workload: Workload, namespace: Namespace | undefined): readonly CellMember[] {
    const known = this.#members.get(workload);
    if (known !== undefined && known.namespace === namespace) return known.members;
    const members = memberOf(workload, namespace, this.#config.devices);
    this.#members.set(workload, { namespace, members });
    return members;
  }

  #leave(pod: Pod): void {
    this.#uids.delete(podId(pod));
    this.holds.leave(pod);
    const cell = podCell(pod);
    if (cell !== undefined) this.#pods.get(cellKey(cell))?.delete(pod);
  }

  #come(pod: Pod): void {
    this.#uids.set(podId(pod), pod);
    this.holds.come(pod);
    const cell = podCell(pod);
    if (cell === undefined || !isMember(pod)) return;
    const key = cellKey(cell);
    const pods = this.#pods.get(key) ?? new Set();
    this.#pods.set(key, pods.add(pod));
  }

  #directory({ tree, patterns, ledger }: Ground): CellDirectory {
    const [cells, pods, uids] = [this.#cells, this.#pods, this.#uids];
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
      byUid: (uid) => uids.get(uid),
      demand: (pod) => ledger.demand(pod),
      pattern: (pod) => patterns.of(pod, ledger.demand(pod)),
    };
  }
}

/** Workloads of the cell exist, but none that may be managed: mode off, or refused. */
const UNMANAGED: TopologyPolicy = { mode: "off", tier: undefined, asked: undefined };

interface Decoded {
  readonly namespace: Namespace | undefined;
  readonly members: readonly CellMember[];
}

function cellsOf(
  { workloads, namespaces }: ClusterSnapshot,
  decode: (workload: Workload, namespace: Namespace | undefined) => readonly CellMember[],
): ReadonlyMap<string, Cell> {
  const byName = new Map(namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
  const cells = new Map<string, Cell>();
  for (const workload of workloads) {
    const id = podCell(workload);
    if (id === undefined) continue;
    const cell = cells.get(cellKey(id)) ?? { members: [] };
    cells.set(cellKey(id), cell);
    cell.members.push(...decode(workload, byName.get(id.namespace)));
  }
  return cells;
}

function memberOf(workload: Workload, namespace: Namespace | undefined, devices: Devices): CellMember[] {
  const { spec } = workloadSpec(workload, { devices, ...(namespace === undefined ? {} : { namespace }) });
  const template = templateOf(workload)?.template;
  return spec === undefined || template === undefined ? [] : [{ spec, template }];
}
