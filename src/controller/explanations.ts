/**
 * What admission made of each workload, as Events on it: webhooks may have no side effects, so the controller tells.
 *
 * The explanation is admission's own, given from outside. One Event says what the stages did, one more follows for each
 * complaint. Each is told once for the same words; they come again only when the server has forgotten them.
 */
import type { Workload } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { isDenied, isWarned, type Verdict } from "../kinds/verdict.ts";
import type { Action } from "./action.ts";
import type { Contract } from "./contracts.ts";

/** A summary first, then what there is to complain of. */
export type Judge = (workload: Workload, snapshot: ClusterSnapshot) => readonly Verdict[];

/** Most complaints that are told of one workload. */
const MOST = 8;

/** Remembers what was judged while nothing that a judgement reads has changed: pods come and go far more often. */
export function createExplainer(
  judge: Judge,
): (contracts: readonly Contract[], snapshot: ClusterSnapshot) => readonly Action[] {
  let read: readonly Part[] = [];
  let told = new WeakMap<Workload, readonly Action[]>();
  return (contracts, snapshot) => {
    const { workloads, namespaces, hyperNodes, autoscalers } = snapshot;
    const now = [workloads, namespaces, hyperNodes, autoscalers];
    if (now.some((part, index) => !isSame(part, read[index]))) told = new WeakMap();
    read = now;
    return contracts.flatMap(({ workload }) => {
      const actions = told.get(workload) ?? explain(workload, judge(workload, snapshot));
      told.set(workload, actions);
      return actions;
    });
  };
}

type Part = readonly unknown[] | undefined;

/** The lists are made anew with every snapshot, the objects in them only when they change. */
const isSame = (a: Part, b: Part): boolean =>
  a === b || (a?.length === b?.length && (a ?? []).every((one, index) => one === b?.[index]));

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
