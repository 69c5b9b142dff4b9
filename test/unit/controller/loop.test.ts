import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { startController, type ControllerOptions, type Task } from "../../../src/controller/loop.ts";
import { KubeError } from "../../../src/kinds/kube-error.ts";
import type { KubeObject, ObjectRef, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../../src/kinds/snapshot.ts";
import { GATE } from "../../../src/kinds/names.ts";
import type { Verdict } from "../../../src/kinds/verdict.ts";
import type { KubeWriter } from "../../../src/ports.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { createMetrics } from "../../../src/telemetry/metrics.ts";
import { node, pod } from "../../support/placement.ts";

const workload = (name: string, role: string, namespace = "a"): Workload => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, namespace, uid: name, labels: { "tandem.sh/model": name, "tandem.sh/role": role } },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: { spec: { schedulerName: "volcano", containers: [{ name: "e", image: "vllm/vllm-openai:v0.11.0" }] } },
  },
});

const WEBHOOKS: KubeObject = {
  apiVersion: "admissionregistration.k8s.io/v1",
  kind: "MutatingWebhookConfiguration",
  metadata: { name: "tandem" },
  webhooks: [{ name: "mutate.tandem.sh" }],
};

interface Scene {
  snapshot: ClusterSnapshot;
  synced: boolean;
  leading: boolean;
  webhooks: KubeObject | undefined;
  broken: boolean;
  /** How the server answers every apply and patch. */
  refused: KubeError | undefined;
  readonly told: (Verdict & { readonly about: KubeObject })[];
  readonly writes: string[];
  readonly time: VirtualTime;
  readonly metrics: ReturnType<typeof createMetrics>;
  change: () => void;
  run: (ms: number) => Promise<void>;
  stop: () => Promise<void>;
}

function scene(t: { teardown(fn: () => Promise<void>): void }, tasks: readonly Task[] = []): Scene {
  const time = new VirtualTime(0);
  let listener = (): void => undefined;
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 50; i++) await Promise.resolve();
  };
  const s: Scene = {
    snapshot: { ...EMPTY_SNAPSHOT, apis: { podGroups: true, hyperNodes: false } },
    synced: true,
    leading: true,
    webhooks: WEBHOOKS,
    broken: false,
    refused: undefined,
    told: [],
    writes: [],
    time,
    metrics: createMetrics(),
    change: () => listener(),
    run: async (ms) => {
      await settle();
      for (let at = 0; at < ms; at += 100) {
        time.advance(100);
        await settle();
      }
    },
    stop: async () => Promise.resolve(),
  };
  const write = (what: string): Promise<KubeObject> => {
    s.writes.push(what);
    if (s.refused !== undefined && /^(apply|patch)/.test(what)) throw s.refused;
    if (s.broken && what.includes("x-")) throw new KubeError({ status: 500, reason: "", message: "broken" });
    return Promise.resolve(WEBHOOKS);
  };
  const writer = {
    apply: (object: KubeObject) => write(`apply ${object.metadata.name ?? ""}`),
    patch: (ref: ObjectRef) => write(`patch ${ref.name}`),
    remove: (ref: ObjectRef) => write(`remove ${ref.name}`).then(() => undefined),
    event: (about: KubeObject, verdict: Verdict) => Promise.resolve(void s.told.push({ ...verdict, about })),
  } as unknown as KubeWriter;
  const options: ControllerOptions = {
    config: loadConfig(),
    snapshot: () => s.snapshot,
    synced: () => s.synced,
    onChange: (heard) => {
      listener = heard;
      return () => undefined;
    },
    isLeader: () => s.leading,
    reader: { get: () => Promise.resolve(s.webhooks) },
    writer,
    tasks,
    clock: time,
    timers: time,
    random: { next: () => 0, id: () => "" },
    log: SILENT_LOG,
    metrics: s.metrics,
  };
  const controller = startController(options);
  s.stop = () => controller.stop();
  t.teardown(() => controller.stop());
  return s;
}

const withWorkloads = (s: Scene, ...names: string[]): ClusterSnapshot => ({
  ...s.snapshot,
  workloads: names.map((name) => workload(name, "decode")),
});

