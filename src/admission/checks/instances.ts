/** Checks of instances over several pods: replicas, ranks and rollouts must come in whole instances. */
import { isObject } from "../../kinds/kube.ts";
import { ANNOTATION } from "../../kinds/names.ts";
import { denied, warned, type Verdict } from "../../kinds/verdict.ts";
import { leavesRollout, rollingSteps } from "../../workload/creation.ts";
import { needsSlots, runsHeadless } from "../../workload/instance.ts";
import { counted, type Check, type Facts } from "./check.ts";

const KEY = ANNOTATION.nodesPerInstance;
const refuse = (message: string): readonly Verdict[] => [denied("InstanceInvalid", message, { subject: KEY })];
const warn = (message: string): readonly Verdict[] => [warned("InstanceInvalid", message, { subject: KEY })];

/** Workloads whose pods get their places from the controller. */
const isSlotted = ({ spec }: Facts): boolean =>
  needsSlots(spec) && (spec.kind === "Deployment" || spec.kind === "StatefulSet");

const replicas: Check = (facts) => {
  const { nodesPerInstance: nodes, replicas: pods } = facts.spec;
  if (!isSlotted(facts) || pods % nodes === 0) return [];
  return refuse(`${KEY} is ${nodes}, but there are ${pods} replicas; give a multiple of ${nodes}`);
};

/** Every node starts as many ranks, so all of them must come to the whole. */
const ranks: Check = ({ spec }) => {
  const { dp, dpLocal } = spec.parallelism;
  if (spec.nodesPerInstance === 1 || dp === 1 || spec.sizesHidden === true || spec.engine === "sglang") return [];
  if (dpLocal * spec.nodesPerInstance === dp) return [];
  return refuse(`${KEY} is ${spec.nodesPerInstance} with ${dpLocal} data-parallel ranks each, but dp is ${dp}`);
};

/** The second pod is made only when the first is ready, and that waits behind its gate for the second. */
const order: Check = (facts) => {
  const { object, spec } = facts;
  if (!isSlotted(facts) || object.kind !== "StatefulSet" || inner(object["spec"], "podManagementPolicy") === "Parallel")
    return [];
  return refuse(`${KEY} is ${spec.nodesPerInstance}, but pods come one by one; give podManagementPolicy: Parallel`);
};

const inner = (value: unknown, key: string): unknown => (isObject(value) ? value[key] : undefined);

/** True where admission writes steps that fit. */
const fitsRollout = ({ object, spec, target }: Facts): boolean =>
  target === "split" && !spec.skip.includes("replicas") && leavesRollout(object);

/** A new instance starts only when all its pods are there, and the old pods go only when it is ready. */
const rollout: Check = (facts) => {
  const { object, spec } = facts;
  const steps = isSlotted(facts) ? rollingSteps(object, spec.replicas) : undefined;
  if (steps === undefined || spec.replicas === 0 || fitsRollout(facts)) return [];
  const { surge, unavailable } = steps;
  // Kubernetes' own defaults are nobody's mistake.
  const stuck = leavesRollout(object) ? warn : refuse;
  const nodes = spec.nodesPerInstance;
  const hint = `give maxSurge and maxUnavailable as multiples of ${nodes}, as maxSurge: 0 and maxUnavailable: ${nodes}`;
  if (surge + unavailable < nodes)
    return stuck(
      `a rolling update makes ${counted(surge + unavailable, "new pod")}, an instance takes ${nodes}; ${hint}`,
    );
  if (surge % nodes === 0 && unavailable % nodes === 0) return [];
  return warn(`a rolling update breaks more instances than it replaces (${surge} surge, ${unavailable} less); ${hint}`);
};

/** A headless engine answers no HTTP: its pod would never be ready, and the rollout never end. */
const readiness: Check = (facts) => {
  const { spec, template } = facts;
  const container = template.spec.containers.find(({ name }) => name === spec.container);
  const probe = container?.["readinessProbe"];
  if (!isSlotted(facts) || !runsHeadless(spec) || !isObject(probe) || probe["exec"] !== undefined) return [];
  return warn(`readinessProbe of ${spec.container} asks every node, but only rank 0 has an API server; use exec`);
};

export const INSTANCE_CHECKS: readonly Check[] = [replicas, ranks, order, rollout, readiness];
