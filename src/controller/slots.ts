/**
 * Instances over several pods of Deployments and StatefulSets: which waiting pods become one engine, with which ranks,
 * and what becomes of the rest when one of them dies. Decided from pods, workloads and the Services that record earlier
 * decisions; nothing else is remembered.
 *
 * 1. N waiting pods of one template make an instance: its Service names them in the order of their ranks.
 * 2. Once the Service is stored, each of them gets its place and is let go, in one patch.
 * 3. A member that is gone, was restarted or does not come back breaks the instance for good: an engine's peers cannot be
 *    exchanged while it runs. The others get no new work and are deleted, so that their owner makes new pods, which form
 *    an instance of their own. A member that is not ready takes it out of routing until all are.
 * It never gives a rank twice, never changes one on a pod that may run, and never mixes templates.
 */
import { keyOf, labelOf, type KubeObject, type Namespace, type Pod } from "../kinds/kube.ts";
import { LABEL } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import { changed, skipped, warned } from "../kinds/verdict.ts";
import type { Devices } from "../profiles/devices.ts";
import { workloadSpec } from "../workload/decode.ts";
import { firstOrdinal, isGated } from "../workload/instance.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Action } from "./action.ts";
import type { Acts, Contract, Contracts } from "./contracts.ts";
import { selects } from "./labels.ts";
import { isApplied } from "./owned.ts";
import { batchKey, form } from "./slots/form.ts";
import { breakOf, readinessActions, type Break, type Patience } from "./slots/health.ts";
import { instanceId, serviceOf, slotsOf, type Slot } from "./slots/record.ts";
import { drainAction, freeAction, isDrained, rankAction, replaceAction } from "./slots/writes.ts";

/** Ports of instances on the host's network: block k begins at `first + k * size`. */
export interface PortBlocks {
  readonly first: number;
  readonly size: number;
  readonly count: number;
}

export interface SlotFacts {
  readonly pods: readonly Pod[];
  /** Services with our ownership label. */
  readonly services: readonly KubeObject[];
  readonly namespaces: readonly Namespace[];
  readonly contracts: Contracts;
  readonly acts: Acts;
  readonly devices: Devices;
  readonly blocks: PortBlocks;
  /** Absent where no time passes: then nothing is replaced because of it. */
  readonly patience?: Patience;
}

export function slotActions(facts: SlotFacts): readonly Action[] {
  const acts = ({ metadata }: KubeObject): boolean => facts.acts(metadata.namespace ?? "default");
  const pods = facts.pods.filter((pod) => acts(pod) && labelOf(pod, LABEL.model) !== undefined);
  const unread = pods.filter(
    (pod) => facts.contracts.guard("instances", pod, () => [isAlive(pod), isGated(pod)])[0] === undefined,
  );
  // An instance of which a pod cannot be read must not look as if it had lost it: the namespace waits.
  const blind = new Set(unread.map(namespaceOf));
  const clear = (object: KubeObject): boolean => !blind.has(namespaceOf(object));
  return readActions({ ...facts, pods: pods.filter(clear), services: facts.services.filter(acts).filter(clear) });
}

const namespaceOf = ({ metadata }: KubeObject): string => metadata.namespace ?? "default";

function readActions(facts: SlotFacts): readonly Action[] {
  const { pods, contracts } = facts;
  const slots = slotsOf(facts.services, pods);
  const standing = standingsOf(slots, pods);
  const known = new Set(standing.filter(holds).flatMap(({ slot }) => slot.members));
  const waiting = pods.filter((pod) => isAlive(pod) && isGated(pod) && !known.has(pod.metadata.uid ?? ""));
  return [
    ...standing.flatMap((one) => contracts.guard("instances", memberOf(one), () => standingActions(one, facts))),
    ...formActions(waiting, slots, facts),
  ];
}

const memberOf = ({ slot, started, gated }: Standing): KubeObject | undefined =>
  slot.service ?? [...started, ...gated][0]?.pod;

