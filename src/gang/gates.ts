/**
 * Gates: what becomes of the waiting pods of each cell, under any scheduler.
 *
 * Decided from the pods, the contracts, free devices and the topology of one snapshot; the clock comes in. What was
 * decided before stands on the pods (`waiting.ts`) and nowhere else, so that another replica goes on where one stopped.
 *
 * - A minimum viable set that is complete and has room is let go whole, in one step. One that has not holds nothing.
 * - A set that was let go and that the scheduler could not bind gives back what did not bind; if that happens again, or
 *   the rest has no room beside what did bind, all of it: of two gangs that each held half, one then finds room.
 * - Pods beyond the minimum follow one by one, into the domain of their cell.
 * - A half whose other half nobody has made yet waits for it as long as it may wait for room.
 * - Pods that were made without a gate while their cell fell are given back: they are made anew behind one.
 * - What waits for room longer than `liftAfterMs` is let go without a place: only then a node autoscaler sees it.
 * It never touches a pod of a cell that once stood, save to let it go, and never a pod that another gate holds.
 */
import { annotationOf, keyOf, type Pod } from "../kinds/kube.ts";
import { STATUS } from "../kinds/names.ts";
import { allowed, denied, skipped, warned, type Verdict } from "../kinds/verdict.ts";
import { byText, type Domain, type TopologyTree } from "../topology/tree.ts";
import { placeCell, type CellField, type CellOutcome } from "./cell-plan.ts";
import { isBound, scarcest, type Amounts } from "./devices.ts";
import { podRole, shortOf, topologyPolicy, type Shortage } from "./members.ts";
import type { Pattern, Task } from "./pack.ts";
import type { Partner } from "./partner.ts";
import { minimumViableSet, type MinimumShare } from "./podgroup.ts";
import { reservedNode } from "./reservations.ts";
import { isHeld, isLoose, isUnschedulable, liftedTo, otherGates, servedMs, waitingSince } from "./waiting.ts";
import type { WorkloadSpec } from "../workload/spec.ts";

export interface GateTimes {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** A pod that was let go has this long to be bound, once the scheduler has refused it. */
  readonly bindMs: number;
  /** A gang without room is let go after so long; 0: never. */
  readonly liftAfterMs: number;
}

export interface WaitingCell {
  readonly key: string;
  /** For messages. */
  readonly name: string;
  readonly specs: readonly WorkloadSpec[];
  /** Pods of the cell that have not ended and are not on their way out. */
  readonly members: readonly Pod[];
  /** Nodes of the service's other cells, one entry a pod. */
  readonly others?: readonly string[];
  /** A role that it cannot serve without, and of which nobody has made a workload. */
  readonly partner?: Partner | undefined;
  /** Its minimum viable set has been bound once. */
  readonly stood: boolean;
  /** How often in a row what was let go could not be bound. */
  readonly failures: number;
}

/** Where the pods may go, and what is free there: what is let go is taken from `room`. */
export interface GateField extends Omit<CellField, "resource"> {
  demand(pod: Pod): Amounts;
  pattern(pod: Pod): Pattern;
}

export type GateStep =
  /** To the node planned for each; undefined: without a place. `domain` confines them, where the cell asks for it. */
  | {
      readonly do: "lift";
      readonly pods: ReadonlyMap<Pod, string | undefined>;
      readonly domain: Domain | undefined;
      readonly verdict: Verdict;
    }
  /** The pods are deleted, so that their owners make new ones behind the gate. */
  | { readonly do: "giveBack"; readonly pods: readonly Pod[]; readonly verdict: Verdict }
  /** `fresh`: pods of a complete gang whose wait for room begins now. */
  | { readonly do: "hold"; readonly fresh: readonly Pod[]; readonly verdict: Verdict }
  /** The minimum viable set is bound, in this domain. */
  | { readonly do: "stand"; readonly domain: Domain };

/** Steps of every cell that has any, by its key. Cells that have begun come first, then those that wait longest. */
export function gateSteps(
  cells: readonly WaitingCell[],
  field: GateField,
  times: GateTimes,
): ReadonlyMap<string, GateStep> {
  const scenes = cells.map((cell) => sceneOf(cell, times)).sort(before);
  for (const { reserved } of scenes) for (const [pod, node] of reserved) field.room.take(node, field.demand(pod), pod);
  const steps = new Map<string, GateStep>();
  for (const scene of scenes) {
    const step = stepOf(scene, field, times);
    if (step !== undefined) steps.set(scene.cell.key, step);
  }
  return steps;
}

