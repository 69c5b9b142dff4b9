/** When a cell falls, and whom nobody may delete because of it. */
import t from "tap";
import type { Action } from "../../../src/controller/action.ts";
import { isBound } from "../../../src/gang/devices.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import {
  occupy,
  perform,
  plan,
  podsOf,
  replicate,
  restart,
  schedule,
  worldOf,
  type World,
} from "../../support/gangs.ts";

const PAIR = { name: "m", prefill: 1, decode: 1, devices: 8 };
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const iso = (at: number): string => new Date(at).toISOString();

function ready(world: World, owner: string, status: "True" | "False", since: number | null = world.now): void {
  world.pods = world.pods.map((pod): Pod => {
    if (pod.metadata.labels?.["app"] !== owner) return pod;
    const time = since === null ? {} : { lastTransitionTime: iso(since) };
    const startTime = pod.status?.["startTime"] ?? iso(world.now);
    return { ...pod, status: { ...pod.status, startTime, conditions: [{ type: "Ready", status, ...time }] } };
  });
}

/** One pass of everybody; what the controller did. */
function turn(world: World): readonly Action[] {
  replicate(world);
  const actions = plan(world);
  for (const action of actions) perform(world, action);
  schedule(world, () => 0);
  world.now += 5000;
  return actions;
}

const stands = (world: World): boolean => world.configMaps.length > 0;

/** A pair that is whole and recorded; its pods were started, and are not ready yet. */
function whole(): World {
  const world = worldOf(1, 2, [PAIR]);
  restart(world);
  for (let pass = 0; pass < 3; pass++) turn(world);
  t.ok(stands(world));
  for (const owner of ["m-prefill", "m-decode"]) ready(world, owner, "False");
  return world;
}

/** Its prefill pod is gone, and so is the room for another. */
function halve(world: World): void {
  const node = podsOf(world, "m-prefill").find(isBound)?.spec.nodeName ?? "";
  world.pods = world.pods.filter(({ metadata }) => metadata.labels?.["app"] !== "m-prefill");
  occupy(world, node);
}

const deleted = (actions: readonly Action[]): readonly string[] =>
  actions.flatMap((action) => (action.do === "remove" && action.kind === "Pod" ? [action.ref.name] : []));

t.test("a half that has served is left alone while its readiness comes and goes", (t) => {
  const world = whole();
  const [decode] = podsOf(world, "m-decode");
  world.now += MINUTE_MS;
  ready(world, "m-decode", "True");
  world.now += DAY_MS;
  halve(world);
  for (const status of ["False", "True", "False", "True"] as const) {
    ready(world, "m-decode", status);
    for (let pass = 0; pass < 4; pass++) t.notOk(deleted(turn(world)).includes(decode?.metadata.name ?? ""));
    t.ok(stands(world));
  }
  t.end();
});

t.test("a half that is ready, since nobody says when, is left alone", (t) => {
  const world = whole();
  ready(world, "m-decode", "True", null);
  halve(world);
  for (let pass = 0; pass < 4; pass++)
    t.same(
      deleted(turn(world)).filter((name) => name.startsWith("m-decode")),
      [],
    );
  t.ok(stands(world));
  t.end();
});

t.test("a half that served for long is nobody's to delete, where its record was deleted and it is not ready", (t) => {
  const world = whole();
  ready(world, "m-decode", "False", world.now + DAY_MS);
  world.now += DAY_MS + MINUTE_MS;
  halve(world);
  world.configMaps = [];
  for (let pass = 0; pass < 4; pass++)
    t.same(
      deleted(turn(world)).filter((name) => name.startsWith("m-decode")),
      [],
    );
  t.end();
});

t.test("a pod that has changed since it was read is not given back: it may have been bound, and serve", (t) => {
  const world = whole();
  halve(world);
  world.configMaps = [];
  replicate(world);
  const read = plan(world);
  t.ok(deleted(read).length > 0);
  world.pods = world.pods.map((pod) => ({ ...pod, metadata: { ...pod.metadata, resourceVersion: "later" } }));
  for (const action of read) perform(world, action);
  t.equal(podsOf(world, "m-decode").length, 1);
  t.end();
});

t.test("a half that never served falls, and gives back what it holds", (t) => {
  const world = whole();
  halve(world);
  const [decode] = podsOf(world, "m-decode");
  const all: string[] = [];
  for (let pass = 0; pass < 4; pass++) all.push(...deleted(turn(world)));
  t.ok(all.includes(decode?.metadata.name ?? ""));
  t.notOk(stands(world));
  t.same(podsOf(world, "m-decode").filter(isBound), []);
  t.end();
});