/** The members of an instance that is no more are free as soon as its record is gone. */
const holds = ({ slot, started, whole }: Standing): boolean =>
  whole || started.length > 0 || slot.service !== undefined;

const isAlive = ({ metadata, status }: Pod): boolean =>
  metadata.deletionTimestamp === undefined && status?.phase !== "Failed" && status?.phase !== "Succeeded";

interface Member {
  readonly pod: Pod;
  readonly rank: number;
}

/** A slot with those of its members that are alive. */
interface Standing {
  readonly slot: Slot;
  readonly gated: readonly Member[];
  /** They have their place, and may run. */
  readonly started: readonly Member[];
  readonly whole: boolean;
}

/**
 * A waiting pod that two records name belongs to one of them: to a whole one before a broken one, by name. Two come
 * about where a pod dies between a record's writing and its being seen.
 */
function standingsOf(slots: readonly Slot[], pods: readonly Pod[]): readonly Standing[] {
  const byUid = new Map(pods.filter(isAlive).map((pod) => [pod.metadata.uid ?? "", pod]));
  const claimed = new Set<string>();
  const order = slots
    .map((slot) => standingOf(slot, byUid, claimed))
    .toSorted((a, b) => Number(b.whole) - Number(a.whole) || (a.slot.instance < b.slot.instance ? -1 : 1));
  return order.map(({ slot }) => {
    const standing = standingOf(slot, byUid, claimed);
    for (const { pod } of standing.gated) claimed.add(pod.metadata.uid ?? "");
    return standing;
  });
}

function standingOf(slot: Slot, byUid: ReadonlyMap<string, Pod>, claimed: ReadonlySet<string>): Standing {
  const members = slot.members.flatMap((uid, rank): Member[] => {
    const pod = byUid.get(uid);
    return pod === undefined || pod.metadata.namespace !== slot.namespace ? [] : [{ pod, rank }];
  });
  const gated = members.filter(({ pod }) => isGated(pod) && !claimed.has(pod.metadata.uid ?? ""));
  const started = members.filter(({ pod }) => !isGated(pod) && labelOf(pod, LABEL.instance) === slot.instance);
  return { slot, gated, started, whole: gated.length + started.length === slot.members.length };
}

function standingActions(standing: Standing, facts: SlotFacts): Action[] {
  const { slot, started, gated, whole } = standing;
  const pods = started.map(({ pod }) => pod);
  if (whole) {
    const broken = gated.length > 0 ? undefined : breakOf(pods, facts.patience);
    return broken === undefined ? wholeActions(standing, facts) : brokenActions(standing, broken, facts);
  }
  // Pods that never started are free to join others as soon as no record names them.
  if (pods.length === 0) return removeActions(slot);
  const why = `${slot.members.length - pods.length} of ${slot.members.length} pods are gone`;
  return brokenActions(standing, { why, due: true }, facts);
}

/** The record first: pods start only after it has been seen in the store. */
function wholeActions({ slot, gated, started }: Standing, facts: SlotFacts): Action[] {
  const pod = [...started, ...gated][0]?.pod;
  const contract = pod === undefined ? undefined : contractOf(pod, facts);
  if (contract === undefined) return [];
  const service = serviceOf(contract, slot);
  const write = isApplied(slot.service, service) ? [] : [applyAction(service, contract, slot)];
  if (gated.length === 0) {
    const ranks = started.map((member) => ({ ...member, spec: specOf(member.pod, contract, facts) }));
    return [...write, ...readinessActions(ranks, slot, contract)];
  }
  if (slot.service === undefined) return write;
  return [...write, ...gated.flatMap(({ pod, rank }) => placeOf(pod, rank, slot, { contract, facts }))];
}

function placeOf(pod: Pod, rank: number, slot: Slot, known: { contract: Contract; facts: SlotFacts }): Action[] {
  const spec = specOf(pod, known.contract, known.facts);
  return spec === undefined ? [] : [rankAction(pod, rank, slot, { contract: known.contract, spec })];
}