interface Scene {
  readonly cell: WaitingCell;
  readonly minimum: readonly MinimumShare[];
  readonly bound: readonly Pod[];
  /** Let go and not bound. */
  readonly lifted: readonly Pod[];
  /** The nodes on which they hold room; what nobody binds lapses, and keeps no room from other gangs. */
  readonly reserved: ReadonlyMap<Pod, string>;
  /** Held by our gate alone. */
  readonly ready: readonly Pod[];
  /** Held by others, too. */
  readonly blocked: readonly Pod[];
}

function sceneOf(cell: WaitingCell, times: GateTimes): Scene {
  const members = cell.members.toSorted((a, b) => byText(keyOf(a), keyOf(b)));
  const held = members.filter((pod) => isHeld(pod) && !isBound(pod));
  const lifted = members.filter((pod) => liftedTo(pod) !== undefined);
  return {
    cell,
    minimum: minimumViableSet(cell.specs),
    bound: members.filter(isBound),
    lifted,
    reserved: new Map(
      lifted.flatMap((pod) => {
        const node = reservedNode(pod, times);
        return node === undefined ? [] : [[pod, node] as const];
      }),
    ),
    ready: held.filter((pod) => otherGates(pod).length === 0),
    blocked: held.filter((pod) => otherGates(pod).length > 0),
  };
}

const hasBegun = ({ bound, lifted }: Scene): boolean => bound.length + lifted.length > 0;
const oldest = ({ ready }: Scene): number => Math.min(Infinity, ...ready.map((pod) => waitingSince(pod) ?? Infinity));
const before = (a: Scene, b: Scene): number =>
  Number(hasBegun(b)) - Number(hasBegun(a)) ||
  // Two that have no time yet would give NaN.
  (oldest(a) === oldest(b) ? 0 : oldest(a) - oldest(b)) ||
  byText(a.cell.key, b.cell.key);

function stepOf(scene: Scene, field: GateField, times: GateTimes): GateStep | undefined {
  const { cell, ready, blocked } = scene;
  const first = cell.stood ? undefined : settled(scene, field, times);
  if (first !== undefined) return first;
  if (ready.length + blocked.length === 0) return undefined;
  const why = cell.stood ? undefined : incomplete(scene, times);
  if (why !== undefined) return hold(scene, [], why);
  const open = cell.stood ? [] : scene.minimum;
  return ready.length === 0 ? hold(scene, [], foreign(scene)) : placed(scene, open, { field, times });
}

/** What comes of the pods that no gate holds, where the cell does not stand. */
function settled(scene: Scene, field: GateField, times: GateTimes): GateStep | undefined {
  if (stands(scene)) return { do: "stand", domain: field.tree.commonDomain(nodesOf(scene.bound)) };
  const loose = scene.cell.members.filter(isLoose);
  if (loose.length > 0) return astray(scene, loose);
  const failed = unbound(scene, times);
  return failed.length > 0 ? giveBack(scene, failed, times) : undefined;
}

function incomplete(scene: Scene, times: GateTimes): Verdict | undefined {
  const partner = awaited(scene, times);
  if (partner !== undefined) return lonely(scene, partner, times);
  const missing = shortOf(scene.minimum, [...scene.bound, ...scene.lifted, ...scene.ready]);
  return missing === undefined ? undefined : waits(scene, missing);
}

/** The other half, if its workload may still come. Later nobody is going to make it, and what is there is the gang. */
function awaited(scene: Scene, { now, liftAfterMs }: GateTimes): Partner | undefined {
  const { cell, ready, blocked } = scene;
  if (cell.partner === undefined || hasBegun(scene)) return undefined;
  const made = [...ready, ...blocked].map(({ metadata }) => Date.parse(metadata.creationTimestamp ?? ""));
  const first = Math.min(...made.map((at) => (Number.isNaN(at) ? -Infinity : at)));
  return liftAfterMs === 0 || now - first < liftAfterMs ? cell.partner : undefined;
}

