/**
 * What must hold for every workload of every kind, with either target: admission is idempotent, reversible, stable under
 * `kubectl apply` and `replace`, and its patch is right.
 */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import jsonpatch from "fast-json-patch";
import t, { type Test } from "tap";
import { admitObject, strip, type AdmitResult } from "../../src/admission/admit.ts";
import { replicasOf, withReplicas } from "../../src/admission/replicas.ts";
import { patchOf } from "../../src/admission/patch.ts";
import { canonical } from "../../src/admission/value.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { HyperNode, KubeObject } from "../../src/kinds/kube.ts";
import { AUTOSCALING } from "../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { isDenied } from "../../src/kinds/verdict.ts";
import { templatesOf } from "../../src/workload/template.ts";
import { applied, kubectlApply } from "../support/apply.ts";
import { mutators } from "../support/foreign.ts";
import { legal, lost } from "../support/legal.ts";
import { hyperNodes } from "../support/workloads.ts";

/** One configuration and one cluster. */
interface World {
  readonly target: "split" | "pod";
  readonly nodes: readonly HyperNode[];
}

const settingsOf = (target: string): ReturnType<typeof loadConfig>["admission"] =>
  loadConfig({ flags: { "admission.target": target } }).admission;
const SETTINGS = { split: settingsOf("split"), pod: settingsOf("pod") };

const worlds: fc.Arbitrary<World> = fc.record({
  // With the other one workloads are left as they are, which is less to prove.
  target: fc.constantFrom("split", "split", "split", "pod"),
  nodes: hyperNodes,
});

const admit = (object: KubeObject, { target, nodes }: World, previous?: KubeObject): AdmitResult =>
  admitObject(object, {
    snapshot: { ...EMPTY_SNAPSHOT, hyperNodes: nodes },
    settings: SETTINGS[target],
    ...(previous === undefined ? {} : { previous }),
  });

const isAdmitted = ({ verdicts }: AdmitResult): boolean => !verdicts.some(isDenied);
const templates = (object: KubeObject): unknown => canonical(templatesOf(object).map(({ template }) => template));

const same = (found: unknown, wanted: unknown): void => {
  if (!isDeepStrictEqual(found, wanted))
    throw new Error(`${JSON.stringify(found)}\n is not\n${JSON.stringify(wanted)}`);
};

/** The patch from what was given gives what was planned, for another library too. */
function patches(given: KubeObject, { object, touched }: AdmitResult): void {
  const { patch, unsound } = patchOf(given, object, touched);
  same(unsound, undefined);
  same(jsonpatch.applyPatch(structuredClone(given), [...patch]).newDocument, object);
}

/** What was admitted stays as it is: at its creation, at the next update, and by the patch of either. */
function settled(object: KubeObject, world: World, previous?: KubeObject): void {
  for (const again of [admit(object, world), admit(object, world, object), admit(object, world, previous)])
    same(again.object, object);
}

const KINDS = ["Deployment", "StatefulSet", "LeaderWorkerSet"];
const RUNS = 300;

/** Of each kind some dozens are changed; a property over nothing but refused or untouched ones would prove nothing. */
function reaches(test: Test, changed: readonly string[]): void {
  for (const kind of KINDS) {
    const count = changed.filter((one) => one === kind).length;
    test.ok(count > RUNS / 20, `${count} of kind ${kind} were changed`);
  }
}

/** Checks a property of the workloads that are not denied. */
function holds(name: string, property: (given: KubeObject, world: World) => void): void {
  t.test(name, (test) => {
    const changed: string[] = [];
    fc.assert(
      fc.property(legal, worlds, (given, world) => {
        const first = admit(given, world);
        if (!isAdmitted(first)) return;
        if (first.object !== given) changed.push(given.kind);
        property(given, world);
      }),
      { numRuns: RUNS },
    );
    reaches(test, changed);
    test.end();
  });
}

holds("admitting what was admitted changes nothing", (given, world) => {
  settled(admit(given, world).object, world, given);
});

holds("stripping gives back the object, and injecting again the same", (given, world) => {
  const { object } = admit(given, world);
  same(strip(object), given);
  same(admit(strip(object), world).object, object);
});

holds("the given object is not touched, and all of it stands in the answer", (given, world) => {
  const copy = structuredClone(given);
  const { object } = admit(given, world);
  same(given, copy);
  same(lost(given, object), undefined);
});

holds("the patch gives the planned object", (given, world) => {
  patches(given, admit(given, world));
});

holds("applying the manifest again leaves the template, whatever the cluster looks like by then", (given, world) => {
  const stored = admit(given, world).object;
  const arriving = kubectlApply(given, given, stored);
  const again = admit(arriving, { ...world, nodes: [] }, stored);
  same(templates(again.object), templates(stored));
  patches(arriving, again);
  settled(again.object, world, stored);
});

