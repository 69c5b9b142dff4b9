import t from "tap";
import { cellOf, standingName } from "../../../src/workload/cell.ts";
import { LABEL, OWNERSHIP } from "../../../src/kinds/names.ts";
import type { KubeObject, Pod } from "../../../src/kinds/kube.ts";
import type { ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import type { WorkloadSpec } from "../../../src/workload/spec.ts";
import { deployment, fabric, letGo, pod, snapshotOf } from "../../support/placement.ts";
import { job, serveVolcano, STATUS, task } from "../../support/volcano.ts";

const GANG = { "tandem.sh/gang": "prefill=1,decode=2" };
const workloads = [
  deployment("p", { annotations: GANG }),
  deployment("d", { role: "decode", replicas: 2, annotations: GANG }),
];
const [p0, d0, d1] = [pod("p0"), pod("d0", { role: "decode" }), pod("d1", { role: "decode" })];
const on = (one: Pod, nodeName: string): Pod => ({ ...one, spec: { ...one.spec, nodeName } });
const cluster = (pods: readonly Pod[], more: Partial<ClusterSnapshot> = {}): ClusterSnapshot =>
  snapshotOf({ ...fabric(2, 2), workloads, pods, ...more });

const record = (): KubeObject => {
  const id = cellOf({ namespace: "default", model: "m", group: "m", cell: "0" } as WorkloadSpec);
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: standingName(id),
      namespace: "default",
      labels: {
        [OWNERSHIP.label]: OWNERSHIP.value,
        [LABEL.model]: id.model,
        [LABEL.group]: id.group,
        [LABEL.cell]: id.cell,
      },
    },
  };
};

const allocated = (one: Pod): object => task(on(one, "r0n0"), STATUS.allocated);

t.test("jobReady: the last PodGroup of a cell is granted, and with it the others", async (t) => {
  const served = await serveVolcano(cluster([p0, d0, d1]));
  const ask = async (name: string, one: Pod): Promise<unknown> =>
    (await served.post("jobReady", job(name, allocated(one)))).body;
  t.same(await ask("p0", p0), { status: false });
  t.same(await ask("d0", d0), { status: false });
  t.same(await ask("d0", d0), { status: false }, "asked twice is not two");
  t.same(await ask("d1", d1), { status: true });
  await served.post("onSessionClose", {});
  t.same(await ask("p0", p0), { status: true }, "in the next session the rest is bound");
  served.now += 10_001;
  await served.post("onSessionClose", {});
  t.same(await ask("p0", p0), { status: false }, "a grant ends");
});

t.test("jobReady: what was given in one session counts no more in the next", async (t) => {
  const served = await serveVolcano(cluster([p0, d0, d1]));
  for (const [name, one] of [
    ["p0", p0],
    ["d0", d0],
  ] as const)
    await served.post("jobReady", job(name, allocated(one)));
  await served.post("onSessionClose", {});
  t.same((await served.post("jobReady", job("d1", allocated(d1)))).body, { status: false });
});

t.test("jobReady: who is vetoed and who is not", async (t) => {
  const foreign = pod("x", { model: null });
  const made = "2026-01-01T00:00:00Z";
  const young = { ...d1, metadata: { ...d1.metadata, creationTimestamp: made } };
  const rows: [what: string, pods: readonly Pod[], tasks: readonly object[], ready: boolean, more?: object][] = [
    ["half", [p0, d0, d1], [allocated(p0)], false],
    ["pending tasks are not allocated", [p0, d0, d1], [allocated(p0), task(d0, STATUS.pending), allocated(d1)], false],
    ["the whole cell in one PodGroup", [p0, d0, d1], [p0, d0, d1].map(allocated), true],
    ["the rest is bound", [p0, on(d0, "r0n1"), on(d1, "r1n0")], [allocated(p0)], true],
    ["another's job", [p0, foreign], [allocated(foreign)], true],
    ["no tasks", [p0], [], true],
    ["a workload that is not known", [p0], [allocated(p0)], true, { workloads: [] }],
    [
      "gang off",
      [p0, d0],
      [allocated(p0)],
      true,
      { workloads: [deployment("p", { annotations: { "tandem.sh/gang": "off" } })] },
    ],
    ["it stood", [p0, d0, d1], [allocated(p0)], true, { configMaps: [record()] }],
    [
      "let go a minute ago",
      [letGo(p0, "r0n0"), letGo(d0, "r0n1"), letGo(d1, "r0n1", Date.parse(made) - 60_000)],
      [allocated(p0)],
      false,
    ],
    [
      "let go three minutes ago",
      [letGo(p0, "r0n0"), letGo(d0, "r0n1"), letGo(d1, "r0n1", Date.parse(made) - 180_000)],
      [allocated(p0)],
      true,
    ],
    ["the last was just made", [letGo(p0, "r0n0"), letGo(d0, "r0n1"), young], [allocated(p0)], false],
  ];
  for (const [what, pods, tasks, ready, more] of rows) {
    const served = await serveVolcano(cluster(pods, more));
    served.now = what.includes("ago") || what.includes("just") ? Date.parse(made) : 0;
    t.same((await served.post("jobReady", job("j", ...tasks))).body, { status: ready }, what);
  }
});