function lonely({ cell, minimum }: Scene, partner: Partner, { liftAfterMs }: GateTimes): Verdict {
  const [half] = minimum;
  const bound = liftAfterMs === 0 ? "" : `, ${liftAfterMs / 1000} s at most`;
  const alone = `tandem.sh/gang: ${half?.role}=${half?.instances}`;
  return skipped(
    "GangIncomplete",
    `${cell.name} waits for a ${partner} workload${bound}: what is there serves nobody without; ${alone} says that none comes`,
  );
}

const stands = ({ minimum, bound }: Scene): boolean => minimum.length > 0 && shortOf(minimum, bound) === undefined;

/** Pods that were let go for a place which the scheduler does not give them. */
const unbound = ({ lifted }: Scene, times: GateTimes): readonly Pod[] =>
  lifted.some((pod) => isLapsed(pod, times)) ? lifted : [];

/** The scheduler has refused it for too long. */
function isLapsed(pod: Pod, { now, bindMs, liftAfterMs }: GateTimes): boolean {
  const { node, at } = liftedTo(pod) ?? { node: undefined, at: now };
  // Without a place it waits for new nodes; then as long again, before what its gang holds is given back.
  return isUnschedulable(pod) && now - at > (node === undefined ? liftAfterMs : bindMs);
}

function giveBack(scene: Scene, failed: readonly Pod[], { now }: GateTimes): GateStep {
  const { cell, bound } = scene;
  const held = cell.failures > 0 ? bound.filter((pod) => isOurs(pod, now)) : [];
  const end = held.length > 0 ? `${held.length} that were bound are given back, too` : "they are planned again";
  const message = `${cell.name}: ${failed.length} pods could not be bound where they were planned; ${end}`;
  return {
    do: "giveBack",
    pods: [...failed, ...held],
    verdict: warned("GangGivenBack", message, { subject: cell.name }),
  };
}

function astray({ cell }: Scene, loose: readonly Pod[]): GateStep {
  const message = `${cell.name}: ${loose.length} pods were made without a gate while the cell fell; they are made anew`;
  return { do: "giveBack", pods: loose, verdict: warned("GangGivenBack", message, { subject: cell.name }) };
}

/**
 * A bound pod of a gang that never stood may be given back if we let it go, and if it has not served for long: a pod that
 * ran before Tandem came, or whose cell's record somebody deleted, is somebody's service.
 */
const isOurs = (pod: Pod, now: number): boolean =>
  [STATUS.placement, STATUS.follows].some((name) => annotationOf(pod, name) !== undefined) &&
  (servedMs(pod, now) ?? 0) < SERVING_MS;

/** Ten minutes: longer than a gang takes from its first binding to its last, or to its failure. */
const SERVING_MS = 600_000;

const hold = ({ cell }: Scene, fresh: readonly Pod[], verdict: Verdict): GateStep => ({
  do: "hold",
  fresh,
  verdict: { ...verdict, subject: cell.name },
});

function waits({ cell, blocked }: Scene, { role, found, wanted }: Shortage): Verdict {
  const pods = wanted - found;
  const gates = [...new Set(blocked.flatMap(otherGates))].sort().join(", ");
  const why = gates === "" ? "" : `; ${blocked.length} are still held by ${gates}`;
  return skipped("GangIncomplete", `${cell.name} waits for ${pods} more ${role} ${pods === 1 ? "pod" : "pods"}${why}`);
}

const foreign = ({ cell, blocked }: Scene): Verdict =>
  skipped(
    "GangIncomplete",
    `${cell.name}: ${[...new Set(blocked.flatMap(otherGates))].sort().join(", ")} still holds its pods`,
  );

interface Around {
  readonly field: GateField;
  readonly times: GateTimes;
}

/** Lets go what has a place now; else it waits, or gives back what it holds, or is let go without a place in the end. */
function placed(scene: Scene, minimum: readonly MinimumShare[], { field, times }: Around): GateStep {
  const planned = plan(scene, minimum, field);
  return lift(scene, planned) ?? refused(scene, planned.outcome, times);
}

