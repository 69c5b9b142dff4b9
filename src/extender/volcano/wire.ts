/**
 * The calls of Volcano's `extender` plugin (pkg/scheduler/plugins/extender/argument.go), decoded for what we read of
 * them. Inside are Go structs without JSON tags, so that fields have Go's names; `Pod` in a Task and `Node` in a Node are
 * ordinary v1 JSON. A Task's Pod carries the node that Volcano has chosen in this session, bound or not.
 */
import { isObject, type JsonObject, type Pod } from "../../kinds/kube.ts";
import { isTemplate } from "../../workload/template.ts";
import { BadCall } from "../bad-call.ts";

/** A pod as Volcano's session sees it. */
export interface Task {
  readonly pod: Pod;
  /** Volcano's TaskStatus (pkg/scheduler/api/types.go), one bit. */
  readonly status: number;
}

/** A PodGroup with its pods. */
export interface Job {
  /** `namespace/name` of the PodGroup. */
  readonly uid: string;
  readonly tasks: readonly Task[];
}

export interface Evictee {
  readonly task: Task;
  /** As it came: an answer gives victims back whole, for Volcano may use the copy instead of its own object. */
  readonly raw: unknown;
}

export interface PredicateCall {
  readonly task: Task;
  readonly node: string;
}

export interface PrioritizeCall {
  readonly task: Task;
  readonly nodes: readonly string[];
}

/** TaskStatus: Allocated in the session, Binding, Bound, Running. Volcano counts the same four as allocated. */
const ALLOCATED = 2 | 8 | 16 | 32;

/** Whether the task has a node: in this session, or bound to it. */
export const isAllocated = ({ status }: Task): boolean => (status & ALLOCATED) !== 0;

/** Kubernetes itself is built for 5000 nodes, and 110 pods on each. */
const MAX_NODES = 50_000;
const MAX_TASKS = 50_000;

/** Throws BadCall, as all of these do. */
export function decodePredicate(body: unknown): PredicateCall {
  const call = objectAt(body, "PredicateRequest");
  return { task: taskAt(call["task"], "task"), node: nodeAt(call["node"], "node") };
}

export function decodePrioritize(body: unknown): PrioritizeCall {
  const call = objectAt(body, "PrioritizeRequest");
  const nodes = listAt(call["nodes"], "nodes", MAX_NODES);
  return { task: taskAt(call["task"], "task"), nodes: nodes.map((node, index) => nodeAt(node, `nodes[${index}]`)) };
}

/** The body of `jobReady`, `jobEnqueueable` and `jobEnqueued`. */
export function decodeJob(body: unknown): Job {
  const job = objectAt(objectAt(body, "a request with job")["job"], "job");
  const { UID: uid, Tasks: tasks } = job;
  if (typeof uid !== "string" || uid === "") throw new BadCall("job.UID must be a text");
  const all = Object.entries(objectAt(tasks ?? {}, "job.Tasks"));
  if (all.length > MAX_TASKS) throw new BadCall(`job.Tasks must be at most ${MAX_TASKS}`);
  return { uid, tasks: all.map(([key, task]) => taskAt(task, `job.Tasks[${JSON.stringify(key)}]`)) };
}

/** The body of `allocateFunc` and `deallocateFunc`. */
export const decodeEvent = (body: unknown): Task => taskAt(objectAt(body, "EventHandlerRequest")["task"], "task");

/** The body of `preemptable` and `reclaimable`: the pods that may have to go. Who comes in their place decides nothing. */
export function decodeEvictees(body: unknown): readonly Evictee[] {
  const evictees = objectAt(body, "PreemptableRequest")["evictees"] ?? [];
  return listAt(evictees, "evictees", MAX_TASKS).map((raw, index) => ({
    task: taskAt(raw, `evictees[${index}]`),
    raw,
  }));
}

function objectAt(value: unknown, place: string): JsonObject {
  if (!isObject(value)) throw new BadCall(`${place} must be an object`);
  return value;
}

function listAt(value: unknown, place: string, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw new BadCall(`${place} must be a list of at most ${most}`);
  return value;
}

function nodeAt(value: unknown, place: string): string {
  const { Name: name } = objectAt(value, place);
  if (typeof name !== "string" || name === "") throw new BadCall(`${place}.Name must be a text`);
  return name;
}

function taskAt(value: unknown, place: string): Task {
  const { Status: status, Pod: pod } = objectAt(value, place);
  if (!Number.isInteger(status)) throw new BadCall(`${place}.Status must be a whole number`);
  return { pod: podAt(pod, `${place}.Pod`), status: status as number };
}

function podAt(value: unknown, place: string): Pod {
  if (!isObject(value) || !isObject(value["metadata"]) || !isTemplate(value))
    throw new BadCall(`${place} must be a v1 Pod with metadata and named containers`);
  return { ...value, apiVersion: "v1", kind: "Pod", metadata: value["metadata"], spec: value.spec };
}

/** The codes of a node that is refused (pkg/scheduler/api/unschedule_info.go); 0 beside a text would be read as Error. */
export const CODE = { success: 0, unschedulable: 2, unresolvable: 3 } as const;

/** How Volcano's plugins vote: a veto beats every other vote, and a permission silences the tiers that follow. */
export const VOTE = { reject: -1, abstain: 0, permit: 1 } as const;