t.test("preemptable: instances beyond the minimum, newest first, or all of the cell, or nothing", async (t) => {
  const spare = (name: string, hour: string): Pod => {
    const one = pod(name, { role: "decode", nodeName: "r1n1" });
    return { ...one, metadata: { ...one.metadata, creationTimestamp: `2026-01-01T${hour}:00:00Z` } };
  };
  const [d2, d3] = [spare("d2", "02"), spare("d3", "03")];
  const bound = [on(p0, "r0n0"), on(d0, "r0n1"), on(d1, "r1n0"), d2, d3];
  const foreign = pod("x", { model: null, nodeName: "r0n0" });
  const rows: [what: string, store: readonly Pod[], asked: readonly Pod[], victims: string[] | "abstain"][] = [
    ["another's pods", bound, [foreign], "abstain"],
    ["two are spare", bound, [d2, d3], "abstain"],
    ["one is spare", bound.slice(0, 4), [d2, on(d1, "r1n0")], ["d2"]],
    ["the only prefill", bound, [on(p0, "r0n0"), foreign], ["x"]],
    ["the newest go first", bound, [on(d0, "r0n1"), d2, d3], ["d2", "d3"]],
    ["all of the cell", bound, bound, "abstain"],
    ["half a gang that never stood", bound.slice(0, 2), [on(p0, "r0n0")], "abstain"],
  ];
  for (const verb of ["preemptable", "reclaimable"])
    for (const [what, store, asked, victims] of rows) {
      const served = await serveVolcano(cluster([...store, foreign]));
      const evictees = asked.map((one) => task(one, STATUS.running));
      const { body } = await served.post(verb, { evictor: task(pod("e"), STATUS.pending), evictees });
      const { status, victims: given } = body as { status: number; victims: { Name: string }[] };
      t.equal(status, victims === "abstain" ? 0 : 1, what);
      t.same(
        given.map(({ Name }) => Name),
        victims === "abstain" ? [] : victims,
        what,
      );
    }
});

t.test("preemptable: a victim chosen in this session is not counted upon", async (t) => {
  const d2 = pod("d2", { role: "decode", nodeName: "r1n1" });
  const served = await serveVolcano(cluster([on(p0, "r0n0"), on(d0, "r0n1"), on(d1, "r1n0"), d2]));
  const ask = async (one: Pod): Promise<unknown> =>
    (await served.post("preemptable", { evictees: [task(one, STATUS.running)] })).body;
  t.match(await ask(d2), { status: 0 });
  await served.post("deallocateFunc", { task: task(d2, STATUS.releasing) });
  t.match(await ask(on(d0, "r0n1")), { status: 1, victims: [] });
  await served.post("allocateFunc", { task: task(d2, STATUS.running) });
  t.match(await ask(on(d0, "r0n1")), { status: 0 });
});

t.test("jobEnqueueable: no vote, or a rejection where the gang cannot stand", async (t) => {
  const full = ["r0n0", "r0n1", "r1n0", "r1n1"].map((name) =>
    pod(`x-${name}`, { model: null, gpus: 8, nodeName: name }),
  );
  const ask = async (pods: readonly Pod[], more: Partial<ClusterSnapshot> = {}): Promise<unknown> =>
    (await (await serveVolcano(cluster(pods, more))).post("jobEnqueueable", job("j", task(p0, STATUS.pending)))).body;
  t.same(await ask([p0, d0, d1]), { status: 0 }, "there is room: queues' quotas decide");
  t.same(await ask([p0, d0, d1, ...full]), { status: -1 });
  t.same(await ask([p0, d0, d1, ...full], { configMaps: [record()] }), { status: 0 }, "it stands");
  t.same(await ask([p0, d0, d1, ...full], { workloads: [] }), { status: 0 }, "nothing is known of it");
});

t.test("predicate and prioritize say of one node what filter and prioritize say", async (t) => {
  const busy = pod("busy", { model: null, gpus: 8, nodeName: "r0n0" });
  const served = await serveVolcano(cluster([on(p0, "r1n0"), busy]));
  const ask = async (name: string): Promise<unknown> =>
    (await served.post("predicate", { task: task(d0, STATUS.pending), node: { Name: name } })).body;
  t.same(await ask("r1n1"), { status: "", code: 0 });
  t.same(await ask("r0n0"), { status: "NodeLacksDevices: needs 4 nvidia.com/gpu, 0 of 8 free", code: 2 });
  t.same(await ask("gone"), { status: "NodeUnknown: the node is not in Tandem's store yet", code: 3 });
  const nodes = ["r1n0", "r1n1", "r0n1"].map((Name) => ({ Name }));
  const { body } = await served.post("prioritize", { task: task(d0, STATUS.pending), nodes });
  const { nodeScore } = body as { nodeScore: Record<string, number> };
  t.equal(nodeScore["r1n0"], 500);
  t.ok((nodeScore["r1n1"] ?? 0) > (nodeScore["r0n1"] ?? 0));
});