holds("a manifest applied from the first converges at once", (given, world) => {
  const stored = admit(applied(given), world).object;
  const again = admit(kubectlApply(given, given, stored), world, stored);
  same(again.object, stored);
});

holds("without its labels nothing of ours stays", (given, world) => {
  const stored = admit(given, world).object;
  const bare = { ...given, metadata: { ...given.metadata, labels: {} } };
  const arriving = { ...stored, metadata: { ...stored.metadata, labels: {} } };
  same(admit(arriving, world, stored).object, bare);
});

holds("replacing the object by the manifest gives what is stored, template and record", (given, world) => {
  const stored = admit(given, world).object;
  const again = admit(given, { ...world, nodes: [] }, stored);
  same(again.object, stored);
  patches(given, again);
});

/** Neither out of Tandem's reach, nor only watched, nor told to leave replicas alone. */
const isScaled = ({ metadata: { annotations } }: KubeObject): boolean =>
  !["off", "observe"].includes(annotations?.["tandem.sh/mode"] ?? "") &&
  annotations?.["tandem.sh/skip"]?.includes("replicas") !== true;

holds("an autoscaled workload keeps its replicas, whoever applies or replaces the manifest", (given, world) => {
  const annotations = { ...given.metadata.annotations, [AUTOSCALING.mode]: "auto" };
  const manifest = { ...given, metadata: { ...given.metadata, annotations } };
  const first = admit(applied(manifest), world);
  if (!isAdmitted(first) || !isScaled(manifest)) return;
  const count = replicasOf(given) + 3;
  const live = withReplicas(first.object, count);
  for (const arriving of [kubectlApply(manifest, manifest, live), withReplicas(live, 1), manifest]) {
    const again = admit(arriving, { ...world, nodes: [] }, live);
    same(isAdmitted(again), true);
    same(replicasOf(again.object), count);
    same(templates(again.object), templates(live));
    patches(arriving, again);
    settled(again.object, world, live);
    same(replicasOf(strip(again.object)), count);
  }
});

/** Checks a property of a workload and another webhook's additions to it. */
function holdsBeside(name: string, property: (given: KubeObject, foreign: Foreign, world: World) => void): void {
  t.test(name, (test) => {
    const changed: string[] = [];
    fc.assert(
      fc.property(legal, mutators, worlds, (given, mutate, world) => {
        if (!isAdmitted(admit(given, world)) || !isAdmitted(admit(mutate(given), world))) return;
        if (admit(given, world).object !== given) changed.push(given.kind);
        property(given, mutate, world);
      }),
      { numRuns: RUNS },
    );
    reaches(test, changed);
    test.end();
  });
}

type Foreign = (object: KubeObject) => KubeObject;

holdsBeside("another webhook before: its additions stay, and are the user's", (given, mutate, world) => {
  const before = mutate(given);
  const result = admit(before, world);
  same(lost(before, result.object), undefined);
  same(strip(result.object), before);
  patches(before, result);
  settled(result.object, world, before);
});

holdsBeside(
  "another webhook after, and called again: both stay, and nothing is added twice",
  (given, mutate, world) => {
    const first = admit(given, world).object;
    const between = mutate(first);
    const result = admit(between, world);
    same(lost(mutate(given), result.object), undefined);
    same(mutate(result.object), result.object);
    patches(between, result);
    settled(result.object, world, between);
    same(templates(strip(result.object)), templates(mutate(given)));
  },
);

holdsBeside("another webhook at every update: the template is the same each time", (given, mutate, world) => {
  const stored = admit(mutate(admit(applied(given), world).object), world).object;
  const arriving = kubectlApply(given, given, stored);
  const again = admit(mutate(admit(arriving, world, stored).object), world, stored);
  same(templates(again.object), templates(stored));
  settled(again.object, world, stored);
});

t.test("a new manifest gives the template that it gives on its own", (test) => {
  let changed = 0;
  fc.assert(
    fc.property(legal, legal, worlds, (first, other, world) => {
      const second = other.kind === first.kind ? other : first;
      const [stored, fresh] = [admit(applied(first), world), admit(second, world)];
      if (!isAdmitted(stored) || !isAdmitted(fresh)) return;
      if (first !== second && fresh.object !== second) changed++;
      const arriving = kubectlApply(first, second, stored.object);
      same(templates(admit(arriving, world, stored.object).object), templates(fresh.object));
    }),
    { numRuns: 600 },
  );
  test.ok(changed > 60, `${changed} pairs were changed`);
  test.end();
});
