/** What must hold for every Deployment: admission is idempotent, reversible, stable under `kubectl apply`, and its patch is right. */
import fc from "fast-check";
import jsonpatch from "fast-json-patch";
import t from "tap";
import { admitObject, admitPod, strip, type AdmitResult } from "../../src/admission/admit.ts";
import { patchOf } from "../../src/admission/patch.ts";
import { canonical } from "../../src/admission/value.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { HyperNode, KubeObject, Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { isDenied } from "../../src/kinds/verdict.ts";
import { podFromTemplate } from "../../src/workload/template.ts";
import { applied, kubectlApply } from "../support/apply.ts";
import { hyperNodes, workloads } from "../support/workloads.ts";

const settings = loadConfig({}).admission;

const admit = (object: KubeObject, nodes: readonly HyperNode[] = [], previous?: KubeObject): AdmitResult =>
  admitObject(object, {
    snapshot: { ...EMPTY_SNAPSHOT, hyperNodes: nodes },
    settings,
    ...(previous === undefined ? {} : { previous }),
  });

const isAdmitted = ({ verdicts }: AdmitResult): boolean => !verdicts.some(isDenied);
const templateOf = (object: KubeObject): unknown => canonical((object as Workload).spec.template);

/** Checks a property of the workloads that are not denied; some hundreds of the random ones are admitted. */
function holds(name: string, property: (given: Workload, nodes: readonly HyperNode[]) => void): void {
  t.test(name, (test) => {
    let admitted = 0;
    fc.assert(
      fc.property(workloads, hyperNodes, (given, nodes) => {
        if (!isAdmitted(admit(given, nodes))) return;
        admitted++;
        property(given, nodes);
      }),
      { numRuns: 300 },
    );
    test.ok(admitted > 100, `${admitted} were admitted`);
    test.end();
  });
}

const same = (found: unknown, wanted: unknown): void => {
  if (!jsonEqual(found, wanted)) throw new Error(`${JSON.stringify(found)}\n is not\n${JSON.stringify(wanted)}`);
};
const jsonEqual = (a: unknown, b: unknown): boolean => jsonpatch.compare({ a }, { a: b }).length === 0;

holds("admitting what was admitted changes nothing", (given, nodes) => {
  const { object } = admit(given, nodes);
  same(admit(object, nodes).object, object);
  same(admit(object, nodes, object).object, object);
});

holds("stripping gives back the object, and injecting again the same", (given, nodes) => {
  const { object } = admit(given, nodes);
  same(strip(object), given);
  same(admit(strip(object), nodes).object, object);
});

holds("the given object is not touched", (given, nodes) => {
  const copy = structuredClone(given);
  admit(given, nodes);
  same(given, copy);
});

holds("the patch gives the planned object", (given, nodes) => {
  const result = admit(given, nodes);
  const { patch, unsound } = patchOf(given, result.object, result.touched);
  same(unsound, undefined);
  same(jsonpatch.applyPatch(structuredClone(given), [...patch]).newDocument, result.object);
});

holds(
  "applying the same manifest again leaves the template, whatever the cluster looks like by then",
  (given, nodes) => {
    const stored = admit(given, nodes).object;
    const arriving = kubectlApply(given, given, stored);
    const again = admit(arriving, [], stored);
    same(templateOf(again.object), templateOf(stored));
    const { patch, unsound } = patchOf(arriving, again.object, again.touched);
    same(unsound, undefined);
    same(jsonpatch.applyPatch(structuredClone(arriving), [...patch]).newDocument, again.object);
  },
);

holds("without its labels nothing of ours stays", (given, nodes) => {
  const stored = admit(given, nodes).object;
  const bare = { ...given, metadata: { ...given.metadata, labels: {} } };
  const arriving = { ...stored, metadata: { ...stored.metadata, labels: {} } };
  same(admit(arriving, nodes, stored).object, bare);
});

holds("replacing the object by the manifest gives what applying it gives", (given, nodes) => {
  const stored = admit(given, nodes).object;
  same(templateOf(admit(given, nodes, stored).object), templateOf(stored));
});

t.test("a new manifest gives the template that it gives on its own", (test) => {
  let admitted = 0;
  fc.assert(
    fc.property(workloads, workloads, hyperNodes, (first, second, nodes) => {
      const [stored, fresh] = [admit(applied(first), nodes), admit(second, nodes)];
      if (!isAdmitted(stored) || !isAdmitted(fresh)) return;
      admitted++;
      const arriving = kubectlApply(first, second, stored.object);
      same(templateOf(admit(arriving, nodes, stored.object).object), templateOf(fresh.object));
    }),
    { numRuns: 500 },
  );
  test.ok(admitted > 100, `${admitted} pairs were admitted`);
  test.end();
});

holds("a Pod is admitted once, and its patch gives it", (given, nodes) => {
  const pod = podFromTemplate(admit(given, nodes).object as Workload, "w-0");
  const context = { snapshot: EMPTY_SNAPSHOT, settings };
  const result = admitPod(pod, context);
  same(admitPod(result.object as typeof pod, context).object, result.object);
  const { patch, unsound } = patchOf(pod, result.object, result.touched);
  same(unsound, undefined);
  same(jsonpatch.applyPatch(structuredClone(pod), [...patch]).newDocument, result.object);
});
