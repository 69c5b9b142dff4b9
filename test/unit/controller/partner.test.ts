import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import type { Action } from "../../../src/controller/action.ts";
import { createGates } from "../../../src/controller/gates.ts";
import { isBound } from "../../../src/gang/devices.ts";
import type { StringMap, Workload } from "../../../src/kinds/kube.ts";
import { perform, plan, replicate, restart, schedule, worldOf, type World } from "../../support/gangs.ts";
import { pod } from "../../support/placement.ts";

const PAIR = { name: "m", prefill: 1, decode: 1, devices: 8 };
const LIMIT_MS = 600_000;

interface Given {
  readonly annotations?: StringMap;
  readonly replicas?: number;
}

/** Of the pair only these roles, as given. */
function worldWith(roles: Readonly<Record<string, Given>>): World {
  const world = worldOf(1, 2, [PAIR]);
  const workloads = world.workloads.flatMap((workload): Workload[] => {
    const given = roles[workload.metadata.labels?.["tandem.sh/role"] ?? ""];
    return given === undefined ? [] : [changed(workload, given)];
  });
  const fresh: World = { ...world, workloads };
  fresh.gates = createGates(loadConfig({ text: "gang: { liftAfterSeconds: 600 }" }), () => fresh.now);
  return fresh;
}

function changed(workload: Workload, { annotations = {}, replicas = 1 }: Given): Workload {
  const copy = structuredClone(workload);
  copy.metadata.annotations = { ...annotations };
  copy.spec.replicas = replicas;
  return copy;
}

/** Makes the pods that are missing, now. */
function make(world: World): void {
  const before = new Set(world.pods);
  replicate(world);
  for (const { metadata } of world.pods.filter((one) => !before.has(one)))
    metadata.creationTimestamp = new Date(world.now).toISOString();
}

const told = (actions: readonly Action[]): string => actions.map(({ verdict }) => verdict.message).join("\n");
const waits = (world: World): boolean => /waits for a (prefill|decode) workload/.test(told(plan(world)));

const set = (text: string): Given => ({ annotations: { "tandem.sh/gang": text } });

const TABLE: readonly (readonly [string, Readonly<Record<string, Given>>, boolean])[] = [
  ["prefill serves nobody alone", { prefill: {} }, true],
  ["decode computes prompts by itself", { decode: {} }, false],
  ["but waits where a set asks for prefill", { decode: set("prefill=1,decode=1") }, true],
  [
    "one that waits for its prefill does so here, too",
    { decode: { annotations: { "tandem.sh/engine": "sglang" } } },
    true,
  ],
  ["one side on purpose", { prefill: set("prefill=1") }, false],
  ["decode is there, and was scaled to nothing", { prefill: {}, decode: { replicas: 0 } }, true],
  [
    "decode that serves does not wait for a prefill that was scaled to nothing",
    { decode: set("prefill=1,decode=1"), prefill: { ...set("prefill=1,decode=1"), replicas: 0 } },
    false,
  ],
  [
    "decode is there, outside of the gang",
    { prefill: {}, decode: { annotations: { "tandem.sh/mode": "route" } } },
    false,
  ],
];

t.test("who waits for a workload that nobody has made yet", (t) => {
  for (const [name, roles, wanted] of TABLE) {
    const world = worldWith(roles);
    make(world);
    t.equal(waits(world), wanted, name);
  }
  t.end();
});

t.test("pods of the other role that somebody else made, or another cell of the group, are partners", (t) => {
  const world = worldWith({ prefill: {} });
  make(world);
  const labels = { "tandem.sh/group": "m", "tandem.sh/cell": "1" };
  const foreign = pod("theirs", { role: "decode", nodeName: "n", labels });
  world.pods.push({ ...foreign, metadata: { ...foreign.metadata, namespace: "a" } });
  t.equal(waits(world), false);
  t.end();
});

t.test("prefill waits until decode comes, and both go together", (t) => {
  const world = worldWith({ prefill: {} });
  make(world);
  t.match(told(plan(world)), /m waits for a decode workload, 600 s at most.*tandem.sh\/gang: prefill=1 says/);
  t.notOk(
    plan(world).some(({ do: verb }) => verb === "patch"),
    "its time for room does not run yet",
  );
  world.now += LIMIT_MS - 1;
  t.ok(waits(world));
  const both: World = { ...world, workloads: worldWith({ prefill: {}, decode: {} }).workloads };
  restart(both);
  make(both);
  for (const action of plan(both)) perform(both, action);
  schedule(both, () => 0);
  t.equal(both.pods.filter(isBound).length, 2);
  t.end();
});

t.test("nobody waits for ever: after gang.liftAfterSeconds what is there is the gang", (t) => {
  const world = worldWith({ prefill: {} });
  make(world);
  world.now += LIMIT_MS;
  for (const action of plan(world)) perform(world, action);
  schedule(world, () => 0);
  t.equal(world.pods.filter(isBound).length, 1);
  t.end();
});
