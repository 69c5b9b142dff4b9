/** What must hold for every Pod at its creation, alone and among other webhooks. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import jsonpatch from "fast-json-patch";
import t from "tap";
import { admitObject, admitPod, type AdmitResult } from "../../src/admission/admit.ts";
import { patchOf } from "../../src/admission/patch.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { KubeObject, Pod, Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { isDenied } from "../../src/kinds/verdict.ts";
import { podFromTemplate, templatesOf } from "../../src/workload/template.ts";
import { podMutators } from "../support/foreign.ts";
import { legal, lost } from "../support/legal.ts";

const contextOf = (target: string): Parameters<typeof admitPod>[1] => ({
  snapshot: EMPTY_SNAPSHOT,
  settings: loadConfig({ flags: { "admission.target": target } }).admission,
});
const CONTEXTS = { split: contextOf("split"), pod: contextOf("pod") };

const isAdmitted = ({ verdicts }: AdmitResult): boolean => !verdicts.some(isDenied);

const same = (found: unknown, wanted: unknown): void => {
  if (!isDeepStrictEqual(found, wanted))
    throw new Error(`${JSON.stringify(found)}\n is not\n${JSON.stringify(wanted)}`);
};

/** With target `pod` the labels must stand in the template, since nobody writes them there. */
function labelled(workload: Workload): Workload {
  const keys = Object.entries(workload.metadata.labels ?? {}).filter(([key]) => key.startsWith("tandem.sh/"));
  const add = (value: unknown): unknown => {
    const template = value as Workload["spec"]["template"] | undefined;
    if (template === undefined) return undefined;
    const labels = { ...template.metadata?.labels, ...Object.fromEntries(keys) };
    return { ...template, metadata: { ...template.metadata, labels } };
  };
  const spec = workload.spec as unknown as Record<string, unknown>;
  const leader = spec["leaderWorkerTemplate"] as Record<string, unknown> | undefined;
  if (leader === undefined) return { ...workload, spec: { ...spec, template: add(spec["template"]) } } as never;
  const templates = ["leaderTemplate", "workerTemplate"].filter((key) => leader[key] !== undefined);
  const added = Object.fromEntries(templates.map((key) => [key, add(leader[key])]));
  return { ...workload, spec: { ...spec, leaderWorkerTemplate: { ...leader, ...added } } } as never;
}

/** The Pods of a workload's templates, as they reach admission. */
function podsOf(given: Workload, target: "split" | "pod"): Pod[] {
  const result = admitObject(target === "pod" ? labelled(given) : given, CONTEXTS[target]);
  if (!isAdmitted(result)) return [];
  return templatesOf(result.object).map((found) => podFromTemplate(result.object as Workload, "w-0", found));
}

type Foreign = <T extends KubeObject>(object: T) => T;
interface One {
  readonly pod: Pod;
  readonly mutate: Foreign;
  readonly admit: (pod: KubeObject) => AdmitResult;
}

const RUNS = 400;

function holds(name: string, property: (one: One) => void): void {
  t.test(name, (test) => {
    const changed = { split: 0, pod: 0 };
    fc.assert(
      fc.property(legal, podMutators, fc.constantFrom("split", "pod"), (given, mutate, target) => {
        const admit = (pod: KubeObject): AdmitResult => admitPod(pod as Pod, CONTEXTS[target]);
        for (const pod of podsOf(given, target)) {
          if (!isAdmitted(admit(pod))) continue;
          if (admit(pod).object !== pod) changed[target]++;
          property({ pod, mutate, admit });
        }
      }),
      { numRuns: RUNS },
    );
    for (const [target, count] of Object.entries(changed))
      test.ok(count > RUNS / 8, `target ${target}: ${count} Pods were changed`);
    test.end();
  });
}

function sound(given: KubeObject, { object, touched }: AdmitResult): void {
  const { patch, unsound } = patchOf(given, object, touched);
  same(unsound, undefined);
  same(jsonpatch.applyPatch(structuredClone(given), [...patch]).newDocument, object);
  same(lost(given, object), undefined);
}

holds("a Pod is admitted once, its patch gives it, and what it was stands in it", ({ pod, admit }) => {
  const copy = structuredClone(pod);
  const result = admit(pod);
  same(pod, copy);
  same(admit(result.object).object, result.object);
  sound(pod, result);
});

holds("another webhook before: its additions stay, and once is enough", ({ pod, mutate, admit }) => {
  const before = mutate(pod);
  const result = admit(before);
  sound(before, result);
  same(admit(result.object).object, result.object);
});

holds("another webhook after, and called again: both stay, and nothing is added twice", ({ pod, mutate, admit }) => {
  const between = mutate(admit(pod).object);
  const result = admit(between);
  sound(between, result);
  same(mutate(result.object), result.object);
  same(admit(result.object).object, result.object);
});
