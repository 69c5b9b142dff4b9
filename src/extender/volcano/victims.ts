/**
 * Which pods may make room for another: `preemptable` and `reclaimable`.
 *
 * Volcano spares the minimum of one PodGroup. A cell that serves falls with the minimum viable set over all of them, and
 * an instance with any one of its pods. So of a cell that stands only instances beyond the minimum are given, the newest
 * first; or every pod, when all of the cell may go. A cell that never stood serves nobody and is not spared.
 */
import type { Role } from "../../kinds/endpoint.ts";
import { keyOf, labelOf, type Pod } from "../../kinds/kube.ts";
import { LABEL } from "../../kinds/names.ts";
import { denied, type Verdict } from "../../kinds/verdict.ts";
import { cellName, podRole } from "../../gang/members.ts";
import { minimumViableSet, type MinimumShare } from "../../gang/podgroup.ts";
import { keyOfCell, standing, type GangScene } from "./gang.ts";
import type { Evictee } from "./wire.ts";

export interface Victims {
  readonly given: readonly Evictee[];
  /** One for each pod that is kept. */
  readonly kept: readonly Verdict[];
}

type Scene = Pick<GangScene, "view" | "memory" | "stood">;

/** In the order asked. */
export function victimsAmong(evictees: readonly Evictee[], scene: Scene): Victims {
  const cells = Map.groupBy(evictees, ({ task }) => keyOfCell(task.pod));
  const kept = new Map([...cells].flatMap(([key, ours]) => (key === undefined ? [] : [...spared(key, ours, scene)])));
  return { given: evictees.filter((one) => !kept.has(one)), kept: [...kept.values()] };
}

function spared(key: string, asked: readonly Evictee[], scene: Scene): ReadonlyMap<Evictee, Verdict> {
  const minimum = minimumViableSet(scene.view.cells.workloads(key).map(({ spec }) => spec));
  const bound = standing(key, scene);
  const left = surplus(minimum, bound);
  const serves = scene.stood(key) || [...left.values()].every((count) => count >= 0);
  const names = new Set(asked.map(({ task }) => keyOf(task.pod)));
  const all = bound.every((pod) => names.has(keyOf(pod)));
  if (minimum.length === 0 || all || !serves) return new Map();
  const name = cellName(minimum[0]?.spec);
  const kept = needed(asked, left, Map.groupBy(bound, instanceOf));
  return new Map(kept.map((one) => [one, verdictOf(one, name)]));
}

/** Of instances that are asked for, those that the role cannot do without; the others are taken off `left`. */
function needed(
  asked: readonly Evictee[],
  left: Map<Role, number>,
  instances: ReadonlyMap<string, readonly Pod[]>,
): readonly Evictee[] {
  const newest = [...Map.groupBy(asked, ({ task }) => instanceOf(task.pod))].sort(
    ([, a], [, b]) => bornOf(b) - bornOf(a),
  );
  return newest.flatMap(([id, pods]) => {
    const role = podRole((pods[0] as Evictee).task.pod);
    const rest = (left.get(role) ?? Infinity) - (instances.get(id)?.length ?? 0);
    if (rest < 0) return pods;
    left.set(role, rest);
    return [];
  });
}

/** Bound pods of each role beyond the minimum; below zero where some are missing. */
function surplus(minimum: readonly MinimumShare[], bound: readonly Pod[]): Map<Role, number> {
  const left = new Map<Role, number>();
  for (const { role, pods } of minimum) left.set(role, (left.get(role) ?? 0) - pods);
  for (const role of bound.map(podRole)) if (left.has(role)) left.set(role, (left.get(role) ?? 0) + 1);
  return left;
}

const instanceOf = (pod: Pod): string => labelOf(pod, LABEL.instance) ?? keyOf(pod);

const bornOf = (pods: readonly Evictee[]): number =>
  Math.max(...pods.map(({ task }) => Date.parse(task.pod.metadata.creationTimestamp ?? "") || 0));

const verdictOf = ({ task }: Evictee, cell: string): Verdict =>
  denied("VictimSpared", `${cell} would fall below its minimum viable set`, { subject: keyOf(task.pod) });
