/** Gates of gangs in the local cluster: the controller's own decisions, carried out on objects. No time passes here. */
import type { Config } from "../config/schema.ts";
import { contractsOf } from "../controller/contracts.ts";
import { createGates } from "../controller/gates.ts";
import { podCell } from "../gang/members.ts";
import type { Pod } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import type { Verdict } from "../kinds/verdict.ts";
import { cellKey } from "../workload/cell.ts";
import { perform } from "./instances.ts";

/** As the configuration's defaults; nothing waits here. */
const GANG = { bindSeconds: 60, liftAfterSeconds: 600 };

export interface Lifted {
  readonly snapshot: ClusterSnapshot;
  /** What is said of the gang of a pod. */
  readonly told: (pod: Pod) => Verdict | undefined;
}

/** The snapshot with every gang let go that has room for its minimum viable set. */
export function withGates(snapshot: ClusterSnapshot, config: Pick<Config, "admission" | "topology">): Lifted {
  const gates = createGates({ ...config, gang: GANG }, () => 0);
  const actions = gates(contractsOf(snapshot, { config, acts: () => true }), snapshot);
  const told = new Map(actions.flatMap((action) => (action.do === "tell" ? [[action.key, action.verdict]] : [])));
  return {
    snapshot: actions.filter((action) => action.do === "patch").reduce(perform, snapshot),
    told: (pod) => {
      const cell = podCell(pod);
      return cell === undefined ? undefined : told.get(`gang/${cellKey(cell)}`);
    },
  };
}
