/**
 * Gangs behind gates, in random clusters with a scheduler that binds where it likes, pods of others that take nodes,
 * lost writes and restarts: once the trouble ends, every cell stands whole or holds nothing, and none that would fit waits.
 */
import fc from "fast-check";
import t from "tap";
import { isBound } from "../../src/gang/devices.ts";
import { placePods } from "../../src/gang/place.ts";
import { topologyTree } from "../../src/topology/tree.ts";
import {
  occupy,
  perform,
  plan,
  podsOf,
  replicate,
  restart,
  scaleToZero,
  schedule,
  swept,
  worldOf,
  type CellShape,
  type World,
} from "../support/gangs.ts";
import { contractsOf } from "../../src/controller/contracts.ts";
import { loadConfig } from "../../src/config/load.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";

const cell = (index: number) =>
  fc
    .record({
      prefill: fc.integer({ min: 1, max: 2 }),
      decode: fc.integer({ min: 1, max: 3 }),
      devices: fc.constantFrom(4, 8),
      topology: fc.constantFrom("required", "preferred"),
    })
    .map((shape): CellShape => ({ name: `m${index}`, ...shape }));

const scenario = fc.record({
  racks: fc.integer({ min: 1, max: 3 }),
  perRack: fc.integer({ min: 1, max: 3 }),
  cells: fc
    .integer({ min: 1, max: 4 })
    .chain((count) => fc.tuple(...Array.from({ length: count }, (_, at) => cell(at)))),
  trouble: fc.array(
    fc.record({
      /** Of a hundred writes, how many are lost. */
      lost: fc.constantFrom(0, 0, 30, 60),
      restart: fc.boolean(),
      occupy: fc.option(fc.nat(8)),
      seconds: fc.constantFrom(1, 15),
      /** A cell that is scaled to zero and at once back. */
      bounce: fc.option(fc.nat(3)),
    }),
    { maxLength: 12 },
  ),
  seed: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
});

/** A small generator of its own (Park and Miller): choices must not depend on what a change of the code asks for. */
const dice = (seed: number): ((count: number) => number) => {
  let state = seed;
  return (count) => {
    state = (state * 48271) % 2147483647;
    return count === 0 ? 0 : state % count;
  };
};

const roles = ["prefill", "decode"] as const;
const holds = (world: World, name: string): readonly number[] =>
  roles.map((role) => podsOf(world, `${name}-${role}`).filter(isBound).length);

function step(world: World, choose: (count: number) => number, lost = 0): void {
  replicate(world);
  for (const action of plan(world)) if (choose(100) >= lost) perform(world, action);
  schedule(world, choose);
}

/** Whether the planner finds room for the pods of a cell beside what is bound now. */
function wouldFit(world: World, name: string): boolean {
  const config = loadConfig();
  const snapshot = { ...EMPTY_SNAPSHOT, ...world };
  const { cells } = contractsOf(snapshot, { config, acts: () => true });
  const specs = cells.map((contracts) => contracts.map(({ spec }) => spec)).filter((all) => all[0]?.model === name);
  const pods = world.pods.filter((pod) => isBound(pod) || pod.metadata.labels?.["tandem.sh/model"] === name);
  const tree = topologyTree(world.nodes, { kind: "hypernodes", hyperNodes: world.hyperNodes });
  return placePods({ nodes: world.nodes, tree, pods, cells: specs }).gangs.every(({ placed }) => placed);
}

interface Event {
  readonly lost: number;
  readonly restart: boolean;
  readonly occupy: number | null;
  readonly seconds: number;
  readonly bounce: number | null;
}

function happen(world: World, event: Event, choose: (count: number) => number): void {
  step(world, choose, event.lost);
  if (event.restart) restart(world);
  if (event.bounce !== null) bounce(world, `m${event.bounce}`, choose);
  if (event.occupy !== null) occupy(world, world.nodes[event.occupy % world.nodes.length]?.metadata.name ?? "");
  world.now += event.seconds * 1000;
}

/** New pods are made and bound before the old ones are gone, and before the controller sees any of it. */
function bounce(world: World, model: string, choose: (count: number) => number): void {
  scaleToZero(world, model);
  replicate(world);
  schedule(world, choose);
  swept(world);
}

/** Whole, or nothing and no room for it; throws for anything between. */
function verdictOn(world: World, name: string): "stood" | "waited" {
  const [prefill = 0, decode = 0] = holds(world, name);
  if (prefill > 0 && decode > 0) return "stood";
  if (prefill + decode > 0) throw new Error(`${name} holds ${prefill} and ${decode}`);
  if (wouldFit(world, name)) throw new Error(`${name} waits although it has room`);
  return "waited";
}

t.test("after any trouble each cell stands or holds nothing, and none that has room waits", (t) => {
  const counts = { stood: 0, waited: 0 };
  fc.assert(
    fc.property(scenario, ({ racks, perRack, cells, trouble, seed }) => {
      const choose = dice(seed);
      const world = worldOf(racks, perRack, cells);
      restart(world);
      for (const event of trouble) happen(world, event, choose);
      for (let quiet = 0; quiet < 60; quiet++) {
        step(world, choose);
        world.now += 5000;
      }
      for (const { name } of cells) counts[verdictOn(world, name)] += 1;
    }),
    { numRuns: 150 },
  );
  const { stood, waited } = counts;
  t.ok(stood > 50 && waited > 50, `${stood} stood, ${waited} waited`);
  t.end();
});

t.test("two gangs and room for one: one is whole, the other holds nothing, whatever is bound first", (t) => {
  for (let seed = 1; seed <= 100; seed++) {
    const cells = ["a", "b"].map((name): CellShape => ({ name, prefill: 1, decode: 1, devices: 8 }));
    const world = worldOf(1, 2, cells);
    const choose = dice(seed);
    restart(world);
    for (let pass = 0; pass < 10; pass++) step(world, choose);
    t.strictSame([holds(world, "a"), holds(world, "b")].map((one) => one.join()).sort(), ["0,0", "1,1"]);
  }
  t.end();
});
