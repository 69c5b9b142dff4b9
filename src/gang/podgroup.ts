/**
 * The minimum viable set of a cell, and the Volcano PodGroup that asks for it.
 *
 * Decided from the WorkloadSpecs of one cell alone. Never counts pods or free devices: `place.ts` does, and the
 * controller writes what is planned here.
 */
import type { Role } from "../kinds/endpoint.ts";
import { LABEL } from "../kinds/names.ts";
import type { InstalledApis } from "../kinds/snapshot.ts";
import type { TopologyTree } from "../topology/tree.ts";
import { cellObjectName, cellOf } from "../workload/cell.ts";
import type { GangSetting, WorkloadSpec } from "../workload/spec.ts";

/** Engine instances of one workload that must stand for the cell to serve. */
export interface MinimumShare {
  readonly spec: WorkloadSpec;
  readonly role: Role;
  readonly instances: number;
  /** `instances` times `tandem.sh/nodes-per-instance`. */
  readonly pods: number;
}

/** The order in which roles are written and placed. */
const ROLES: readonly Role[] = ["prefill", "decode", "both"];

/** Workloads of a cell whose pods are held together: managed, with the gang stage left to us. */
export const gangMembers = (cell: readonly WorkloadSpec[]): readonly WorkloadSpec[] =>
  cell
    .filter((spec) => spec.mode === "manage" && spec.gang.kind !== "off" && !spec.skip.includes("gang"))
    .sort((a, b) => (a.name < b.name ? -1 : 1));

/** Whole engine instances that the replicas make. */
export const instancesOf = (spec: WorkloadSpec): number => Math.floor(spec.replicas / spec.nodesPerInstance);

/**
 * The fewest instances with which the cell serves. `auto`: one of each role that has replicas. A set asked for is capped
 * by the replicas there are: a minimum above them would wait for ever after a scale-in. Of several workloads of one
 * role, those with the fewest pods for an instance count first. Empty where the gang is off or nothing is to run.
 */
export function minimumViableSet(cell: readonly WorkloadSpec[]): readonly MinimumShare[] {
  const members = gangMembers(cell);
  return ROLES.flatMap((role) => sharesOf(role, members));
}

function sharesOf(role: Role, members: readonly WorkloadSpec[]): MinimumShare[] {
  const ofRole = members.filter((spec) => spec.role === role);
  let missing = Math.max(0, ...ofRole.map(({ gang }) => wanted(gang, role)));
  return ofRole
    .toSorted((a, b) => a.nodesPerInstance - b.nodesPerInstance)
    .flatMap((spec) => {
      const instances = Math.min(missing, instancesOf(spec));
      missing -= instances;
      return instances === 0 ? [] : [{ spec, role, instances, pods: instances * spec.nodesPerInstance }];
    });
}

function wanted(gang: GangSetting, role: Role): number {
  if (gang.kind === "off") return 0;
  if (gang.kind === "auto") return 1;
  return role === "both" ? 0 : gang[role];
}

/** `spec.networkTopology` of a PodGroup. Volcano refuses both tier fields together. */
export interface NetworkTopology {
  readonly mode: "hard" | "soft";
  readonly highestTierAllowed?: number;
  readonly highestTierName?: string;
}

/**
 * The fields of `scheduling.volcano.sh/v1beta1` PodGroup that Tandem owns. Left out on purpose:
 * - `minResources`: unset, a group is admitted to its queue at once. It would have to be the sum of the requests of the
 *   set as admission leaves them on the pods, which no WorkloadSpec knows; a figure too low lets through nothing more
 *   than unset does, one too high holds the group `Pending` for ever.
 * - `priorityClassName`: Volcano takes the pods' own.
 */
export interface PodGroupSpec {
  readonly minMember: number;
  /** By role, as the pods' `volcano.sh/task-spec`. Volcano ignores it unless `minMember` is at least its sum. */
  readonly minTaskMember: Readonly<Record<string, number>>;
  readonly queue?: string;
  readonly networkTopology?: NetworkTopology;
  readonly subGroupPolicy?: readonly SubGroupPolicy[];
}

/**
 * Engine instances over several pods: counted whole, each in as close a domain as there is. The pods of an instance have
 * its label in common; those that have none yet are held by the gate of ranks, and are no subgroup.
 */
export interface SubGroupPolicy {
  readonly name: string;
  readonly labelSelector: { readonly matchLabels: Readonly<Record<string, string>> };
  /** Without a key a policy matches nothing. */
  readonly matchLabelKeys: readonly string[];
  readonly subGroupSize: number;
  readonly minSubGroups: number;
  readonly networkTopology?: NetworkTopology;
}

export interface PodGroupPlan {
  readonly namespace: string;
  readonly name: string;
  readonly spec: PodGroupSpec;
}

/** What a PodGroup is made for. Absent: nobody looked. */
export interface PodGroupScene {
  readonly apis?: InstalledApis;
  /** Gives tier names their numbers. */
  readonly tree?: TopologyTree | undefined;
  /** Most pods of a role that may be asked for, as long as the rest are not there. */
  readonly most?: ReadonlyMap<Role, number>;
}

