/** Checks of a workload's autoscaling against the others of its group, its gang, and whoever else scales it. */
import type { KubeObject } from "../kinds/kube.ts";
import { ANNOTATION, AUTOSCALING } from "../kinds/names.ts";
import { denied, warned, type Verdict } from "../kinds/verdict.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { groupScaling, type ScaledWorkload } from "../workload/group-scaling.ts";
import { scalersOf, type Scaler } from "../workload/scalers.ts";
import { replicasPerInstance, scalingOf } from "../workload/scaling-decode.ts";
import { SCALING, setsReplicas } from "../workload/scaling.ts";
import { isOther, ofService, peerSpec } from "./peers.ts";
import type { Planning } from "./stages.ts";

type Make = typeof warned;

/** Warnings, or denials where the configuration asks for them. `object` without what Tandem injected. */
export function checkScaling(object: KubeObject, planning: Planning): readonly Verdict[] {
  const make: Make = planning.settings.strict ? denied : warned;
  return [
    ...ofGroup(planning).map(({ reason, message, subject }) => make(reason, message, subject ? { subject } : {})),
    ...belowGang(object, planning, make),
    ...rivals(object, planning, make),
  ];
}

/** What the workloads of the group say of it, this one among them. */
function ofGroup(planning: Planning): readonly Verdict[] {
  const { spec, scaling, snapshot, settings, namespace } = planning;
  if (scaling === undefined) return [];
  const devices = configuredDevices(settings);
  const others = ofService(snapshot, spec.namespace, spec.model)
    .filter((workload) => isOther(workload, spec))
    .flatMap((workload): ScaledWorkload[] => {
      const other = peerSpec(workload, devices, namespace);
      if (other === undefined || other.group !== spec.group) return [];
      const decoded = scalingOf(workload, other, namespace).scaling;
      return decoded === undefined ? [] : [scaled(other, decoded)];
    });
  return groupScaling([scaled(spec, scaling), ...others]).verdicts;
}

const scaled = ({ kind, name, role }: Planning["spec"], scaling: ScaledWorkload["scaling"]): ScaledWorkload => ({
  name: `${kind} ${name}`,
  role,
  scaling,
});

/** Replicas that the gang of the cell takes of this workload; 0 where nobody says by number. */
const gangReplicas = ({ gang, role, ...spec }: Planning["spec"]): number =>
  gang.kind === "set" && role !== "both" ? gang[role] * replicasPerInstance(spec) : 0;

/** A role below its gang stops the cell; one at zero was meant to. */
function belowGang(object: KubeObject, { spec, scaling, snapshot }: Planning, make: Make): readonly Verdict[] {
  const least = gangReplicas(spec);
  const found = scalersOf(object, snapshot.autoscalers ?? []).filter(({ minimum = least }) => minimum < least);
  const own = scaling !== undefined && setsReplicas(scaling) && scaling.minReplicas > 0 ? scaling.minReplicas : least;
  const subject = AUTOSCALING.minReplicas;
  return [
    ...found.map(({ name, minimum }) =>
      make("AutoscalerContested", `${name} may scale to ${minimum}, below the ${least} replicas of ${ANNOTATION.gang}`),
    ),
    ...(own < least
      ? [make("ScalingContradict", `${subject} is ${own}, below the ${least} of ${ANNOTATION.gang}`, { subject })]
      : []),
  ];
}

/** Two autoscalers of one target undo each other's work; beside one that only tells, a person should know that. */
function rivals(object: KubeObject, { spec, scaling = SCALING, snapshot, settings }: Planning, make: Make): Verdict[] {
  if (scaling.mode === "off" || scaling.actuator === "none") return [];
  const found = scalersOf(object, snapshot.autoscalers ?? []);
  if (scaling.mode === "recommend")
    return found
      .filter(({ asksTandem }) => !asksTandem)
      .map(({ name }) =>
        warned(
          "AutoscalerContested",
          `${name} scales this ${spec.kind}; ${AUTOSCALING.mode} is recommend, and only tells`,
        ),
      );
  const refuse: Make = settings.denyContestedAutoscalers ? denied : make;
  return found
    .map((scaler) => rivalry(scaler, spec.kind, scaling.actuator))
    .filter((message) => message !== undefined)
    .map((message) => refuse("AutoscalerContested", message));
}

function rivalry({ name, asksTandem }: Scaler, kind: string, actuator: string): string | undefined {
  if (!asksTandem) return `${AUTOSCALING.mode} is set, but ${name} scales this ${kind}, too`;
  return actuator === "keda" ? undefined : `${name} asks Tandem, but ${AUTOSCALING.actuator} is ${actuator}; give keda`;
}
