/**
 * Instances over several pods under everything that may happen around them: pods come, die and are replaced in any order,
 * templates change, the controller stops half way, sees old news of its own writes, and its writes fail.
 */
import fc from "fast-check";
import t from "tap";
import type { Action } from "../../src/controller/action.ts";
import { controllerOf, labelOf, type KubeObject, type Pod } from "../../src/kinds/kube.ts";
import { LABEL } from "../../src/kinds/names.ts";
import { isGated } from "../../src/workload/instance.ts";
import { perform, planFor, podOf, settle, workloadOf, type Shape, type World } from "../support/instances.ts";

type Event =
  | { readonly kind: "delete" | "fail" | "drop-service"; readonly at: number }
  | { readonly kind: "roll" }
  /** One pass: the services as they were seen before, and which of its writes fail. */
  | { readonly kind: "pass"; readonly stale: boolean; readonly fails: readonly boolean[] };

const index = fc.nat(20);
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("delete" as const, "fail" as const), at: index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("drop-service" as const), at: index }) },
  { weight: 1, arbitrary: fc.constant({ kind: "roll" as const }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("pass" as const),
      stale: fc.boolean(),
      fails: fc.array(fc.boolean(), { maxLength: 12 }),
    }),
  },
);

interface Run {
  readonly shape: Shape;
  readonly world: World;
  /** The place each pod got, by uid. */
  readonly places: Map<string, string>;
  /** Places given to anybody, ever. */
  readonly given: Map<string, string>;
  seen: KubeObject[];
  made: number;
  hash: number;
}

const isAlive = ({ status }: Pod): boolean => status?.phase === "Pending" || status?.phase === "Running";

/** The owner replaces what is missing, by its newest template. */
function replace({ world, shape }: Run, run: Run): void {
  const alive = world.pods.filter(isAlive);
  for (let slot = 0; slot < (shape.replicas ?? 0); slot++) {
    if (shape.kind === "StatefulSet") {
      const name = `w-${slot}`;
      if (alive.some(({ metadata }) => metadata.name === name)) continue;
      world.pods = world.pods.filter(({ metadata }) => metadata.name !== name);
      const pod = podOf(shape, slot, `h${run.hash}`);
      world.pods = [...world.pods, { ...pod, metadata: { ...pod.metadata, uid: `u${(run.made += 1)}` } }];
    } else if (slot >= alive.length) world.pods = [...world.pods, podOf(shape, (run.made += 1), `h${run.hash}`)];
  }
}

function happen(run: Run, { ...event }: Event): void {
  const { world } = run;
  if (event.kind === "roll") run.hash += 1;
  else if (event.kind === "pass") pass(run, event);
  else if (event.kind === "drop-service") world.services = world.services.filter((_, at) => at !== event.at);
  else if (event.kind === "delete") world.pods = world.pods.filter((_, at) => at !== event.at);
  else world.pods = world.pods.map((pod, at) => (at === event.at ? { ...pod, status: { phase: "Failed" } } : pod));
  if (event.kind !== "pass") replace(run, run);
}

const instanceIn = (action: Action): string | undefined =>
  action.do === "patch" ? (action.body as { metadata: KubeObject["metadata"] }).metadata.labels?.[LABEL.instance] : "";

function pass(run: Run, { stale, fails }: Extract<Event, { kind: "pass" }>): void {
  const { world } = run;
  const view = stale ? { ...world, services: run.seen } : world;
  run.seen = world.services;
  const recorded = new Set(view.services.map((service) => labelOf(service, LABEL.instance)));
  planFor(view).forEach((action, at) => {
    if (action.key.startsWith("rank/")) must(recorded.has(instanceIn(action)), `${action.key} before its record`);
    if (fails[at] !== true) perform(world, action);
  });
  replace(run, run);
}

const placeOf = (pod: Pod): string => `${labelOf(pod, LABEL.instance) ?? ""}/${labelOf(pod, LABEL.nodeRank) ?? ""}`;

const must = (holds: boolean, message: string): void => {
  if (!holds) throw new Error(message);
};

/** Holds at every moment. */
function check(run: Run): void {
  const placed = run.world.pods.filter((pod) => placeOf(pod) !== "/");
  for (const pod of run.world.pods)
    must(isGated(pod) === (placeOf(pod) === "/"), `${pod.metadata.uid ?? ""}: a place, or held, and never both`);
  for (const pod of placed) once(run, pod);
  sameTemplate(placed);
}

/** A place is one pod's, and a pod's place is one, for ever. */
function once({ places, given }: Run, pod: Pod): void {
  const [uid, place] = [pod.metadata.uid ?? "", placeOf(pod)];
  must((places.get(uid) ?? place) === place, `${uid} changed its place`);
  must((given.get(place) ?? uid) === uid, `${place} was given twice`);
  places.set(uid, place);
  given.set(place, uid);
}

function sameTemplate(pods: readonly Pod[]): void {
  const hashOf = (pod: Pod): string =>
    `${controllerOf(pod)?.uid ?? ""}/${labelOf(pod, "pod-template-hash") ?? labelOf(pod, "controller-revision-hash") ?? ""}`;
  for (const [instance, members] of Map.groupBy(pods, (pod) => labelOf(pod, LABEL.instance)))
    if (new Set(members.map(hashOf)).size > 1) throw new Error(`${instance ?? ""} mixes templates`);
}

/** At rest every instance is whole and recorded, and fewer pods wait than would make another. */
function atRest({ world, shape }: Run): void {
  const nodes = shape.nodes ?? 2;
  const alive = world.pods.filter(isAlive);
  const instances = Map.groupBy(
    alive.filter((pod) => !isGated(pod)),
    (pod) => labelOf(pod, LABEL.instance) ?? "",
  );
  for (const [name, members] of instances) must(members.length === nodes, `${name} has ${members.length} of ${nodes}`);
  const waiting = Map.groupBy(alive.filter(isGated), (pod) => controllerOf(pod)?.uid ?? "");
  for (const [owner, pods] of waiting)
    must(shape.kind === "StatefulSet" || pods.length < nodes, `${pods.length} pods of ${owner} wait`);
  const recorded = world.services.map((service) => labelOf(service, LABEL.instance) ?? "");
  must(recorded.length === instances.size, `${recorded.length} records of ${instances.size} instances`);
  for (const name of recorded) must(instances.has(name), `${name} is recorded and is not`);
}

/** Pods that the controller removes at rest are replaced, until neither side has anything to do. */
function rest(run: Run): void {
  for (let round = 0; round < 30; round++) {
    settle(run.world);
    const before = run.world.pods.length;
    replace(run, run);
    check(run);
    if (run.world.pods.length === before && planFor(run.world).every((action) => action.do === "tell")) return;
  }
  throw new Error("never at rest");
}

t.test("places are given once, whole and for good, whatever happens", (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom<Shape["kind"] & string>("Deployment", "StatefulSet"),
      fc.integer({ min: 2, max: 3 }),
      fc.integer({ min: 1, max: 3 }),
      fc.array(event, { maxLength: 25 }),
      (kind, nodes, instances, events) => {
        const shape: Shape = {
          kind,
          nodes,
          replicas: nodes * instances,
          args: ["--data-parallel-size", String(nodes)],
        };
        const world: World = { workloads: [workloadOf(shape)], pods: [], services: [] };
        const run: Run = { shape, world, places: new Map(), given: new Map(), seen: [], made: 0, hash: 1 };
        replace(run, run);
        for (const one of events) {
          happen(run, one);
          check(run);
        }
        rest(run);
        atRest(run);
      },
    ),
    { numRuns: 400 },
  );
  t.end();
});
