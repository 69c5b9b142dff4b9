/** How the autoscaler reads its contract off objects: the decoders that admission uses. */
import type { ScalingReader } from "../../autoscaler/observe/reading.ts";
import { drainingOf, lastScaled } from "../../workload/draining.ts";
import { groupScaling } from "../../workload/group-scaling.ts";
import { contestedBy } from "../../workload/scalers.ts";
import { scalingOf } from "../../workload/scaling-decode.ts";

export const SCALING_READER: ScalingReader = {
  scaling: (workload, spec, namespace) => scalingOf(workload, spec, namespace).scaling,
  group: (workloads) => groupScaling(workloads).scaling,
  contestedBy,
  lastScaled,
  isDraining: (pod) => drainingOf(pod) !== undefined,
};
