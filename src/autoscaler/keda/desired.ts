/** What KEDA is told of: the last decision on each workload that leaves its replicas to KEDA, in replicas of its own. */
import { replicasPerInstance } from "../../workload/scaling-decode.ts";
import type { Decision, Observation, WorkloadSeen } from "../group.ts";
import type { Desired } from "./answers.ts";

export interface DesiredReplicas extends Desired {
  readonly onChange: (listener: () => void) => () => void;
  /** After each decision on a group. */
  readonly decided: (observation: Observation, decision: Decision) => void;
  /** Forgets all workloads but these, by `namespace/Kind/name`. */
  readonly keep: (workloads: ReadonlySet<string>) => void;
}

interface Told {
  readonly id: string;
  readonly replicas: number;
}

export function createDesired(): DesiredReplicas {
  const told = new Map<string, Told>();
  const listeners = new Set<() => void>();
  const find = (namespace: string, name: string): Told | undefined => told.get(`${namespace}/${name}`);
  return {
    desired: (namespace, name) => find(namespace, name)?.replicas,
    isActive: (namespace, name) => (find(namespace, name)?.replicas ?? 0) > 0,
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    decided: ({ workloads }, decision) => {
      const to = new Map(decision.workloads.map((one) => [one.workload, one.to]));
      for (const workload of workloads) {
        const key = nameOf(workload);
        const instances = workload.scaling.actuator === "keda" ? to.get(workload.id) : undefined;
        if (instances !== undefined) told.set(key, { id: workload.id, replicas: replicasOf(workload, instances) });
        else if (told.get(key)?.id === workload.id) told.delete(key);
      }
      for (const listener of listeners) listener();
    },
    keep: (workloads) => {
      for (const [key, { id }] of told) if (!workloads.has(id)) told.delete(key);
    },
  };
}

/** A trigger names no kind. */
function nameOf({ id }: WorkloadSeen): string {
  const [namespace = "", , name = ""] = id.split("/");
  return `${namespace}/${name}`;
}

const replicasOf = ({ id, nodesPerInstance }: WorkloadSeen, instances: number): number =>
  instances * replicasPerInstance({ kind: id.split("/")[1] ?? "", nodesPerInstance });
