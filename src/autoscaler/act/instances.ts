/**
 * The pods of a workload as instances, as far as they count for its replicas: what is being deleted, or has ended, does
 * not. From the pods alone; nothing is decided.
 */
import { engineStatus, isReady } from "../../workload/endpoint.ts";
import { drainingOf } from "../../workload/draining.ts";
import { firstOrdinal, groupPlace, ordinalOf } from "../../workload/instance.ts";
import { isObject, labelOf, type Pod, type Workload } from "../../kinds/kube.ts";
import { LABEL } from "../../kinds/names.ts";
import type { EngineSeen, InstanceSeen } from "../group.ts";

/** An engine over all of its pods. */
export interface Instance {
  /** Uid of one of its pods, the same as long as its pods are. */
  readonly id: string;
  readonly pods: readonly Pod[];
  /** Its number, where the kind of the workload gives it one: the highest goes first. */
  readonly index?: number;
  readonly ready: boolean;
  /** It was ready, is not now, and its engine's process is the same: what it was given may still run, and nobody reads its page. */
  readonly lapsed: boolean;
  /** Any of its pods carries the mark of a scale-in. */
  readonly draining: boolean;
  readonly engine?: EngineSeen;
}

/** As the ReplicaSet controller counts them (pkg/controller/controller_utils.go, IsPodActive). */
export const isActive = ({ metadata, status }: Pod): boolean =>
  metadata.deletionTimestamp === undefined && status?.phase !== "Succeeded" && status?.phase !== "Failed";

/**
 * `pods` are those that the workload made. Pods of an instance over several pods that have no place yet are put together
 * in their order, for they are as many replicas.
 */
export function instancesOf(
  { workload, nodesPerInstance }: { readonly workload: Workload; readonly nodesPerInstance: number },
  pods: readonly Pod[],
  seen: readonly InstanceSeen[],
): readonly Instance[] {
  const engines = new Map(seen.flatMap(({ id, engine }) => (engine === undefined ? [] : [[id, engine]])));
  const active = pods.filter(isActive);
  const place = (pod: Pod): string | undefined => placeOf(workload, nodesPerInstance, pod);
  const groups = Map.groupBy(active, (pod) => place(pod) ?? "");
  const loose = groups.get("") ?? [];
  groups.delete("");
  for (let at = 0; at < loose.length; at += nodesPerInstance)
    groups.set(`loose ${at}`, loose.slice(at, at + nodesPerInstance));
  return [...groups].map(([key, members]) => instance(key, members, engines));
}

function instance(key: string, pods: readonly Pod[], engines: ReadonlyMap<string, EngineSeen>): Instance {
  const engine = pods.map(({ metadata }) => engines.get(metadata.uid ?? "")).find((found) => found !== undefined);
  const index = NUMBERED.exec(key)?.[1];
  return {
    id: pods.map(({ metadata }) => metadata.uid ?? "").toSorted()[0] ?? "",
    pods,
    ...(index === undefined ? {} : { index: Number(index) }),
    ready: pods.every(isReady),
    lapsed: pods.some(hasLapsed),
    draining: pods.some((pod) => drainingOf(pod) !== undefined),
    ...(engine === undefined ? {} : { engine }),
  };
}

/** One that was never ready became unready before its engine began. Both times are the kubelet's. */
function hasLapsed(pod: Pod): boolean {
  const ready = pod.status?.conditions?.find(({ type }) => type === "Ready");
  const state = engineStatus(pod)?.["state"];
  const running = isObject(state) ? state["running"] : undefined;
  return (
    ready?.status !== "True" &&
    timeOf(ready?.["lastTransitionTime"]) > timeOf(isObject(running) && running["startedAt"])
  );
}

/** NaN where none is told: no comparison holds. */
const timeOf = (text: unknown): number => (typeof text === "string" ? Date.parse(text) : NaN);

const NUMBERED = /^#(\d+)$/;

/** `#N` where the workload numbers its instances, else what the pods of one have in common; undefined without a place. */
function placeOf(workload: Workload, nodes: number, pod: Pod): string | undefined {
  if (workload.kind === "StatefulSet") return numbered(ordinalIndex(workload, nodes, pod));
  if (workload.kind === "LeaderWorkerSet") return numbered(ordinalOf(groupPlace(pod)?.instance));
  return nodes === 1 ? pod.metadata.uid : labelOf(pod, LABEL.instance);
}

function ordinalIndex(workload: Workload, nodes: number, { metadata }: Pod): number | undefined {
  const ordinal = ordinalOf(metadata.name);
  return ordinal === undefined ? undefined : Math.floor((ordinal - firstOrdinal(workload)) / nodes);
}

const numbered = (index: number | undefined): string | undefined =>
  index === undefined || index < 0 ? undefined : `#${index}`;
