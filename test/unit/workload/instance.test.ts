import t from "tap";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import { LWS } from "../../../src/kinds/names.ts";
import { groupPlace, groupSize, nodeRankOf, ordinalOf, placeAnnotations } from "../../../src/workload/instance.ts";
import { hasServer, isEntry, type ServingFacts } from "../../../src/workload/serving.ts";
import type { WorkloadSpec } from "../../../src/workload/spec.ts";

const pod = (name: string, labels: Record<string, string>, annotations: Record<string, string> = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels, annotations },
  spec: { containers: [{ name: "e" }] },
});

t.test("who has an API server, and who is routed to", (t) => {
  const table: [string, ServingFacts, readonly [first: boolean, second: boolean]][] = [
    ["internal", { dataParallelMode: "internal" }, [true, false]],
    ["hybrid", { dataParallelMode: "hybrid" }, [true, true]],
    ["external", { dataParallelMode: "external" }, [true, true]],
    ["a port for each rank", { dataParallelMode: "internal", rankPorts: { first: 1, count: 2 } }, [true, true]],
    ["headless", { dataParallelMode: "external", headless: true }, [false, false]],
  ];
  for (const [name, facts, wanted] of table) {
    t.same([hasServer(facts, 0), hasServer(facts, 1)], wanted, name);
    t.same([isEntry({ ...facts, role: "decode" }, 0), isEntry({ ...facts, role: "both" }, 1)], wanted, name);
    t.notOk(isEntry({ ...facts, role: "prefill" }, 0), `${name}: never prefill`);
  }
  t.end();
});

t.test("numbers in names", (t) => {
  const table: [string | undefined, number | undefined][] = [
    ["w-0", 0],
    ["w-12", 12],
    ["w-1-2", 2],
    ["w", undefined],
    ["w-x", undefined],
    ["w-12345678901", undefined],
    [undefined, undefined],
  ];
  for (const [name, ordinal] of table) t.equal(ordinalOf(name), ordinal, String(name));
  t.end();
});

t.test("the place of a pod of a LeaderWorkerSet", (t) => {
  const set = { [LWS.name]: "s" };
  t.same(groupPlace(pod("s-3", { ...set, [LWS.workerIndex]: "0" })), { instance: "s-3", rank: 0 });
  t.same(groupPlace(pod("s-3-2", { ...set, [LWS.groupIndex]: "3" })), { instance: "s-3", rank: 2 });
  t.equal(groupPlace(pod("s-3-2", set)), undefined, "a worker of an unknown group");
  t.equal(groupPlace(pod("s-3", {})), undefined, "no pod of a set");
  t.end();
});

t.test("pods of a group", (t) => {
  const set = (leaderWorkerTemplate: object): KubeObject => ({
    apiVersion: LWS.apiVersion,
    kind: "LeaderWorkerSet",
    metadata: {},
    spec: { leaderWorkerTemplate },
  });
  t.equal(groupSize(set({ size: 4 })), 4);
  t.equal(groupSize(set({})), 1, "as the API says");
  for (const size of [0, -1, 1.5, "4", 257]) t.equal(groupSize(set({ size })), undefined, String(size));
  t.equal(groupSize(pod("p", {}, { [LWS.size]: "3" })), 3);
  t.equal(groupSize(pod("p", {})), undefined);
  t.equal(groupSize(pod("p", {}, { [LWS.size]: "many" })), undefined);
  t.end();
});

t.test("a rank that is no number is the first", (t) => {
  for (const [text, rank] of [
    ["2", 2],
    ["-1", 0],
    ["x", 0],
    ["1.5", 0],
  ] as const)
    t.equal(nodeRankOf(pod("p", { "tandem.sh/node-rank": text })), rank, text);
  t.end();
});

t.test("what a place comes to in words of the engine", (t) => {
  const base = { engine: "vllm", dataParallelMode: "internal" } as const;
  const sizes = { tp: 8, pp: 1, pcp: 1, expert: false };
  const of = (more: Partial<WorkloadSpec>, rank: number): string[] =>
    Object.values(placeAnnotations({ ...base, ...more } as WorkloadSpec, rank));
  const ranks = { parallelism: { ...sizes, dp: 4, dpLocal: 2 } };
  const tensors = { parallelism: { ...sizes, dp: 1, dpLocal: 1 } };
  t.same(of(ranks, 0), ["0", "--data-parallel-size=4", "--data-parallel-address="]);
  t.same(of(ranks, 1), ["2", "--headless", "--host="]);
  t.same(of({ ...ranks, dataParallelMode: "hybrid" }, 1), ["2", "--data-parallel-size=4", "--host="]);
  t.same(of(tensors, 0), ["0", "--node-rank=0", "--master-addr="]);
  t.same(of(tensors, 1), ["1", "--headless", "--host="]);
  t.same(of({ ...tensors, engine: "sglang" }, 1), ["1", "--node-rank=1"]);
  t.end();
});
