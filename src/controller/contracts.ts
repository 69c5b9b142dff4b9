/** The workloads of a snapshot with their decoded contracts, by cell. */
import type { Config } from "../config/schema.ts";
import type { Namespace, Workload } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { VOLCANO } from "../kinds/names.ts";
import { isDenied, warned } from "../kinds/verdict.ts";
import { configuredDevices, type Devices } from "../profiles/devices.ts";
import { cellKey, cellOf } from "../workload/cell.ts";
import { workloadSpec } from "../workload/decode.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { TreeOf } from "../topology/memo.ts";
import { templateOf } from "../workload/template.ts";
import type { Action } from "./action.ts";
import { createIsolation, type Isolation } from "./isolation.ts";

export interface Contract {
  readonly spec: WorkloadSpec;
  readonly workload: Workload;
}

export interface Contracts extends Pick<Isolation, "guard"> {
  readonly all: readonly Contract[];
  readonly cells: readonly (readonly Contract[])[];
  /** Namespaces with a workload that cannot be read: nothing there is taken away on its account. */
  readonly unclear: ReadonlySet<string>;
  /** What was wrong, for the people who wrote it. */
  readonly actions: readonly Action[];
}

/** Which namespaces the controller acts in. */
export type Acts = (namespace: string) => boolean;

export interface PlanContext {
  readonly config: Pick<Config, "admission" | "topology" | "controller">;
  readonly acts: Acts;
  /** Milliseconds since the epoch; absent where no time passes. */
  readonly now?: number;
  /** Tells what admission makes of each workload; absent: nobody asked. */
  readonly explain?: (contracts: readonly Contract[], snapshot: ClusterSnapshot) => readonly Action[];
  /** The topology, remembered from plan to plan; absent: built where it is asked for. */
  readonly tree?: TreeOf;
  /** Lifts gates of gangs; absent: nobody does. */
  readonly gates?: (contracts: Contracts, snapshot: ClusterSnapshot) => readonly Action[];
}

export function contractsOf(
  snapshot: ClusterSnapshot,
  { config, acts }: Pick<PlanContext, "acts"> & { readonly config: Pick<Config, "admission"> },
): Contracts {
  const namespaces = new Map(snapshot.namespaces.map((namespace) => [namespace.metadata.name ?? "", namespace]));
  const all: Contract[] = [];
  const { guard, unclear, actions } = createIsolation();
  for (const workload of snapshot.workloads) {
    const at = workload.metadata.namespace ?? "default";
    if (!acts(at) || workload.metadata.deletionTimestamp !== undefined) continue;
    const decoded = guard("contract", workload, () => [
      decode(workload, namespaces.get(at), configuredDevices(config.admission)),
    ]);
    const { spec, refusal } = decoded[0] ?? {};
    if (spec !== undefined) all.push({ spec, workload });
    if (refusal === undefined) continue;
    unclear.add(at);
    actions.push(refusal);
  }
  return { all, cells: byCell(all), unclear, actions, guard };
}

function decode(
  workload: Workload,
  namespace: Namespace | undefined,
  devices: Devices,
): { spec?: WorkloadSpec; refusal?: Action } {
  const { spec, verdicts } = workloadSpec(workload, {
    devices,
    ...(namespace === undefined ? {} : { namespace }),
  });
  if (spec !== undefined) return { spec };
  const why = verdicts.filter(isDenied).map(({ message }) => message);
  if (why.length === 0) return {};
  const { name = "", uid = "" } = workload.metadata;
  const verdict = warned("WorkloadUnreadable", why.join("; "), { subject: name });
  return { refusal: { do: "tell", key: `unreadable/${uid}`, verdict, about: [workload] } };
}

function byCell(contracts: readonly Contract[]): readonly (readonly Contract[])[] {
  const cells = Map.groupBy(contracts, ({ spec }) => cellKey(cellOf(spec)));
  return [...cells.values()].map((cell) => cell.toSorted((a, b) => (a.spec.name < b.spec.name ? -1 : 1)));
}

/** The scheduler that the pods of a workload get: by its template once it was admitted; else as it asks for. */
export const schedulerOf = ({ spec, workload }: Contract): string =>
  spec.scheduler === "volcano" && !spec.skip.includes("scheduling")
    ? VOLCANO.schedulerName
    : templateScheduler(workload);

const templateScheduler = (workload: Workload): string => templateOf(workload)?.template.spec.schedulerName ?? "";
