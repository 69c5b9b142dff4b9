/** The autoscaler's writes over the wire: paths, kinds of patch, fences, and what a conflict leads to. */
import t from "tap";
import { startAutoscaler, type Autoscaler } from "../../src/autoscaler/loop.ts";
import type { Observation } from "../../src/autoscaler/group.ts";
import { createClientOver } from "../../src/cluster/client.ts";
import { loadConfig } from "../../src/config/load.ts";
import { isWithheld } from "../../src/kinds/kube-error.ts";
import type { Pod, Workload } from "../../src/kinds/kube.ts";
import { AUTOSCALING_STATUS, FIELD_MANAGER, STATUS } from "../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { VirtualTime } from "../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { GROUP_SCALING, SCALING } from "../../src/workload/scaling.ts";
import { startApiServer, type FakeApiServer, type SeenRequest } from "../support/apiserver.ts";

const ID = "a/Deployment/d";
const SCALE = "/apis/apps/v1/namespaces/a/deployments/d/scale";

let server: FakeApiServer;
let time: VirtualTime;
let target: number;
t.beforeEach(async () => {
  server = await startApiServer();
  time = new VirtualTime(Date.UTC(2026, 0, 1));
  server.put({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "d", namespace: "a" },
    spec: { replicas: 2 },
  });
  for (const name of ["d-5f-1", "d-5f-2"])
    server.put({
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name,
        namespace: "a",
        ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "d-5f", uid: "r", controller: true }],
      },
      spec: { nodeName: "n", containers: [] },
      status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] },
    });
});
t.afterEach(() => server.stop());

const replicas = (): number => (server.find("deployments", "d") as Workload).spec.replicas ?? 0;

const observation = (): Observation => ({
  at: time.monotonic(),
  wallClock: time.now(),
  scaling: GROUP_SCALING,
  workloads: [
    {
      ...{
        id: ID,
        role: "decode",
        replicas: replicas(),
        nodesPerInstance: 1,
        replicasPerInstance: 1,
        acceleratorsPerInstance: 1,
      },
      ...{ isRolling: false, scaling: { ...SCALING, mode: "auto" } },
    },
  ],
  instances: server.all("pods").map(({ metadata }) => ({
    ...{ id: metadata.uid ?? "", workload: ID, state: "ready", createdAt: 0 },
    engine: { at: time.monotonic(), running: 0, waiting: 0, kvUsage: 0 },
  })),
  routers: [],
});

function start(t: { teardown(fn: () => Promise<void>): void }): Autoscaler {
  const client = createClientOver(server.transport(), { clock: time, manager: FIELD_MANAGER.autoscaler });
  const autoscaler = startAutoscaler({
    config: loadConfig().autoscaler,
    observer: { observe: () => [{ group: "a/m", observation: observation() }], onWake: () => () => undefined },
    decider: {
      createMemory: () => undefined,
      decide: (_, { at }) => ({
        ...{ at, roles: [], verdicts: [] },
        workloads: [{ workload: ID, from: replicas(), to: target, recommended: target, chain: [] }],
      }),
    },
    snapshot: () => ({
      ...EMPTY_SNAPSHOT,
      workloads: server.all("deployments") as Workload[],
      pods: server.all("pods") as Pod[],
    }),
    synced: () => true,
    isLeader: () => true,
    reader: client,
    writer: client,
    clock: time,
    timers: time,
    random: { next: () => 0.5, id: () => "" },
    log: SILENT_LOG,
    metrics: createMetrics(),
  });
  t.teardown(() => autoscaler.stop());
  return autoscaler;
}

/** Until the server has been asked for it; time passes by 100 ms for each 5 ms here. */
async function until(what: string, done: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1000; tries += 1) {
    if (done()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
    time.advance(100);
  }
  throw new Error(`never: ${what}`);
}

const patches = (path: string): SeenRequest[] =>
  server.requests.filter((request) => request.method === "PATCH" && request.path === path);

