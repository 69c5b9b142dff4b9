/**
 * The stages in their order, and how they are run: each sees the object as the stages before it left it.
 *
 * On the workload stands what a user should see there and what is safe to leave behind; on the Pod what belongs to one
 * incarnation or would be torn by `kubectl apply`.
 */
import type { KubeObject, Namespace } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { skipped, type Verdict } from "../kinds/verdict.ts";
import type { ScalingSpec } from "../workload/scaling.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { workloadSpec } from "../workload/decode.ts";
import { templatesOf, type FoundTemplate } from "../workload/template.ts";
import { apply, toChange, type Change } from "./change.ts";
import { asWanted, type Settings, type StageContext, type StageEntry, type StageRun } from "./stage.ts";
import { devicesOnPod, devicesOnWorkload } from "./stages/devices.ts";
import { engine } from "./stages/engine.ts";
import { gang } from "./stages/gang.ts";
import { gate } from "./stages/gate.ts";
import { kv } from "./stages/kv.ts";
import { probes } from "./stages/probes.ts";
import { ranks } from "./stages/ranks.ts";
import { schedulingOnPod, schedulingOnWorkload } from "./stages/scheduling.ts";
import { topology } from "./stages/topology.ts";

export const STAGES: readonly StageEntry[] = [
  // First: the others read the scheduler and the labels it sets. Without the labels no Pod would reach admission.
  { name: "scheduling", contract: true, workload: schedulingOnWorkload, pod: schedulingOnPod },
  { name: "gang", workload: gang, pod: gate },
  { name: "topology", workload: topology },
  { name: "devices", workload: devicesOnWorkload, pod: devicesOnPod },
  // Before engine: the place in an instance over several pods is not what a lone pod would be told.
  { name: "engine", pod: ranks },
  { name: "engine", pod: engine },
  // After engine: its variables may refer to those of engine.
  { name: "kv", pod: kv },
  { name: "probes", pod: probes },
];

/** Where stages run: on a workload's template, on a Pod after its workload was admitted, or on a Pod alone. */
export type Mount = "workload" | "pod" | "pod-alone";

export interface Planning {
  readonly spec: WorkloadSpec;
  /** Absent for Pods. */
  readonly scaling?: ScalingSpec;
  readonly snapshot: ClusterSnapshot;
  readonly settings: Settings;
  readonly namespace: Namespace | undefined;
  /** Nothing that is missing in the snapshot is still to come. */
  readonly settled?: boolean;
  /** The Pod stands for those that its workload makes. */
  readonly sample?: boolean;
}

export interface Planned {
  readonly object: KubeObject;
  readonly changes: readonly Change[];
  readonly verdicts: readonly Verdict[];
}

function runsOf(entry: StageEntry, mount: Mount): readonly StageRun[] {
  const runs = { workload: [entry.workload], pod: [entry.pod], "pod-alone": [entry.workload, entry.pod] }[mount];
  return runs.filter((run) => run !== undefined);
}

/** Runs every stage that belongs to the mounting point, on every template of the object. */
export function runStages(object: KubeObject, mount: Mount, planning: Planning): Planned {
  const none: Planned = { object, changes: [], verdicts: [] };
  const templates = templatesOf(object);
  return templates.reduce((planned, found, index) => {
    const part = { ...planning, index, spec: index === 0 ? planning.spec : specOf(object, found, planning) };
    const { verdicts, ...rest } = runAll({ ...planned, verdicts: [] }, mount, part);
    const named = templates.length === 1 ? verdicts : verdicts.map((verdict) => inTemplate(verdict, found));
    return { ...rest, verdicts: [...planned.verdicts, ...named] };
  }, none);
}

/** Of several templates the message says which is meant. */
const inTemplate = (verdict: Verdict, { path }: FoundTemplate): Verdict => ({
  ...verdict,
  message: `${path.at(-1) ?? ""}: ${verdict.message}`,
});

/** One of the object's templates, with the contract that its own containers make. */
type Part = Planning & { readonly index: number };

/** The workers of a LeaderWorkerSet have an engine container and devices of their own; the rest of the contract is one. */
export function specOf(
  object: KubeObject,
  template: FoundTemplate,
  { spec, settings, namespace }: Planning,
): WorkloadSpec {
  const own = workloadSpec(object, { devices: configuredDevices(settings), namespace, template }).spec ?? spec;
  return own.joins === true ? { ...own, connector: spec.connector } : own;
}

function runAll(before: Planned, mount: Mount, part: Part): Planned {
  let planned = before;
  for (const entry of STAGES) {
    if (part.spec.skip.includes(entry.name) && entry.contract !== true) planned = leftAlone(planned, entry);
    else for (const run of runsOf(entry, mount)) planned = runStage(planned, entry, run, part);
  }
  return planned;
}

/** Told once of each stage, also where it would run at the other mounting point. */
const leftAlone = (planned: Planned, { name }: StageEntry): Planned =>
  planned.verdicts.some(({ subject }) => subject === name)
    ? planned
    : told(planned, skipped("StageSkipped", "named in tandem.sh/skip", { subject: name }));

function runStage(before: Planned, entry: StageEntry, run: StageRun, part: Part): Planned {
  const found = templatesOf(before.object)[part.index];
  if (found === undefined) return before;
  const context: StageContext = { ...part, object: before.object, ...found };
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
  const answer = quiet ? asWanted(entry.name) : { ...verdict, subject: entry.name };
  return told({ ...before, object, changes: [...before.changes, ...changes] }, withSkip(answer, part));
}

/** A stage that writes the contract does so under `tandem.sh/skip`, too. */
const withSkip = (verdict: Verdict, { spec }: Part): Verdict =>
  spec.skip.some((name) => name === verdict.subject)
    ? { ...verdict, message: `${verdict.message}; all but that is left alone: named in tandem.sh/skip` }
    : verdict;

const told = (planned: Planned, verdict: Verdict): Planned => ({
  ...planned,
  verdicts: [...planned.verdicts, verdict],
});