t.test("without a full store ours wait, and others do not", async (t) => {
  const foreign = pod("x", { model: null });
  const served = await serveVolcano(cluster([p0]));
  served.synced = false;
  const rows: [verb: string, body: (one: Pod) => object, ours: object, others: object][] = [
    ["jobReady", (one) => job("j", allocated(one)), { status: false }, { status: true }],
    ["jobEnqueueable", (one) => job("j", allocated(one)), { status: 0 }, { status: 0 }],
    [
      "predicate",
      (one) => ({ task: task(one, 1), node: { Name: "r0n0" } }),
      { code: 2, status: /ClusterNotSynced/ },
      { code: 0, status: "" },
    ],
    [
      "prioritize",
      (one) => ({ task: task(one, 1), nodes: [] }),
      { nodeScore: {}, errorMessage: "" },
      { nodeScore: {}, errorMessage: "" },
    ],
    ["preemptable", (one) => ({ evictees: [task(one, 32)] }), { status: 1, victims: [] }, { status: 0, victims: [] }],
  ];
  for (const [verb, body, ours, others] of rows) {
    t.match((await served.post(verb, body(p0))).body, ours, `${verb}, ours`);
    t.match((await served.post(verb, body(foreign))).body, others, `${verb}, another's`);
  }
});

const READ = [
  "predicate",
  "prioritize",
  "jobReady",
  "jobEnqueueable",
  "preemptable",
  "reclaimable",
  "allocateFunc",
  "deallocateFunc",
];
const UNREAD = ["onSessionOpen", "onSessionClose", "jobEnqueued", "queueOverused"];

t.test("a malformed call is a 400 that says where, for every verb that is read", async (t) => {
  const served = await serveVolcano(cluster([p0]));
  const bare = { Name: "x", Status: 1, Pod: { metadata: {} } };
  const rows: [body: unknown, verbs: readonly string[], error: RegExp][] = [
    ["{", READ, /JSON/],
    ["[]", READ, /must be an object/],
    ["null", READ, /must be an object/],
    [{}, ["predicate", "prioritize", "allocateFunc", "deallocateFunc", "jobReady", "jobEnqueueable"], /must be/],
    [
      { task: bare, node: { Name: "n" } },
      ["predicate", "allocateFunc", "deallocateFunc"],
      /task\.Pod must be a v1 Pod/,
    ],
    [{ task: { ...bare, Status: "x" } }, ["allocateFunc"], /task\.Status must be a whole number/],
    [{ task: task(p0, 1) }, ["predicate"], /node must be an object/],
    [{ task: task(p0, 1), node: {} }, ["predicate"], /node\.Name must be a text/],
    [{ task: task(p0, 1), nodes: [{}] }, ["prioritize"], /nodes\[0\]\.Name/],
    [{ task: task(p0, 1), nodes: {} }, ["prioritize"], /nodes must be a list/],
    [{ job: { UID: 1 } }, ["jobReady", "jobEnqueueable"], /job\.UID must be a text/],
    [{ job: { UID: "a", Tasks: [] } }, ["jobReady", "jobEnqueueable"], /job\.Tasks must be an object/],
    [{ job: { UID: "a", Tasks: { t: bare } } }, ["jobReady"], /job\.Tasks\["t"\]\.Pod/],
    [{ evictees: {} }, ["preemptable", "reclaimable"], /evictees must be a list/],
    [{ evictees: [bare] }, ["preemptable", "reclaimable"], /evictees\[0\]\.Pod/],
  ];
  for (const [body, verbs, error] of rows)
    for (const verb of verbs) {
      const reply = await served.post(verb, body);
      t.equal(reply.status, 400, `${verb} ${JSON.stringify(body)}`);
      t.match(reply.body, { error });
    }
  for (const verb of READ) t.equal((await served.post(verb, `{"x":"${"x".repeat(9_000_000)}"}`)).status, 413, verb);
});

t.test("verbs that are not read take anything, however long", async (t) => {
  const served = await serveVolcano(cluster([p0]));
  for (const verb of UNREAD)
    for (const body of ["{", "[]", `{"x":"${"x".repeat(9_000_000)}"}`])
      t.equal((await served.post(verb, body)).status, 200, verb);
  t.same((await served.post("queueOverused", {})).body, { overused: false });
  t.equal((await served.post("onSessionClose", {})).body, undefined, "nothing to read keeps the connection");
  t.equal((await served.post("elsewhere", {})).status, 404);
});
