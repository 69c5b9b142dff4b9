/** Live pods of mode `route` that run one engine together: each gets its place where somebody numbers them. */
import t from "tap";
import type { Action } from "../../../src/controller/action.ts";
import { controllerPlan } from "../../../src/controller/plan.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Pod, StringMap, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { merged } from "../../../src/simulator/instances.ts";
import { endpointsOf } from "../../../src/workload/endpoint.ts";
import { workloadOf, type Shape } from "../../support/instances.ts";

const plan = (workload: Workload, pods: readonly Pod[]): readonly Action[] =>
  controllerPlan({ ...EMPTY_SNAPSHOT, workloads: [workload], pods }, { config: loadConfig(), acts: () => true });
const route = (shape: Shape): Workload =>
  workloadOf({ ...shape, annotations: { "tandem.sh/mode": "route", ...shape.annotations } });

/** A pod as its owner made it, with nothing of ours. */
const pod = (
  name: string,
  owner: string,
  { labels, ip = "10.0.0.1" }: { labels?: StringMap; ip?: string } = {},
): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    ...{ name, namespace: "a", uid: `uid-${name}`, resourceVersion: "1", labels: { app: "w", ...labels } },
    ownerReferences: [
      { apiVersion: "apps/v1", kind: owner, name: owner === "ReplicaSet" ? "w-1" : "w", uid: "o", controller: true },
    ],
  },
  spec: { containers: [{ name: "e", image: "vllm/vllm-openai:v0.15.0", args: ["--data-parallel-size", "4"] }] },
  status: { phase: "Running", podIP: ip, conditions: [{ type: "Ready", status: "True" }] },
});

const after = (given: Pod, actions: readonly Action[]): Pod =>
  actions.reduce<Pod>(
    (now, action) =>
      action.do === "patch" && action.ref.name === given.metadata.name ? (merged(now, action.body) as Pod) : now,
    given,
  );

/** Instance, rank and entry of each pod, and how many endpoints discovery finds on it. */
function outcome(workload: Workload, pods: readonly Pod[]): { told: string[]; pods: unknown[] } {
  const actions = plan(workload, pods);
  const done = pods.map((one) => after(one, actions));
  t.same(
    plan(workload, done).filter((action) => action.do !== "tell"),
    [],
    "and then there is nothing to do",
  );
  return {
    told: actions.filter((action) => action.do === "tell").map(({ verdict }) => verdict.reason),
    pods: done.map((one) => [
      ...["instance", "node-rank", "entry"].map((key) => one.metadata.labels?.[`tandem.sh/${key}`]),
      endpointsOf(one).length,
    ]),
  };
}

t.test("pods of a LeaderWorkerSet have the numbers that it gave them", (t) => {
  const { spec, ...rest } = route({ annotations: { "tandem.sh/nodes-per-instance": "2" } });
  const set = {
    ...rest,
    kind: "LeaderWorkerSet",
    spec: { replicas: 1, leaderWorkerTemplate: { size: 2, workerTemplate: spec.template } },
  };
  const lws = (index: string): StringMap => ({
    "leaderworkerset.sigs.k8s.io/name": "w",
    "leaderworkerset.sigs.k8s.io/group-index": "0",
    "leaderworkerset.sigs.k8s.io/worker-index": index,
  });
  const pods = [pod("w-0", "StatefulSet", { labels: lws("0") }), pod("w-0-1", "StatefulSet", { labels: lws("1") })];
  t.same(outcome(set as unknown as Workload, pods), {
    told: [],
    pods: [
      ["w-0", "0", "true", 1],
      ["w-0", "1", undefined, 0],
    ],
  });
  t.end();
});

t.test("pods of a LeaderWorkerSet that admission missed are counted, and repaired", (t) => {
  const { spec, ...rest } = workloadOf();
  const set = {
    ...rest,
    kind: "LeaderWorkerSet",
    spec: { replicas: 1, leaderWorkerTemplate: { size: 2, workerTemplate: spec.template } },
  };
  const labels = {
    "leaderworkerset.sigs.k8s.io/name": "w",
    "leaderworkerset.sigs.k8s.io/worker-index": "0",
    "tandem.sh/model": "m",
    "tandem.sh/role": "decode",
  };
  const missed = pod("w-0", "StatefulSet", { labels });
  const admitted = { ...missed, metadata: { ...missed.metadata, annotations: { "status.tandem.sh/intent": "{}" } } };
  t.match(plan(set as unknown as Workload, [admitted]), [{ do: "patch", verdict: { reason: "PodMissed" } }]);
  t.end();
});

t.test("a StatefulSet's ordinals are the ranks", (t) => {
  const pods = ["w-0", "w-1", "w-2", "w-3"].map((name) => pod(name, "StatefulSet"));
  t.same(outcome(route({ kind: "StatefulSet" }), pods), {
    told: [],
    pods: [
      ["w-0", "0", "true", 1],
      ["w-0", "1", undefined, 0],
      ["w-1", "0", "true", 1],
      ["w-1", "1", undefined, 0],
    ],
  });
  t.end();
});

t.test(
  "nobody numbers a Deployment's pods: with one API server for all of them, none is routed to, and that is told",
  (t) => {
    const pods = ["a", "b"].map((name) => pod(name, "ReplicaSet"));
    const none = [undefined, undefined, undefined, 0];
    const declared = outcome(route({ replicas: 2 }), pods);
    t.same(declared, { told: ["RankUnknown"], pods: [none, none] });
    const byRanks = outcome(route({ replicas: 2, nodes: 1 }), pods);
    t.same(byRanks, { told: ["RankUnknown"], pods: [none, none] }, "4 ranks of which 2 are local run on two pods");
    const every = [undefined, undefined, "true", 1];
    t.same(
      outcome(route({ replicas: 2, annotations: { "tandem.sh/dp-mode": "hybrid" } }), pods),
      { told: [], pods: [every, every] },
      "one on each",
    );
    const ranked = [
      pod("a", "ReplicaSet", { labels: { "tandem.sh/node-rank": "0" } }),
      pod("b", "ReplicaSet", { labels: { "tandem.sh/node-rank": "1" } }),
    ];
    t.same(
      outcome(route({ replicas: 2 }), ranked).pods.map((one) => (one as unknown[]).slice(1)),
      [
        ["0", "true", 1],
        ["1", undefined, 0],
      ],
      "unless they are labelled",
    );
    t.end();
  },
);