function removeActions({ service, instance }: Slot): Action[] {
  if (service === undefined || service.metadata.deletionTimestamp !== undefined) return [];
  return [
    {
      do: "remove",
      key: `instance/${keyOf(service)}`,
      verdict: changed("InstanceRemoved", `Service ${keyOf(service)}: instance ${instance} has no pods`, {
        subject: keyOf(service),
      }),
      about: [],
      kind: "Service",
      ref: refOf(service),
      uid: service.metadata.uid,
    },
  ];
}

/** Out of routing at once, whoever replaces them. */
function brokenActions({ slot, started }: Standing, broken: Break, facts: SlotFacts): Action[] {
  const pods = started.map(({ pod }) => pod);
  const drains = pods.filter((pod) => !isDrained(pod)).map((pod) => drainAction(pod, slot.instance, "instance-broken"));
  const contract = pods[0] === undefined ? undefined : contractOf(pods[0], facts);
  if (contract === undefined) return drains;
  const replaces = contract.spec.recovery === "tandem" && broken.due;
  return [
    brokenTold(slot, contract, broken),
    ...drains,
    ...(replaces ? pods.map((pod) => replaceAction(pod, slot.instance)) : []),
  ];
}

function brokenTold({ instance }: Slot, contract: Contract, { why, due }: Break): Action {
  const replaced = due ? "all are replaced" : "all are replaced when it is old enough";
  const message = `instance ${instance}: ${why}; ${contract.spec.recovery === "tandem" ? replaced : "left to the platform"}`;
  return {
    do: "tell",
    key: `broken/${contract.spec.namespace}/${instance}`,
    verdict: warned("InstanceBroken", message, { subject: contract.spec.name }),
    about: [contract.workload],
  };
}

const applyAction = (service: KubeObject, contract: Contract, { instance, members }: Slot): Action => ({
  do: "apply",
  key: `instance/${keyOf(service)}`,
  verdict: changed("InstanceFormed", `instance ${instance}: ${members.length} pods, Service ${keyOf(service)}`, {
    subject: contract.spec.name,
    numbers: { pods: members.length },
  }),
  about: [contract.workload],
  object: service,
});

const contractOf = (pod: Pod, { contracts }: SlotFacts): Contract | undefined =>
  contracts.all.find((one) => one.spec.namespace === pod.metadata.namespace && selects(one, pod));

/** The contract that the pod was made with: the workload's own may be newer. */
function specOf(pod: Pod, contract: Contract, { devices, namespaces }: SlotFacts): WorkloadSpec | undefined {
  const namespace = namespaces.find(({ metadata }) => metadata.name === pod.metadata.namespace);
  return workloadSpec(pod, { devices, namespace, inherited: contract.workload.metadata.annotations }).spec;
}

function formActions(waiting: readonly Pod[], slots: readonly Slot[], facts: SlotFacts): Action[] {
  const taken = new Set(slots.flatMap(({ portBase }) => (portBase === undefined ? [] : [portBase])));
  const batches = Map.groupBy(waiting, (pod) => batchKey(pod) ?? "");
  return [...batches]
    .filter(([key]) => key !== "")
    .flatMap(([key, pods]) =>
      facts.contracts.guard("instances", pods[0], () => batchActions({ key, pods, taken }, facts)),
    );
}

interface Waiting {
  readonly key: string;
  readonly pods: readonly Pod[];
  /** First ports of blocks in use; grows. */
  readonly taken: Set<number>;
}