t.test("acts when synced and leading, where a webhook reaches, and not before", async (t) => {
  const s = scene(t);
  s.snapshot = withWorkloads(s, "m");
  s.synced = false;
  await s.run(2000);
  t.same(s.writes, []);
  [s.synced, s.leading] = [true, false];
  await s.run(2000);
  t.same(s.writes, []);
  [s.leading, s.webhooks] = [true, undefined];
  await s.run(2000);
  t.same(s.writes, [], "no webhook, no action");
  s.webhooks = WEBHOOKS;
  await s.run(31_000);
  t.match(s.writes, [/^apply tandem-m-0-/]);
});

t.test("many changes are one pass, 200 ms later", async (t) => {
  const s = scene(t);
  await s.run(100);
  s.snapshot = withWorkloads(s, "m");
  for (let i = 0; i < 100; i++) s.change();
  await s.run(100);
  t.equal(s.writes.length, 0);
  await s.run(200);
  t.equal(s.writes.length, 1);
});

t.test("one that fails stops no other, and waits longer each time", async (t) => {
  const s = scene(t);
  s.broken = true;
  s.snapshot = withWorkloads(s, "x", "y");
  s.change();
  await s.run(300);
  t.match(s.writes, [/^apply tandem-x-/, /^apply tandem-y-/]);
  const podGroups: KubeObject[] = [];
  s.snapshot = { ...s.snapshot, podGroups };
  await s.run(20_000);
  const tries = s.writes.filter((write) => write.includes("-x-")).length;
  t.ok(tries >= 4 && tries <= 6, `${tries} tries in 20 s`);
  t.match(await s.metrics.page(), /tandem_controller_writes_total\{kind="PodGroup",outcome="failed"\} \d/);
});

t.test("what the server will refuse again is said on the workload; what it may take later is not", async (t) => {
  const s = scene(t);
  s.refused = new KubeError({ status: 403, reason: "Forbidden", message: "somebody else's" });
  s.snapshot = withWorkloads(s, "m");
  s.change();
  await s.run(300);
  t.match(s.told, [{ outcome: "warned", reason: "WriteRefused", message: /somebody else's/ }]);
  s.told.length = 0;
  s.refused = new KubeError({ status: 500, reason: "", message: "broken" });
  await s.run(10_000);
  t.ok(s.writes.length >= 3);
  t.same(s.told, []);
});

t.test("a gate that may not be lifted is told of on its pod", async (t) => {
  const s = scene(t);
  s.refused = new KubeError({ status: 403, reason: "Forbidden", message: "a policy of the cluster" });
  const plain = workload("m", "decode");
  plain.spec.template.spec.schedulerName = "default-scheduler";
  const held = pod("m-1", { model: "m", role: "decode", spec: { schedulingGates: [{ name: GATE.gang }] } });
  s.snapshot = {
    ...{ ...s.snapshot, workloads: [plain], nodes: [node("n")] },
    pods: [{ ...held, metadata: { ...held.metadata, namespace: "a" } }],
  };
  s.change();
  await s.run(300);
  const about = { kind: "Pod", metadata: { namespace: "a", name: "m-1", uid: held.metadata.uid } };
  t.match(
    s.told.filter(({ reason }) => reason === "WriteRefused"),
    [{ message: /^gate\/a\/m-1: .*policy/, about }],
  );
});

t.test("leadership lost in the middle of a pass ends it", async (t) => {
  const s = scene(t);
  s.snapshot = withWorkloads(s, "m", "n", "o");
  const push = s.writes.push.bind(s.writes);
  s.writes.push = (...items) => {
    s.leading = false;
    return push(...items);
  };
  s.change();
  await s.run(500);
  t.equal(s.writes.length, 1);
});

t.test(
  "tasks run at once, at the resync interval, and sooner after a failure; they need no synced store",
  async (t) => {
    const runs: number[] = [];
    const holder: { time?: VirtualTime } = {};
    const task: Task = {
      name: "certificates",
      run: () => {
        runs.push(holder.time?.now() ?? 0);
        return runs.length === 2 ? Promise.reject(new Error("down")) : Promise.resolve([]);
      },
    };
    const s = scene(t, [task]);
    holder.time = s.time;
    s.synced = false;
    await s.run(70_000);
    t.equal(runs.length, 4);
    t.ok((runs[1] ?? 0) >= 30_000 && (runs[2] ?? 0) - (runs[1] ?? 0) < 7000, runs.join(" "));
  },
);

t.test("after stop nothing more is done", async (t) => {
  const s = scene(t);
  await s.run(100);
  await s.stop();
  s.snapshot = withWorkloads(s, "m");
  s.change();
  await s.run(60_000);
  t.same(s.writes, []);
});
