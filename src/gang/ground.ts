/**
 * What placement stands on, kept from one snapshot to the next: topology, free devices, and counts of both.
 *
 * Every binding makes a new snapshot. What did not change is not worked out again: the tree stands while no node's labels
 * and no HyperNode change, free devices are counted by difference. One owner makes one GroundMemo; there is no other state.
 */
import type { Config } from "../config/schema.ts";
import type { Node } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { DeviceProfile } from "../profiles/devices.ts";
import { topologySource, topologyTree, type TopologyTree } from "../topology/tree.ts";
import { DeviceLedger } from "./devices.ts";
import { Patterns } from "./pack.ts";
import { Tallies } from "./tally.ts";

/** Spent once a later one is asked for: the ledger and the tallies go on. */
export interface Ground {
  readonly tree: TopologyTree;
  readonly ledger: DeviceLedger;
  readonly patterns: Patterns;
  readonly tallies: Tallies;
}

export class GroundMemo {
  readonly #topology: Config["topology"];
  readonly #ledger: DeviceLedger;
  #snapshot: ClusterSnapshot | undefined;
  #ground: Ground | undefined;

  /** `profiles` tell of devices that lie in rings. */
  constructor(topology: Config["topology"], profiles: readonly DeviceProfile[]) {
    this.#topology = topology;
    this.#ledger = new DeviceLedger(profiles);
  }

  /** The ground of this snapshot: the same object while no node comes, goes or changes in what scheduling reads. */
  of(snapshot: ClusterSnapshot): Ground {
    const before = this.#snapshot;
    if (this.#ground !== undefined && before === snapshot) return this.#ground;
    this.#snapshot = snapshot;
    const touched = this.#ledger.update(snapshot.nodes, snapshot.pods, snapshot.namespaces);
    const stands = before?.hyperNodes === snapshot.hyperNodes && sameStanding(before.nodes, snapshot.nodes);
    this.#ground = stands && this.#ground !== undefined ? this.#ground : this.#build(snapshot);
    this.#ground.tallies.refresh(touched);
    return this.#ground;
  }

  #build({ nodes, hyperNodes }: ClusterSnapshot): Ground {
    const tree = topologyTree(nodes, topologySource(this.#topology, hyperNodes));
    const ledger = this.#ledger;
    return { tree, ledger, patterns: new Patterns(nodes), tallies: new Tallies(tree, ledger) };
  }
}

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
