/**
 * The autoscaler's actions under everything that may happen around them: numbers rise and fall, pods fail, watches fall
 * behind, the API server refuses, the process dies at any of its writes, and two of them believe in the same Lease.
 */
import fc from "fast-check";
import t from "tap";
import type { Pod } from "../../src/kinds/kube.ts";
import { AUTOSCALING_STATUS, POD_DELETION_COST, STATUS } from "../../src/kinds/names.ts";
import { runLoop, ScalingCluster, type WorkloadOptions, type Write } from "../support/scaling-cluster.ts";

const OURS = [AUTOSCALING_STATUS.draining, STATUS.drain, POD_DELETION_COST];

type Event =
  | { readonly kind: "target"; readonly to: number }
  | { readonly kind: "fail" | "lapse" | "recover" | "work" | "rest"; readonly at: number }
  | { readonly kind: "freeze" | "thaw" | "roll" | "rolled" };

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("target" as const), to: fc.nat(6) }) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constantFrom("fail", "lapse", "recover", "work", "rest"), at: fc.nat(20) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("freeze", "thaw", "roll", "rolled") }) },
);

const shape: fc.Arbitrary<WorkloadOptions> = fc.record({
  kind: fc.constantFrom("Deployment", "StatefulSet", "LeaderWorkerSet"),
  role: fc.constantFrom("prefill", "decode"),
  replicas: fc.constantFrom(2, 4),
  nodes: fc.constantFrom(1, 2),
  scaling: fc.record({ drainTimeoutMs: fc.constantFrom(10_000, 60_000), standbyMs: fc.constantFrom(0, 5000) }),
});

interface Scene {
  readonly cluster: ScalingCluster;
  readonly id: string;
  readonly each: number;
}

function sceneOf(options: WorkloadOptions): Scene {
  const cluster = new ScalingCluster();
  const id = cluster.add("w", options);
  return { cluster, id, each: options.kind === "LeaderWorkerSet" ? 1 : (options.nodes ?? 1) };
}

const APPLY: Readonly<Record<string, (scene: Scene, pod: Pod | undefined) => void>> = {
  fail: ({ cluster }, pod) => pod && cluster.ready(pod, false),
  lapse: ({ cluster }, pod) => pod && cluster.lapse(pod),
  recover: ({ cluster }, pod) => pod && cluster.ready(pod),
  work: ({ cluster }, pod) => pod && cluster.run(pod, 3, { kvUsage: 0.3 }),
  rest: ({ cluster }, pod) => pod && cluster.run(pod, 0),
  freeze: ({ cluster }) => cluster.freeze(),
  thaw: ({ cluster }) => cluster.thaw(),
  roll: ({ cluster, id }) => cluster.roll(id, true),
  rolled: ({ cluster, id }) => cluster.roll(id, false),
};

function happen(scene: Scene, one: Event): void {
  const { cluster, id } = scene;
  if (one.kind === "target") cluster.targets.set(id, one.to);
  else {
    const pods = cluster.pods(id);
    APPLY[one.kind]?.(scene, "at" in one ? pods[one.at % Math.max(1, pods.length)] : undefined);
  }
}

/** All is calm: nobody works, all are ready, watches are up to date. */
async function calm({ cluster, id }: Scene): Promise<void> {
  cluster.thaw();
  cluster.roll(id, false);
  cluster.refuse = () => "pass";
  for (let minutes = 0; minutes < 3; minutes += 1) {
    for (const pod of cluster.pods(id)) {
      cluster.ready(pod);
      cluster.run(pod, 0);
    }
    await cluster.pass(60_000);
  }
}

/** As it was decided, and no pod keeps anything of ours. */
function settled({ cluster, id, each }: Scene): void {
  const wanted = (cluster.targets.get(id) ?? 0) * each;
  if (cluster.replicas(id) !== wanted) throw new Error(`${cluster.replicas(id)} replicas, wanted ${wanted}`);
  for (const pod of cluster.pods(id))
    for (const key of OURS)
      if (cluster.annotations(pod)[key] !== undefined) throw new Error(`${pod.metadata.name ?? ""} keeps ${key}`);
}

/** Every number that was written lies between what was there and what was decided at that time or before. */
function bounded({ cluster, each }: Scene, targets: readonly number[], from: number): void {
  const all = [...targets, from];
  for (const { body } of cluster.whatWas("scale")) {
    const { replicas } = body["spec"] as { replicas: number };
    if (replicas % each !== 0) throw new Error(`${replicas} replicas are no whole instances`);
    if (replicas < Math.min(...all) * each || replicas > Math.max(...all) * each)
      throw new Error(`${replicas} replicas were never decided`);
  }
}

