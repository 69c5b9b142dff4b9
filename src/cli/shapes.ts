/** What objects of files must have at least: commands read them as an API server would have stored them. */
import { isObject, keyOf, type KubeObject } from "../kinds/kube.ts";
import { isTemplate, templateOf } from "../workload/template.ts";
import { UsageError } from "./input.ts";

interface Shape {
  readonly needs: string;
  readonly holds: (object: KubeObject) => boolean;
}

/** Pods of one workload; each is made and placed. */
const MOST_REPLICAS = 10_000;

const WORKLOAD: Shape = {
  needs: `spec.template, or spec.replicas from 0 to ${MOST_REPLICAS},`,
  holds: ({ spec }) => isObject(spec) && isTemplate(spec["template"]) && isCount(spec["replicas"] ?? 1),
};

const isCount = (value: unknown): boolean =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) <= MOST_REPLICAS;

const listOrNone = (part: unknown, field: string): boolean =>
  !isObject(part) || part[field] === undefined || Array.isArray(part[field]);

const SHAPES: Readonly<Record<string, Shape>> = {
  HyperNode: {
    needs: "spec.tier and spec.members",
    holds: ({ spec }) => isObject(spec) && typeof spec["tier"] === "number" && Array.isArray(spec["members"]),
  },
  Node: {
    needs: "a list as status.conditions or spec.taints",
    holds: ({ spec, status }) => listOrNone(status, "conditions") && listOrNone(spec, "taints"),
  },
  Pod: { needs: "spec.containers with names", holds: isTemplate },
  Deployment: WORKLOAD,
  StatefulSet: WORKLOAD,
  LeaderWorkerSet: {
    needs: `spec.leaderWorkerTemplate.workerTemplate, or spec.replicas from 0 to ${MOST_REPLICAS},`,
    holds: (object) =>
      isObject(object["spec"]) && templateOf(object) !== undefined && isCount(object["spec"]["replicas"] ?? 1),
  },
};

/** Throws a UsageError for an object that no API server would store, where what is missing would be read. */
export function checkShape(object: KubeObject): void {
  const shape = Object.hasOwn(SHAPES, object.kind) ? SHAPES[object.kind] : undefined;
  if (shape !== undefined && !shape.holds(object))
    throw new UsageError(`${object.kind} ${keyOf(object)}: ${shape.needs} is missing or wrong`);
}