t.test("replicas go through the scale subresource, as they were read, under the autoscaler's name", async (t) => {
  target = 4;
  start(t);
  await until("four replicas", () => replicas() === 4);
  const [patch] = patches(SCALE);
  t.match(patch, {
    contentType: "application/merge-patch+json",
    query: { fieldManager: "tandem-autoscaler" },
    body: { metadata: { resourceVersion: /^\d+$/ }, spec: { replicas: 4 } },
  });
  const paths = server.requests
    .filter(({ path }) => path.includes("deployments"))
    .map((one) => `${one.method} ${one.path}`);
  const own = SCALE.replace("/scale", "");
  t.same(paths, [`GET ${SCALE}`, `PATCH ${own}`, `GET ${SCALE}`, `PATCH ${SCALE}`]);
  t.match(patches(own)[0]?.body, {
    metadata: { resourceVersion: /^\d+$/, annotations: { [AUTOSCALING_STATUS.lastScale]: /^2 -> 4 / } },
  });
  await until("the Event", () => server.all("events").length === 1);
  t.match(server.all("events")[0], { reason: "ScaledOut", involvedObject: { kind: "Deployment", name: "d" } });
});

t.test("what changed between reading and writing is a conflict, and read again", async (t) => {
  target = 4;
  let meanwhile = 1;
  server.intercept = ({ method, path }) => {
    if (method === "PATCH" && path === SCALE && meanwhile > 0) {
      meanwhile -= 1;
      server.put({ ...server.find("deployments", "d")!, status: { replicas: 2 } });
    }
    return undefined;
  };
  start(t);
  await until("four replicas", () => replicas() === 4);
  t.equal(patches(SCALE).length, 2, "refused once, then written");
});

t.test("what the server asks to wait for is waited for, by each workload", async (t) => {
  target = 4;
  let refused: number | undefined;
  let again: number | undefined;
  server.intercept = ({ method, path }) => {
    if (method !== "PATCH" || !path.includes("deployments")) return undefined;
    if (refused !== undefined) {
      again ??= time.now();
      return undefined;
    }
    refused = time.now();
    return { status: 429, body: {}, headers: { "retry-after": "12" } };
  };
  start(t);
  await until("four replicas", () => replicas() === 4);
  t.ok((again ?? 0) - (refused ?? 0) >= 12_000, `${(again ?? 0) - (refused ?? 0)} ms`);
});

t.test("who no longer leads when a write is about to leave sends nothing, and is told so", async (t) => {
  let leads = true;
  const client = createClientOver(server.transport(), {
    clock: time,
    fence: { mayWrite: () => leads, withinMs: 5000 },
  });
  const ref = { apiVersion: "apps/v1", plural: "deployments", namespace: "a", name: "d" };
  await client.patch(ref, "merge", { spec: { replicas: 3 } });
  t.match(server.requests.at(-1), { method: "PATCH", query: { timeout: "5000ms" } });
  const before = server.requests.length;
  leads = false;
  const refused = (by: typeof client): Promise<boolean> =>
    by.patch(ref, "merge", { spec: { replicas: 5 } }).then(() => false, isWithheld);
  t.ok(await refused(client), "over a connection that stands");
  const fresh = createClientOver(server.transport(), { clock: time, fence: { mayWrite: () => leads, withinMs: 1 } });
  t.ok(await refused(fresh), "over one that is made for it");
  t.ok(await fresh.get(ref), "reading is free");
  t.equal(server.requests.slice(before).filter(({ method }) => method === "PATCH").length, 0);
  t.equal(replicas(), 3);
});

t.test("a drain: marked pods, cost, and then fewer", async (t) => {
  target = 1;
  start(t);
  await until("one replica", () => replicas() === 1);
  const bodies = ["d-5f-1", "d-5f-2"].flatMap((name) => patches(`/api/v1/namespaces/a/pods/${name}`));
  t.match(
    bodies.map(({ body }) => body),
    [
      {
        metadata: {
          uid: /./,
          resourceVersion: /^\d+$/,
          annotations: { [STATUS.drain]: "scale-in", [AUTOSCALING_STATUS.draining]: /^2026-/ },
        },
      },
      {
        metadata: {
          annotations: {
            "controller.kubernetes.io/pod-deletion-cost": "-2147483648",
            [AUTOSCALING_STATUS.draining]: / cost=none$/,
          },
        },
      },
    ],
  );
});