/** Time passes in steps of 250 ms here, and a write is seen at the end of its step; `throttle.test.ts` is exact. */
function paced(writes: readonly Write[], perSecond = 5): void {
  writes.forEach((write, at) => {
    const since = writes.slice(Math.max(0, at - perSecond), at + 1);
    if (since.length > perSecond && write.at - (since[0]?.at ?? 0) < 750)
      throw new Error(`${since.length} writes within 750 ms at ${write.at}`);
  });
}

const targetsOf = (events: readonly Event[]): number[] =>
  events.flatMap((one) => (one.kind === "target" ? [one.to] : []));

t.test("whatever happens, it comes to what was decided, within bounds and in whole instances", async (t) => {
  await fc.assert(
    fc.asyncProperty(shape, fc.array(event, { maxLength: 14 }), async (options, events) => {
      const scene = sceneOf(options);
      const from = scene.cluster.targets.get(scene.id) ?? 0;
      const loop = runLoop(scene.cluster, "one");
      for (const one of events) {
        happen(scene, one);
        await scene.cluster.pass(4000);
      }
      await calm(scene);
      await loop.stop();
      settled(scene);
      bounded(scene, targetsOf(events), from);
      paced(scene.cluster.writes);
    }),
    { numRuns: 60 },
  );
  t.pass();
});

t.test("killed at any write, the next process goes on; nothing is stuck and nobody is lost", async (t) => {
  const death = fc.record({ after: fc.integer({ min: 1, max: 12 }), how: fc.constantFrom("last", "lost") });
  await fc.assert(
    fc.asyncProperty(
      shape,
      fc.array(event, { minLength: 1, maxLength: 10 }),
      fc.array(death, { minLength: 1, maxLength: 4 }),
      async (options, events, deaths) => {
        const scene = sceneOf(options);
        const { cluster } = scene;
        const left = [...deaths];
        let [writes, serial, dead] = [0, 0, false];
        cluster.refuse = () => {
          writes += 1;
          const [next] = left;
          if (next === undefined || writes < next.after) return "pass";
          left.shift();
          writes = 0;
          dead = true;
          return next.how;
        };
        let loop = runLoop(cluster, "p0");
        for (const one of events) {
          happen(scene, one);
          await cluster.pass(4000);
          if (!dead) continue;
          await loop.stop();
          dead = false;
          serial += 1;
          loop = runLoop(cluster, `p${serial}`);
        }
        if (dead) {
          await loop.stop();
          loop = runLoop(cluster, "last");
        }
        await calm(scene);
        await loop.stop();
        settled(scene);
      },
    ),
    { numRuns: 80 },
  );
  t.pass();
});

t.test("of two processes only the one that leads writes, and never more together than one may", async (t) => {
  const leader = fc.constantFrom("one", "two", "nobody");
  await fc.assert(
    fc.asyncProperty(shape, fc.array(fc.tuple(event, leader), { maxLength: 12 }), async (options, events) => {
      const scene = sceneOf(options);
      const { cluster } = scene;
      let leads = "one";
      const wrong: string[] = [];
      cluster.refuse = ({ by, what }) => {
        if (by !== leads) wrong.push(`${by} wrote ${what} while ${leads} led`);
        return "pass";
      };
      const loops = ["one", "two"].map((who) => runLoop(cluster, who, () => leads === who));
      for (const [one, next] of events) {
        leads = next;
        happen(scene, one);
        await cluster.pass(4000);
      }
      leads = "two";
      await calm(scene);
      await Promise.all(loops.map((loop) => loop.stop()));
      if (wrong.length > 0) throw new Error(wrong.join());
      settled(scene);
    }),
    { numRuns: 40 },
  );
  t.pass();
});

t.test(
  "a storm of refusals: at most 5 writes in any second, and all is as decided within a minute after",
  async (t) => {
    const status = fc.constantFrom(409, 429, 500, 503);
    await fc.assert(
      fc.asyncProperty(fc.array(status, { minLength: 1, maxLength: 8 }), fc.integer(), async (statuses, seed) => {
        const cluster = new ScalingCluster();
        const ids = Array.from({ length: 16 }, (_, at) => cluster.add(`w${at}`, { replicas: 4 }));
        ids.forEach((id, at) => cluster.targets.set(id, 4 + (((seed >>> 0) + at) % 3)));
        let at = 0;
        cluster.refuse = () => ({ status: statuses[(at += 1) % statuses.length] ?? 500 });
        const loop = runLoop(cluster, "one");
        await cluster.pass(60_000);
        const during = cluster.writes.length;
        cluster.refuse = () => "pass";
        await cluster.pass(60_000);
        for (const id of ids)
          if (cluster.replicas(id) !== cluster.targets.get(id)) throw new Error(`${id} has ${cluster.replicas(id)}`);
        await loop.stop();
        paced(cluster.writes);
        // 16 workloads with a try every quarter of a minute, and those of the beginning.
        if (during > 16 * 12) throw new Error(`${during} writes in a minute`);
      }),
      { numRuns: 15 },
    );
    t.pass();
  },
);
