/**
 * What each verb of Volcano's `extender` plugin answers: the one decision of the extender in Volcano's words.
 *
 * A call about nobody of ours gets the answer that changes nothing, without a look at the cluster. `onSessionOpen` and
 * `queueOverused` are answered so always: the first carries the whole cluster each second, the second is about queues.
 */
import type { Verdict } from "../../kinds/verdict.ts";
import { podCell } from "../../gang/members.ts";
import { filterNodes, prioritizeNodes, refusalsByNode } from "../decide.ts";
import type { Answer } from "../server.ts";
import { anyOurs, jobVerdict, keyOfCell, type GangScene, type SessionMemory } from "./gang.ts";
import { victimsAmong } from "./victims.ts";
import {
  CODE,
  decodeEvent,
  decodeEvictees,
  decodeJob,
  decodePredicate,
  decodePrioritize,
  VOTE,
  type Evictee,
  type Job,
  type PredicateCall,
  type PrioritizeCall,
  type Task,
} from "./wire.ts";

/** One verb, about calls of one form. */
interface Verb<Call> {
  /** Throws BadCall. */
  readonly decode: (body: unknown) => Call;
  /** Whether the call is about pods of ours. */
  readonly ours: (call: Call) => boolean;
  /** Changes nothing of what Volcano does without us. */
  readonly neutral: (call: Call) => unknown;
  /** Where the cluster is not known: what does no harm, said again a second later. */
  readonly unjudged: (call: Call, message: string) => unknown;
  readonly decide: (call: Call, scene: GangScene) => Answer;
}

/** A verb whose calls have been decoded already. */
export interface Asked {
  readonly ours: boolean;
  readonly neutral: () => unknown;
  readonly unjudged: (message: string) => unknown;
  readonly decide: (scene: GangScene) => Answer;
}

const asked =
  <Call>({ decode, ours, neutral, unjudged, decide }: Verb<Call>): ((body: unknown) => Asked) =>
  (body) => {
    const call = decode(body);
    return {
      ours: ours(call),
      neutral: () => neutral(call),
      unjudged: (message) => unjudged(call, message),
      decide: (scene) => decide(call, scene),
    };
  };

/** The reason first, so that it can be searched for in a PodGroup's events. */
const textOf = ({ reason, message }: Verdict): string => `${reason}: ${message}`;

const isOurs = ({ pod }: Task): boolean => podCell(pod) !== undefined;

const FITS = { status: "", code: CODE.success };

const predicate: Verb<PredicateCall> = {
  decode: decodePredicate,
  // Others' pods are kept off devices that are promised to ours.
  ours: () => true,
  neutral: () => FITS,
  unjudged: ({ task }, message) => (isOurs(task) ? { status: message, code: CODE.unschedulable } : FITS),
  decide: ({ task, node }, { view }) => {
    const refusal = refusalsByNode(filterNodes(task.pod, [node], view)).get(node);
    if (refusal === undefined) return { body: FITS, verdicts: [] };
    const { verdict, hopeless } = refusal;
    const code = hopeless ? CODE.unresolvable : CODE.unschedulable;
    return { body: { status: textOf(verdict), code }, verdicts: [verdict] };
  },
};

/** Volcano adds what plugins say as it is; the same 500 at most that kube-scheduler makes of weight 5. */
const POINTS = 50;

const prioritize: Verb<PrioritizeCall> = {
  decode: decodePrioritize,
  ours: ({ task }) => isOurs(task),
  neutral: () => ({ nodeScore: {}, errorMessage: "" }),
  unjudged: () => ({ nodeScore: {}, errorMessage: "" }),
  decide: ({ task, nodes }, { view }) => {
    const scores = prioritizeNodes(task.pod, nodes, view);
    const nodeScore = Object.fromEntries(scores.map(({ host, score }) => [host, score * POINTS]));
    return { body: { nodeScore, errorMessage: "" }, verdicts: scores.map(({ verdict }) => verdict) };
  },
};

const jobReady: Verb<Job> = {
  decode: decodeJob,
  ours: ({ tasks }) => anyOurs(tasks),
  neutral: () => ({ status: true }),
  unjudged: () => ({ status: false }),
  decide: (job, scene) => {
    const verdict = jobVerdict(job, scene);
    return { body: { status: verdict.outcome !== "denied" }, verdicts: [verdict] };
  },
};

/**
 * A rejection, or no vote: a permission would silence the tiers that follow, and with them the quotas of queues. What is
 * still to come is no reason to reject: a PodGroup is queued before its pods are there.
 */
const jobEnqueueable: Verb<Job> = {
  decode: decodeJob,
  ours: ({ tasks }) => anyOurs(tasks),
  neutral: () => ({ status: VOTE.abstain }),
  unjudged: () => ({ status: VOTE.abstain }),
  decide: ({ tasks }, scene) => {
    const keys = new Set(tasks.flatMap(({ pod }) => keyOfCell(pod) ?? []));
    const gangs = [...keys].flatMap((key) => (scene.stood(key) ? [] : (scene.view.plans.of(key)?.gang ?? [])));
    const refused = gangs.find(({ outcome, reason }) => outcome === "denied" && reason !== "GangIncomplete");
    return { body: { status: refused === undefined ? VOTE.abstain : VOTE.reject }, verdicts: gangs };
  },
};

const victims: Verb<readonly Evictee[]> = {
  decode: decodeEvictees,
  ours: (evictees) => anyOurs(evictees.map(({ task }) => task)),
  neutral: () => ({ status: VOTE.abstain, victims: [] }),
  unjudged: (evictees) => given(evictees.filter(({ task }) => !isOurs(task))),
  decide: (evictees, scene) => {
    const { given: may, kept } = victimsAmong(evictees, scene);
    return { body: kept.length === 0 ? victims.neutral(evictees) : given(may), verdicts: kept };
  },
};

const given = (evictees: readonly Evictee[]): unknown => ({
  status: VOTE.permit,
  victims: evictees.map(({ raw }) => raw),
});

/** Volcano tells of every pod that it places or evicts, and of every time it takes that back. */
const told = (tell: (memory: SessionMemory, task: Task) => void): Verb<Task> => ({
  decode: decodeEvent,
  ours: isOurs,
  neutral: () => ({ errorMessage: "" }),
  unjudged: () => ({ errorMessage: "" }),
  decide: (task, { memory }) => {
    tell(memory, task);
    return { body: { errorMessage: "" }, verdicts: [] };
  },
});

/** Verbs by their name in the path. */
export const VERBS = {
  predicate: asked(predicate),
  prioritize: asked(prioritize),
  jobReady: asked(jobReady),
  jobEnqueueable: asked(jobEnqueueable),
  preemptable: asked(victims),
  reclaimable: asked(victims),
  allocateFunc: asked(told((memory, { pod }) => memory.stays(pod))),
  deallocateFunc: asked(told((memory, { pod }) => memory.leaves(pod))),
} as const;

/**
 * Verbs whose body is not read, and their answers; undefined: an empty body. Volcano reads no answer to a call of a
 * session, and keeps the connection only where there is none to read.
 */
export const UNREAD = {
  onSessionOpen: undefined,
  onSessionClose: undefined,
  jobEnqueued: {},
  queueOverused: { overused: false },
} as const;
