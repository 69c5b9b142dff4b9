/**
 * Whether Volcano may bind what it has found for one PodGroup: `jobReady`.
 *
 * Volcano holds one PodGroup together, and knows of no other. Where a cell has one for each instance (device profiles
 * with `podGroup: instance`), gates let all of them go at once; between that moment and the binding somebody else's pod
 * may take the room of one. So no PodGroup of a cell is bound before the last one of its minimum viable set has a place.
 *
 * Volcano keeps what a veto leaves unbound until its session ends, about a second: what each PodGroup of a cell has been
 * given in a session is remembered that long. With the last one the cell is granted as a whole, for it and, a session
 * later, for the others. This memory is no record: who loses it vetoes once more.
 *
 * A veto ends by itself, so that no gang can wait for another for ever: what a vetoed PodGroup holds during a session
 * others cannot use. It never touches a cell that stands, nor pods that are not of a gang of ours.
 */
import { keyOf, type Pod } from "../../kinds/kube.ts";
import { allowed, denied, skipped, type Verdict } from "../../kinds/verdict.ts";
import { isBound } from "../../gang/devices.ts";
import { cellName, podCell, shortOf } from "../../gang/members.ts";
import { minimumViableSet, type MinimumShare } from "../../gang/podgroup.ts";
import { liftedTo } from "../../gang/waiting.ts";
import { cellKey } from "../../workload/cell.ts";
import type { ClusterView } from "../view.ts";
import { isAllocated, type Job, type Task } from "./wire.ts";

/** A session is over before, even if nobody says so. */
const SEEN_MS = 30_000;
/** A grant outlives the sessions in which the rest of the cell is bound, one a second. */
const GRANT_MS = 10_000;

/** Where sessions never end, this does not grow. */
const MOST_LEAVING = 50_000;

/** What one PodGroup was given. */
interface Share {
  readonly pods: readonly Pod[];
  readonly until: number;
}

/** What Volcano has told in the session that runs. Times are monotonic milliseconds. */
export class SessionMemory {
  readonly #shares = new Map<string, Map<string, Share>>();
  readonly #grants = new Map<string, number>();
  readonly #leaving = new Set<string>();

  /** Volcano gives back what it has not bound, and evicts what it has chosen: nothing counts any more. */
  close(): void {
    this.#shares.clear();
    this.#leaving.clear();
  }

  /** A bound pod was chosen as a victim; until it is seen to go, it must not be counted upon. */
  leaves(pod: Pod): void {
    if (this.#leaving.size < MOST_LEAVING) this.#leaving.add(keyOf(pod));
  }

  /** The choice was taken back. */
  stays(pod: Pod): void {
    this.#leaving.delete(keyOf(pod));
  }

  isLeaving(pod: Pod): boolean {
    return this.#leaving.has(keyOf(pod));
  }

  /** A PodGroup has room for these pods; what it was given before is forgotten. */
  saw(cell: string, job: string, share: { readonly pods: readonly Pod[]; readonly now: number }): void {
    const shares = this.#shares.get(cell) ?? new Map<string, Share>();
    this.#shares.set(cell, shares.set(job, { pods: share.pods, until: share.now + SEEN_MS }));
  }

  /** Pods of the cell that have room in this session. */
  given(cell: string, now: number): readonly Pod[] {
    return [...(this.#shares.get(cell)?.values() ?? [])].flatMap(({ pods, until }) => (until > now ? pods : []));
  }

  grant(cell: string, now: number): void {
    for (const [key, until] of this.#grants) if (until <= now) this.#grants.delete(key);
    this.#grants.set(cell, now + GRANT_MS);
  }

  isGranted(cell: string, now: number): boolean {
    return (this.#grants.get(cell) ?? 0) > now;
  }
}

export interface GangScene {
  readonly view: ClusterView;
  readonly memory: SessionMemory;
  /** Whether the minimum viable set of the cell has been bound once. */
  readonly stood: (key: string) => boolean;
  /** Monotonic milliseconds. */
  readonly monotonic: number;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** Milliseconds after which a gang is not vetoed any more, from the last of its pods being made or let go. */
  readonly holdMs: number;
}

/** `denied`: not to be bound yet. */
export function jobVerdict(job: Job, scene: GangScene): Verdict {
  const cells = Map.groupBy(job.tasks, ({ pod }) => keyOfCell(pod));
  const verdicts = [...cells].flatMap(([key, tasks]) =>
    key === undefined ? [] : [cellVerdict(key, { uid: job.uid, tasks }, scene)],
  );
  return verdicts.find(({ outcome }) => outcome === "denied") ?? verdicts[0] ?? skipped("NotOurs", "not ours");
}

/** The cell of a pod that is ours. */
export function keyOfCell(pod: Pod): string | undefined {
  const cell = podCell(pod);
  return cell === undefined ? undefined : cellKey(cell);
}

function cellVerdict(key: string, job: Job, scene: GangScene): Verdict {
  const { memory, monotonic } = scene;
  const minimum = minimumViableSet(scene.view.cells.workloads(key).map(({ spec }) => spec));
  const free = released(key, minimum, scene);
  if (free !== undefined) return { ...free, subject: key };
  const own = job.tasks.filter(isAllocated).map(({ pod }) => pod);
  memory.saw(key, job.uid, { pods: own, now: monotonic });
  // By name: Volcano may tell of a pod that the store has bound already.
  const placed = new Map([...standing(key, scene), ...memory.given(key, monotonic)].map((pod) => [keyOf(pod), pod]));
  const short = shortOf(minimum, [...placed.values()]);
  if (short === undefined) {
    memory.grant(key, monotonic);
    return allowed("GangAllocated", "the whole minimum viable set has room", { subject: key });
  }
  const name = cellName(minimum[0]?.spec);
  const message = `${name}: ${short.found} of ${short.wanted} ${short.role} pods have room`;
  return denied("GangNotAllocated", message, { subject: key, numbers: { found: short.found, wanted: short.wanted } });
}

/** Pods of the cell that are bound, and stay. */
export const standing = (key: string, { view, memory }: Pick<GangScene, "view" | "memory">): readonly Pod[] =>
  [...view.cells.pods(key)].filter((pod) => isBound(pod) && !memory.isLeaving(pod));

/** Why nothing is asked of the cell, or nothing any more. */
function released(key: string, minimum: readonly MinimumShare[], scene: GangScene): Verdict | undefined {
  if (minimum.length === 0) return skipped("StageNothingToDo", "the cell has no gang");
  if (scene.stood(key)) return allowed("CellStands", "the cell stands");
  if (scene.memory.isGranted(key, scene.monotonic)) return allowed("GangAllocated", "the cell was granted as a whole");
  const waited = scene.now - Math.max(...[...scene.view.cells.pods(key)].map(sinceOf), 0);
  if (waited <= scene.holdMs) return undefined;
  return allowed("VetoExpired", `the rest had no room for ${Math.round(waited / 1000)} s`);
}

/** When the pod became one that a scheduler may place: its gate was lifted, or it was made without one. */
const sinceOf = (pod: Pod): number => liftedTo(pod)?.at ?? (Date.parse(pod.metadata.creationTimestamp ?? "") || 0);

/** Whether any of the tasks is of a cell of ours. */
export const anyOurs = (tasks: readonly Task[]): boolean => tasks.some(({ pod }) => podCell(pod) !== undefined);
