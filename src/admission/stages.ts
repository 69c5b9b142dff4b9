/**
 * The stages in their order, and how they are run: each sees the object as the stages before it left it.
 *
 * On the workload stands what a user should see there and what is safe to leave behind; on the Pod what belongs to one
 * incarnation or would be torn by `kubectl apply`. Gates and probes get their stages at `pod`, after `kv`.
 */
import { isObject, type KubeObject, type Namespace } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { skipped, type Verdict } from "../kinds/verdict.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { templateOf } from "../workload/template.ts";
import { apply, toChange, type Change } from "./change.ts";
import { asWanted, type Settings, type StageContext, type StageEntry, type StageRun } from "./stage.ts";
import { devicesOnPod, devicesOnWorkload } from "./stages/devices.ts";
import { engine } from "./stages/engine.ts";
import { gang } from "./stages/gang.ts";
import { kv } from "./stages/kv.ts";
import { schedulingOnPod, schedulingOnWorkload } from "./stages/scheduling.ts";
import { topology } from "./stages/topology.ts";

export const STAGES: readonly StageEntry[] = [
  // First: the others read the scheduler and the labels it sets. Without the labels no Pod would reach admission.
  { name: "scheduling", contract: true, workload: schedulingOnWorkload, pod: schedulingOnPod },
  { name: "gang", workload: gang },
  { name: "topology", workload: topology },
  { name: "devices", workload: devicesOnWorkload, pod: devicesOnPod },
  { name: "engine", pod: engine },
  // Last: its variables may refer to those of engine.
  { name: "kv", pod: kv },
];

/** Where stages run: on a workload's template, on a Pod after its workload was admitted, or on a Pod alone. */
export type Mount = "workload" | "pod" | "pod-alone";

export interface Planning {
  readonly spec: WorkloadSpec;
  readonly snapshot: ClusterSnapshot;
  readonly settings: Settings;
  readonly namespace: Namespace | undefined;
}

  /** Nothing that is missing in the snapshot is still to come. */
  readonly settled?: boolean;
export interface Planned {
  readonly object: KubeObject;
  readonly changes: readonly Change[];
  readonly verdicts: readonly Verdict[];
}

function runsOf(entry: StageEntry, mount: Mount): readonly StageRun[] {
  const runs = { workload: [entry.workload], pod: [entry.pod], "pod-alone": [entry.workload, entry.pod] }[mount];
  return runs.filter((run) => run !== undefined);
}

/** Runs every stage that belongs to the mounting point. */
export function runStages(object: KubeObject, mount: Mount, planning: Planning): Planned {
  let planned: Planned = { object, changes: [], verdicts: [] };
  for (const entry of STAGES) for (const run of runsOf(entry, mount)) planned = runStage(planned, entry, run, planning);
  return planned;
}

function runStage(before: Planned, { name, contract }: StageEntry, run: StageRun, planning: Planning): Planned {
  if (contract !== true && planning.spec.skip.includes(name))
    return told(before, skipped("StageSkipped", "named in tandem.sh/skip", { subject: name }));
  const found = templateOf(before.object);
  if (found === undefined) return before;
  const context: StageContext = { ...planning, object: before.object, ...found };
  const { changes: wishes, verdict } = run(context);
  let { object } = before;
  const changes: Change[] = [];
  for (const wish of wishes) {
    const change = toChange(object, wish);
    if (change === undefined) continue;
    changes.push(change);
    object = apply(object, change);
  }
  const quiet = changes.length === 0 && verdict.outcome === "changed";
  const answer = quiet ? asWanted(name) : { ...verdict, subject: name };
  return { object, changes: [...before.changes, ...changes], verdicts: [...before.verdicts, answer] };
}

const told = (planned: Planned, verdict: Verdict): Planned => ({
  ...planned,
  verdicts: [...planned.verdicts, verdict],
});

/** Whether a workload's own field can be read as its number of replicas. */
export const replicasOf = (object: KubeObject): number => {
  const spec = object["spec"];
  return isObject(spec) && typeof spec["replicas"] === "number" ? spec["replicas"] : 1;
};
