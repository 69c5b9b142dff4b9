/**
 * What admission made of each workload, as Events on it: webhooks may have no side effects, so the controller tells.
 *
 * The explanation is admission's own, given from outside. One Event says what the stages did, one more follows for each
 * complaint. Each is told once for the same words; they come again only when the server has forgotten them.
 */
import { hash } from "node:crypto";
import type { KubeObject, Workload } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { isDenied, isWarned, type Verdict } from "../kinds/verdict.ts";
import type { Action } from "./action.ts";
import type { Contract } from "./contracts.ts";
import { createIsolation } from "./isolation.ts";

/** A summary first, then what there is to complain of. */
export type Judge = (workload: Workload, snapshot: ClusterSnapshot) => readonly Verdict[];

/** Most complaints that are told of one workload. */
const MOST = 8;

/**
 * Remembers what was judged while nothing that a judgement reads has changed. Every pod that comes and goes is a write of
 * its workload's status, and every workload is judged beside the others: judging all of them each time would never end.
 */
export function createExplainer(
  judge: Judge,
): (contracts: readonly Contract[], snapshot: ClusterSnapshot) => readonly Action[] {
  const digestOf = createDigests();
  let read: readonly string[] = [];
  let told = new Map<string, readonly Verdict[]>();
  return (contracts, snapshot) => {
    const { workloads, namespaces, hyperNodes, autoscalers = [] } = snapshot;
    const now = [...workloads, ...namespaces, ...hyperNodes, ...autoscalers].map(digestOf);
    if (now.length !== read.length || now.some((digest, index) => digest !== read[index])) told = new Map();
    read = now;
    return contracts.flatMap(({ workload }) => {
      const id = workload.metadata.uid ?? "";
      const verdicts = told.get(id) ?? judged(judge, workload, snapshot);
      told.set(id, verdicts);
      return explain(workload, verdicts);
    });
  };
}

function judged(judge: Judge, workload: Workload, snapshot: ClusterSnapshot): readonly Verdict[] {
  const { guard, actions } = createIsolation();
  const verdicts = guard("explanation", workload, () => judge(workload, snapshot));
  return [...verdicts, ...actions.map(({ verdict }) => verdict)];
}

/** Of what a judgement reads of an object: neither its status nor its version. Worked out once for each object. */
function createDigests(): (object: KubeObject) => string {
  const known = new WeakMap<KubeObject, string>();
  return (object) => {
    // An object that cannot be read is nobody's news.
    const digest = known.get(object) ?? createIsolation().guard("digest", object, () => [digestOf(object)])[0] ?? "";
    known.set(object, digest);
    return digest;
  };
}

function digestOf({ kind, metadata, ...rest }: KubeObject): string {
  const { namespace, name, uid, labels, annotations, deletionTimestamp } = metadata;
  const own = [namespace, name, uid, labels, annotations, deletionTimestamp];
  return hash("sha256", JSON.stringify([kind, own, rest["spec"]]), "base64");
}

function explain(workload: Workload, verdicts: readonly Verdict[]): readonly Action[] {
  const summary = verdicts.filter(({ reason }) => reason === "Admitted");
  const complaints = verdicts.filter((verdict) => isDenied(verdict) || isWarned(verdict)).slice(0, MOST);
  const id = workload.metadata.uid ?? "";
  return [...summary, ...complaints].map((verdict, index) => ({
    do: "tell",
    key: `explain/${id}/${index}`,
    verdict,
    about: [workload],
  }));
}