function lift({ cell }: Scene, { outcome, domain }: Planned): GateStep | undefined {
  if (outcome.gang?.outcome === "denied" || outcome.nodes.size === 0) return undefined;
  const pods = new Map([...outcome.nodes].map(([task, node]) => [task.pod, node] as const));
  const why = outcome.gang ?? [...outcome.verdicts.values()].find(({ outcome }) => outcome === "allowed");
  const message = `${cell.name}: ${pods.size} pods let go; ${why?.message ?? ""}`;
  const verdict = allowed("GateLifted", message, { subject: cell.name, numbers: { pods: pods.size } });
  return { do: "lift", pods, domain, verdict };
}

function refused(scene: Scene, { gang, verdicts }: CellOutcome, times: GateTimes): GateStep {
  const refusal = [gang, ...verdicts.values()].find((verdict) => verdict?.outcome === "denied") ?? NO_ROOM;
  const holds = gang?.outcome === "denied" && !scene.cell.stood ? held(scene, times) : [];
  if (holds.length > 0) return returned(scene, holds, refusal);
  const late = scene.ready.filter((pod) => isLate(pod, times));
  if (late.length > 0) return expired(scene, late, refusal);
  const fresh = scene.ready.filter((pod) => waitingSince(pod) === undefined);
  return hold(scene, fresh, skipped("GateHeld", refusal.message, { numbers: refusal.numbers ?? {} }));
}

const NO_ROOM = denied("NoDomainFits", "no node has room");

/** What a gang that never stood holds, by our doing. */
const held = ({ bound, lifted }: Scene, { now }: GateTimes): readonly Pod[] => [
  ...bound.filter((pod) => isOurs(pod, now)),
  ...lifted,
];

const isLate = (pod: Pod, { now, liftAfterMs }: GateTimes): boolean =>
  liftAfterMs > 0 && now - (waitingSince(pod) ?? now) >= liftAfterMs;

/** Half a gang must not hold what another may use whole. */
function returned({ cell }: Scene, pods: readonly Pod[], refusal: Verdict): GateStep {
  const message = `${cell.name}: the rest of the gang has no room (${refusal.message}); ${pods.length} pods are given back`;
  return { do: "giveBack", pods, verdict: warned("GangGivenBack", message, { subject: cell.name }) };
}

function expired({ cell }: Scene, late: readonly Pod[], refusal: Verdict): GateStep {
  const message = `${cell.name}: ${late.length} pods are let go without a place, for a node autoscaler to see; ${refusal.message}`;
  const pods = new Map(late.map((pod) => [pod, undefined] as const));
  return { do: "lift", pods, domain: undefined, verdict: warned("GateExpired", message, { subject: cell.name }) };
}

const nodesOf = (pods: readonly Pod[]): string[] => pods.flatMap(({ spec }) => spec.nodeName ?? []);

interface Planned {
  readonly outcome: CellOutcome;
  readonly domain: Domain | undefined;
}

function plan(scene: Scene, minimum: readonly MinimumShare[], field: GateField): Planned {
  const { cell, bound, reserved, ready } = scene;
  const tasks = ready.map((pod): Task => ({ pod, key: keyOf(pod), role: podRole(pod), pattern: field.pattern(pod) }));
  const there = [...nodesOf(bound), ...reserved.values()].sort();
  const policy = topologyPolicy(cell.specs, field.tree);
  const outcome = placeCell(
    {
      name: cell.name,
      tasks,
      minimum,
      bound: there,
      boundRoles: [...bound, ...reserved.keys()].map(podRole),
      policy,
      others: cell.others ?? [],
    },
    { ...field, resource: scarcest(tasks.map(({ pattern }) => pattern.demand)) },
  );
  if (policy.mode === "off" || outcome.nodes.size === 0) return { outcome, domain: undefined };
  return { outcome, domain: confining([...there, ...outcome.nodes.values()], policy.tier, field.tree) };
}

/** The chosen domain: the smallest that holds them all; the root confines nobody. */
function confining(nodes: readonly string[], tier: number | undefined, tree: TopologyTree): Domain | undefined {
  const common = tree.commonDomain(nodes);
  const widest = tier === undefined || nodes[0] === undefined ? undefined : tree.domainOf(nodes[0], tier);
  const domain = widest !== undefined && widest.step > common.step ? widest : common;
  return domain === tree.root ? undefined : domain;
}
