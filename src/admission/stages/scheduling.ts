/** Stage scheduling: labels of the service on the template, the scheduler's name, and what a Pod tells discovery. */
import { labelOf } from "../../kinds/kube.ts";
import { ANNOTATION, LABEL, STATUS, VOLCANO } from "../../kinds/names.ts";
import { changed } from "../../kinds/verdict.ts";
import { endpointFacts } from "../../workload/endpoint.ts";
import { DEFAULT_ROLLOUT, leavesRollout, ROLLOUT, rolloutOfInstances } from "../../workload/creation.ts";
import { needsSlots, nodeRankOf } from "../../workload/instance.ts";
import { writeIntent } from "../../workload/intent.ts";
import { everyNodeServes, isEntry } from "../../workload/serving.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { force, set, type Wish } from "../change.ts";
import { at, type StageContext, type StageResult } from "../stage.ts";
import { publishedEvents } from "./events.ts";

/** Filled in by the API server before admission: a value equal to it counts as unset. */
export const DEFAULT_SCHEDULER = "default-scheduler";

/** All four, also where the user left the default, so that selectors and affinities find every pod of the cell. */
export const serviceLabels = (spec: WorkloadSpec): Readonly<Record<string, string>> => ({
  [LABEL.model]: spec.model,
  [LABEL.role]: spec.role,
  [LABEL.group]: spec.group,
  [LABEL.cell]: spec.cell,
});

const labelWishes = (context: StageContext): Wish[] =>
  Object.entries(serviceLabels(context.spec)).map(([key, value]) => set(at(context, "metadata", "labels", key), value));

/** What `tandem.sh/skip: scheduling` leaves alone; labels and intent are the contract, and are always written. */
const schedulerWishes = (context: StageContext): Wish[] =>
  context.spec.scheduler === "volcano" && !context.spec.skip.includes("scheduling")
    ? [set(at(context, "spec", "schedulerName"), VOLCANO.schedulerName, DEFAULT_SCHEDULER)]
    : [];

export function schedulingOnWorkload(context: StageContext): StageResult {
  const rollout = rolloutWishes(context);
  const labelled = `pods are labelled ${context.spec.role} of ${context.spec.group}`;
  const { joins, connector } = context.spec;
  const told = joins === true ? { [ANNOTATION.kvConnector]: connector } : undefined;
  const intent = writeIntent(context.object.metadata.annotations, context.namespace?.metadata.annotations, told);
  return {
    changes: [
      ...labelWishes(context),
      ...(context.object.kind === "Pod" ? [] : [force(at(context, "metadata", "annotations", STATUS.intent), intent)]),
      ...schedulerWishes(context),
      ...rollout.flatMap(stepWishes),
    ],
    verdict: changed("SchedulingInjected", [labelled, ...rollout.map(stepsOf)].join("; ")),
  };
}

/** Each by itself: a manifest that gives one of them later must not find the other as we set it beside the first. */
const stepWishes = (steps: Rollout): Wish[] =>
  STEPS.map((step) => set([...ROLLOUT, step], steps[step], DEFAULT_ROLLOUT[step]));
const STEPS = ["maxSurge", "maxUnavailable"] as const;

const stepsOf = ({ maxSurge, maxUnavailable }: Rollout): string =>
  `a rolling update goes by whole instances: ${maxSurge} pods more, ${maxUnavailable} less`;

type Rollout = ReturnType<typeof rolloutOfInstances>;

/** Steps of a rolling update, where nobody gave any and pods come in instances of several. */
function rolloutWishes({ object, spec }: StageContext): readonly Rollout[] {
  const isOurs = needsSlots(spec) && !spec.skip.includes("replicas") && leavesRollout(object);
  return isOurs ? [rolloutOfInstances(spec.replicas, spec.nodesPerInstance)] : [];
}

/** A pod of an instance over several pods gets the label together with its rank, unless every rank serves. */
function servesClients({ spec, template }: StageContext): boolean {
  const placed = spec.nodesPerInstance === 1 || labelOf(template, LABEL.nodeRank) !== undefined;
  return (placed || everyNodeServes(spec)) && isEntry(spec, nodeRankOf(template));
}

export function schedulingOnPod(context: StageContext): StageResult {
  return {
    changes: [
      ...(servesClients(context) ? [set(at(context, "metadata", "labels", LABEL.entry), "true")] : []),
      force(
        at(context, "metadata", "annotations", STATUS.endpoint),
        endpointFacts(context.spec, publishedEvents(context)),
      ),
    ],
    verdict: changed("SchedulingInjected", `the pod tells discovery of port ${context.spec.port}`),
  };
}
