import fc from "fast-check";
import t from "tap";
import { filterNodes, MAX_SCORE, prioritizeNodes } from "../../src/extender/decide.ts";
import { ExtenderMemo } from "../../src/extender/view.ts";
import { podDemand } from "../../src/gang/devices.ts";
import { podRole } from "../../src/gang/members.ts";
import { BadCall } from "../../src/extender/bad-call.ts";
import { decodeArgs } from "../../src/extender/kube/wire.ts";
import type { Pod } from "../../src/kinds/kube.ts";
import type { ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { deployment, fabric, pod, snapshotOf } from "../support/placement.ts";
import { BUILT_IN } from "../../src/profiles/devices.ts";

const cluster = fabric(3, 2);
const NAMES = cluster.nodes.map(({ metadata }) => metadata.name ?? "");
const memo = (): ExtenderMemo =>
  new ExtenderMemo({
    topology: { source: "hypernodes", preset: "", levels: [] },
    devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
  });

const anyPods = fc
  .array(
    fc.record({
      model: fc.constantFrom("a", "b", null),
      role: fc.constantFrom("prefill", "decode"),
      gpus: fc.constantFrom(0, 1, 4, 8),
      on: fc.option(fc.constantFrom(...NAMES), { freq: 3 }),
      leaving: fc.boolean(),
    }),
    { maxLength: 8 },
  )
  .map((rows) =>
    rows.map(({ on, leaving, ...rest }, index): Pod => {
      const one = pod(`pod-${index}`, on === null ? rest : { ...rest, nodeName: on });
      if (leaving) one.metadata.deletionTimestamp = "2026-01-01T00:00:00Z";
      return one;
    }),
  );

const scene = (pods: readonly Pod[], topology: string, replicas = 2): ClusterSnapshot =>
  snapshotOf({
    ...cluster,
    pods,
    workloads: ["a", "b"].flatMap((model) =>
      ["prefill", "decode"].map((role) =>
        deployment(`${model}-${role}`, { model, role, replicas, annotations: { "tandem.sh/topology": topology } }),
      ),
    ),
  });

const modes = fc.constantFrom("required", "preferred", "off");
const asked = fc
  .record({
    model: fc.constantFrom("a", "b", null),
    role: fc.constantFrom("prefill", "decode"),
    gpus: fc.constantFrom(0, 4, 8),
  })
  .map((options) => pod("asked", options));
const someNames = fc.shuffledSubarray([...NAMES, "unknown"]);

t.test("filter sorts every name into fit or refused; scores lie in 0..10, one for each name", (t) => {
  fc.assert(
    fc.property(anyPods, modes, asked, someNames, (pods, mode, one, names) => {
      const view = memo().view(scene(pods, mode));
      const { fit, refused } = filterNodes(one, names, view);
      t.same([...fit, ...[...refused.values()].flat()].toSorted(), names.toSorted());
      const scores = prioritizeNodes(one, names, view);
      t.same(
        scores.map(({ host }) => host),
        names,
      );
      return scores.every(({ score }) => Number.isInteger(score) && score >= 0 && score <= MAX_SCORE);
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("no fit node has less free than the pod asks for", (t) => {
  fc.assert(
    fc.property(anyPods, modes, asked, (pods, mode, one) => {
      const view = memo().view(scene(pods, mode));
      if (one.metadata.labels?.["tandem.sh/model"] === undefined) return true;
      const needs = view.cells.demand(one).get("nvidia.com/gpu") ?? 0;
      return filterNodes(one, NAMES, view).fit.every(
        (name) => needs === 0 || view.ledger.free(name, "nvidia.com/gpu") >= needs,
      );
    }),
    { numRuns: 200 },
  );
  t.end();
});

t.test("answers do not depend on the order of nodes, pods or names", (t) => {
  fc.assert(
    fc.property(anyPods, modes, asked, (pods, mode, one) => {
      const snapshot = scene(pods, mode);
      const turned = { ...snapshot, nodes: snapshot.nodes.toReversed(), pods: snapshot.pods.toReversed() };
      const scores = (view: ReturnType<ExtenderMemo["view"]>, names: readonly string[]): unknown =>
        Object.fromEntries(prioritizeNodes(one, names, view).map(({ host, score }) => [host, score]));
      t.same(scores(memo().view(snapshot), NAMES), scores(memo().view(turned), NAMES.toReversed()));
      t.same(
        filterNodes(one, NAMES, memo().view(snapshot)).fit.toSorted(),
        filterNodes(one, NAMES, memo().view(turned)).fit.toSorted(),
      );
    }),
    { numRuns: 200 },
  );
  t.end();
});

t.test("a memo that has seen other snapshots answers like a new one where nothing was planned", (t) => {
  fc.assert(
    fc.property(fc.array(anyPods, { minLength: 2, maxLength: 4 }), asked, (history, one) => {
      const kept = memo();
      const base = scene([], "off");
      for (const pods of history) {
        const snapshot = { ...base, pods };
        t.same(prioritizeNodes(one, NAMES, kept.view(snapshot)), prioritizeNodes(one, NAMES, memo().view(snapshot)));
        t.same(filterNodes(one, NAMES, kept.view(snapshot)), filterNodes(one, NAMES, memo().view(snapshot)));
      }
    }),
    { numRuns: 60 },
  );
  t.end();
});

type View = ReturnType<ExtenderMemo["view"]>;
const GPU = "nvidia.com/gpu";

/** The nodes that are planned for the pods of a cell, with the least that their pods can ask for. */
function seats(view: View, key: string): readonly (readonly [string, number])[] {
  const members = [...view.cells.pods(key)];
  return [...(view.plans.of(key)?.nodes ?? [])].flatMap(([role, names]) => {
    const asks = members.filter((one) => podRole(one) === role).map((one) => view.cells.demand(one).get(GPU) ?? 0);
    const templates = view.cells.workloads(key).map(({ template }) => podDemand(template.spec).get(GPU) ?? 0);
    return names.map((name) => [name, Math.min(...templates, ...asks)] as const);
  });
}

const haveRoom = (view: View, planned: readonly (readonly [string, number])[]): boolean =>
  NAMES.every((name) => {
    const asked = planned.filter(([node]) => node === name).reduce((sum, [, amount]) => sum + amount, 0);
    return view.ledger.free(name, GPU) >= asked || asked === 0;
  });

t.test("a plan that is carried on has a node for every pod, and room on it, whatever happened in between", (t) => {
  let carried = 0;
  const history = fc.array(anyPods, { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(history, fc.constantFrom("required", "preferred"), (snapshots, mode) => {
      const kept = memo();
      const base = scene([], mode);
      return snapshots.every((pods) => {
        const [view, fresh] = [kept.view({ ...base, pods }), memo().view({ ...base, pods })];
        return [...view.cells.keys()].every((key) => {
          const [planned, anew] = [seats(view, key), seats(fresh, key)];
          if (JSON.stringify(planned) !== JSON.stringify(anew)) carried += 1;
          return haveRoom(view, planned);
        });
      });
    }),
    { numRuns: 200 },
  );
  t.ok(carried > 20, `${carried} plans were carried on that a new memo would not make`);
  t.end();
});

t.test("decoding accepts a call or throws BadCall, never anything else", (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (podValue, names) => {
      for (const body of [podValue, { Pod: podValue, NodeNames: names }, { Pod: pod("x"), NodeNames: names }])
        try {
          decodeArgs(body);
        } catch (error) {
          if (!(error instanceof BadCall)) return false;
        }
      return true;
    }),
    { numRuns: 500 },
  );
  t.end();
});