function batchActions({ key, pods, taken }: Waiting, facts: SlotFacts): Action[] {
  const [first] = pods;
  const contract = first === undefined ? undefined : contractOf(first, facts);
  const spec = first === undefined || contract === undefined ? undefined : specOf(first, contract, facts);
  if (contract === undefined || spec === undefined || spec.nodesPerInstance < 2) return freed(pods, facts);
  const { instances, leftover } = form({
    ...{ key, pods, nodes: spec.nodesPerInstance },
    start: firstOrdinal(contract.workload),
  });
  return [
    ...instances.map((members) => formed(members, contract, { taken, blocks: facts.blocks })),
    ...waitingTold(key, leftover, { contract, nodes: spec.nodesPerInstance, pods: facts.pods }),
  ];
}

/**
 * Their workload asks for instances no more (its label was taken off, its mode changed), so that nobody would ever give
 * them a place: they are let go, as `tandem release` does. Not before the workload must have been seen.
 */
function freed(pods: readonly Pod[], { contracts, patience }: SlotFacts): Action[] {
  const isStranded = ({ metadata }: Pod): boolean =>
    patience !== undefined &&
    !contracts.unclear.has(metadata.namespace ?? "default") &&
    patience.now - Date.parse(metadata.creationTimestamp ?? "") >= SEEN_MS;
  return pods.filter(isStranded).map(freeAction);
}

/**
 * Workloads and pods come by watches of their own. One that broke is silent for 45 s before that is noticed, and back 30 s
 * later: a pod without its place, let go too early, would fail for ever.
 */
const SEEN_MS = 150_000;

function formed(
  pods: readonly Pod[],
  contract: Contract,
  { taken, blocks }: { taken: Set<number>; blocks: PortBlocks },
): Action {
  const members = pods.map(({ metadata }) => metadata.uid ?? "");
  const base = { namespace: contract.spec.namespace, instance: instanceId(members), members };
  if (!pods.some(({ spec }) => spec.hostNetwork === true))
    return applyAction(serviceOf(contract, base), contract, base);
  const portBase = freeBlock(base.instance, taken, blocks);
  if (portBase === undefined) return noBlock(base, contract, blocks);
  taken.add(portBase);
  const slot = { ...base, portBase };
  return applyAction(serviceOf(contract, slot), contract, slot);
}

const LAST_PORT = 65535;

/**
 * Unique over all instances of the cluster: which of them will share a node is not known while they wait. Where the search
 * begins follows from the instance: decided again before its record has been seen, beside others that have come
 * meanwhile, it gets the same block, and not one that its record gave to another.
 */
function freeBlock(
  instance: string,
  taken: ReadonlySet<number>,
  { first, size, count }: PortBlocks,
): number | undefined {
  const start = parseInt(instance.slice(0, 8), 16) || 0;
  const most = Math.min(count, Math.floor((LAST_PORT + 1 - first) / size));
  for (let step = 0; step < most; step++) {
    const port = first + ((start + step) % most) * size;
    if (!taken.has(port)) return port;
  }
  return undefined;
}

const noBlock = ({ instance }: Slot, contract: Contract, { count }: PortBlocks): Action => ({
  do: "tell",
  key: `ports/${contract.spec.namespace}/${instance}`,
  verdict: warned("InstanceWaiting", `all ${count} port blocks are taken; raise controller.instancePorts.count`, {
    subject: contract.spec.name,
  }),
  about: [contract.workload],
});

/** Told only once all pods of the workload are there: until then more are on their way. */
function waitingTold(
  key: string,
  leftover: readonly Pod[],
  known: { contract: Contract; nodes: number; pods: readonly Pod[] },
): Action[] {
  const { contract, nodes, pods } = known;
  const own = pods.filter((pod) => isAlive(pod) && pod.metadata.namespace === contract.spec.namespace);
  if (leftover.length === 0 || own.filter((pod) => selects(contract, pod)).length < contract.spec.replicas) return [];
  const count = leftover.length % nodes;
  const message = `${leftover.length} pods wait for an instance of ${nodes}: ${nodes - count} are missing`;
  const verdict = skipped("InstanceWaiting", message, { subject: contract.spec.name });
  return [{ do: "tell", key: `waiting/${key}`, verdict, about: [contract.workload] }];
}