/** The PodGroup of a cell, or undefined where there is no gang to hold together or Volcano's API is known to be absent. */
export function podGroupPlan(cell: readonly WorkloadSpec[], scene: PodGroupScene = {}): PodGroupPlan | undefined {
  const shares = minimumViableSet(cell);
  const first = shares[0]?.spec;
  if (first === undefined || scene.apis?.podGroups === false) return undefined;
  const id = cellOf(first);
  const queue = shares.find(({ spec }) => spec.queue !== "")?.spec.queue;
  const minimum = byRole(shares, scene.most);
  const policies = subGroups(shares, minimum);
  return {
    namespace: id.namespace,
    name: cellObjectName(id),
    spec: {
      minMember: Object.values(minimum).reduce((sum, pods) => sum + pods, 0),
      minTaskMember: minimum,
      ...(queue === undefined ? {} : { queue }),
      ...topologyField(first, scene),
      ...(policies.length === 0 || !has("subGroupPolicy", scene) ? {} : { subGroupPolicy: policies }),
    },
  };
}

/** Whether one PodGroup is for each engine instance, because a scheduler plugin judges whole PodGroups. */
export const holdsByInstance = (spec: WorkloadSpec): boolean => spec.device?.podGroup === "instance";

/** The PodGroup of one engine instance: `id` is its own, or the uid of its only pod. */
export function instancePodGroup(spec: WorkloadSpec, id: string, scene: PodGroupScene = {}): PodGroupPlan {
  const pods = spec.nodesPerInstance;
  return {
    namespace: spec.namespace,
    name: instanceGroupName(spec, id),
    spec: {
      minMember: pods,
      minTaskMember: { [spec.role]: pods },
      ...(spec.queue === "" ? {} : { queue: spec.queue }),
      ...(pods === 1 ? {} : topologyField(spec, scene)),
    },
  };
}

/** Eight hexadecimal digits tell the instances of one cell apart. */
export const instanceGroupName = (spec: WorkloadSpec, id: string): string =>
  `${cellObjectName(cellOf(spec))}-${id.slice(0, 8)}`;

/** Volcano 1.12 has network topology, 1.14 tier names and subgroups; what the CRD lacks would be dropped on arrival. */
const has = (field: string, { apis }: PodGroupScene): boolean => apis?.podGroupFields?.has(field) ?? true;

function topologyField(spec: WorkloadSpec, scene: PodGroupScene): { networkTopology?: NetworkTopology } {
  const topology = has("networkTopology", scene) ? networkTopology(spec, scene.tree) : undefined;
  if (topology === undefined) return {};
  if (topology.highestTierName === undefined || has("networkTopology.highestTierName", scene))
    return { networkTopology: topology };
  // A name that neither of us can resolve: as near as possible is the nearest to what was asked.
  return { networkTopology: { mode: "soft" } };
}

/** Only where all instances of a role are of one size: the label selector cannot tell two workloads of a role apart. */
function subGroups(shares: readonly MinimumShare[], minimum: Readonly<Record<string, number>>): SubGroupPolicy[] {
  return ROLES.flatMap((role): SubGroupPolicy[] => {
    const ofRole = shares.filter((share) => share.role === role);
    const [first] = ofRole;
    const size = first?.spec.nodesPerInstance ?? 1;
    if (first === undefined || size === 1 || ofRole.some(({ spec }) => spec.nodesPerInstance !== size)) return [];
    const { topology, skip } = first.spec;
    return [
      {
        name: role,
        labelSelector: { matchLabels: { [LABEL.role]: role } },
        matchLabelKeys: [LABEL.instance],
        subGroupSize: size,
        minSubGroups: Math.floor((minimum[role] ?? 0) / size),
        // Within what the cell requires; a hard tier could be too small for one instance.
        ...(topology === "off" || skip.includes("topology") ? {} : { networkTopology: { mode: "soft" } }),
      },
    ];
  });
}

function byRole(shares: readonly MinimumShare[], most: PodGroupScene["most"]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { role, pods } of shares) counts[role] = (counts[role] ?? 0) + pods;
  for (const [role, limit] of most ?? []) if ((counts[role] ?? 0) > limit) counts[role] = limit;
  return counts;
}

/** Volcano's tiers begin at 1 by convention, when no tree is known to say otherwise. */
const CLOSEST_TIER = 1;

function networkTopology(spec: WorkloadSpec, tree: TopologyTree | undefined): NetworkTopology | undefined {
  if (spec.topology === "off" || spec.skip.includes("topology")) return undefined;
  // Volcano reads no tier in soft mode: it is hard mode up to the virtual root.
  if (spec.topology === "preferred") return { mode: "soft" };
  const tier = highestTier(spec, tree) ?? spec.topologyTier ?? CLOSEST_TIER;
  // Hard mode without a tier is not enforced at all, so there always is one.
  return typeof tier === "number"
    ? { mode: "hard", highestTierAllowed: tier }
    : { mode: "hard", highestTierName: tier };
}

/**
 * The highest tier a `required` cell may span: what the workload says, else the closest tier of the tree. Undefined
 * where a tier name is unknown, or there is neither a tier nor a tree.
 */
export function highestTier(spec: WorkloadSpec, tree: TopologyTree | undefined): number | undefined {
  if (spec.topologyTier === undefined) return tree?.tiers[0];
  return typeof spec.topologyTier === "number" ? spec.topologyTier : tree?.tierOf(spec.topologyTier);
}
