/**
 * The autoscaler on real parts: kube-apiserver, controller-manager and scheduler, kwok's nodes, simulated engines on the
 * pods' own addresses, the router that tells of their load, and the autoscaler in a process of its own under its
 * ServiceAccount, killed in the middle of a drain.
 */
import t from "tap";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createKubeClient } from "../../src/cluster/client.ts";
import { loadConfig } from "../../src/config/load.ts";
import { annotationOf, type KubeObject, type ObjectRef, type Pod, type Workload } from "../../src/kinds/kube.ts";
import { AUTOSCALING, AUTOSCALING_STATUS, POD_DELETION_COST, STATUS } from "../../src/kinds/names.ts";
import { startEngine, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { systemClock as clock, systemRandom as random, systemTimers as timers } from "../../src/telemetry/process.ts";
import { freePorts } from "../support/ports.ts";
import { isReady, startCluster, type Cluster } from "./cluster/control-plane.ts";
import { followPods, type EngineFleet } from "./cluster/engines.ts";
import { startLaps } from "./cluster/laps.ts";
import { render, withoutPods } from "./cluster/manifests.ts";
import { eventually } from "./cluster/process.ts";
import { buildProgram, configurationOf, startRole } from "./cluster/tandem.ts";

t.setTimeout(300_000);
const NAME = "chat";
const PATH = `/apis/apps/v1/namespaces/default/deployments/${NAME}`;
const OURS = [AUTOSCALING_STATUS.draining, STATUS.drain, POD_DELETION_COST];

type Started = Awaited<ReturnType<typeof startRole>>;

let cluster: Cluster;
let fleet: EngineFleet<RunningEngine>;
let router: Started;
let autoscaler: Started;
let file: string;
let replicas: number;
const lap = startLaps(t);

const startAutoscaler = (): Promise<Started> =>
  startRole(cluster, {
    ...{ role: "autoscaler", roles: "autoscaler", file },
    set: [
      `autoscaler.routers=127.0.0.1:${replicas}`,
      "autoscaler.intervalMs=1000",
      "autoscaler.scrapeIntervalMs=1000",
      "autoscaler.drain.quietMs=3000",
    ],
  });

const startRouter = async (): Promise<Started> => {
  const [extProc = 0, health = 0] = await freePorts(2);
  return startRole(cluster, {
    ...{ role: "router", roles: "router", file },
    set: [
      `router.listen=127.0.0.1:${extProc}`,
      `router.healthListen=127.0.0.1:${health}`,
      `router.replicas.listen=127.0.0.1:${replicas}`,
      `router.callbacks.listen=`,
      `router.replicas.peers=127.0.0.1:${replicas}`,
      "router.replicas.readers=127.0.0.1",
    ],
  });
};

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes();
  await cluster.startScheduler();
  const objects = await render("overlays/dev");
  await cluster.apply(withoutPods(objects));
  file = join(cluster.folder, "tandem.yaml");
  writeFileSync(file, configurationOf(objects));
  [replicas = 0] = await freePorts(1);
  const start = (pod: Pod): Promise<RunningEngine> =>
    startEngine(
      { host: pod.status?.podIP ?? "", port: 8000, models: [NAME], role: "both", connector: "nixl" },
      { clock, timers, random },
    );
  fleet = followPods(cluster, { namespace: "default", selector: `app=${NAME}`, start });
  [router, autoscaler] = await Promise.all([startRouter(), startAutoscaler()]);
  lap("cluster, router and autoscaler");
});

t.teardown(async () => {
  if (!t.passing())
    t.comment([cluster.logs(), ...[router, autoscaler].map(({ running }) => running.tail())].join("\n---\n"));
  await autoscaler.running.stop();
  await router.running.stop();
  await fleet.stop();
  await cluster.stop();
});

const deployment = async (): Promise<Workload> => (await cluster.api.get(PATH)) as unknown as Workload;
const pods = (): Promise<Pod[]> => cluster.pods("default", `app=${NAME}`);
const ask = async (annotations: Record<string, string>): Promise<void> => {
  await cluster.api.patch(PATH, "merge-patch", { metadata: { annotations } });
};
const standing = (count: number): Promise<Pod[]> =>
  eventually(
    `${count} ready pods`,
    async () => {
      const found = (await pods()).filter((pod) => isReady(pod) && pod.metadata.deletionTimestamp === undefined);
      return found.length === count && (await deployment()).spec.replicas === count ? found : undefined;
    },
    120_000,
  );
const events = async (reason: string): Promise<KubeObject[]> =>
  (await cluster.api.list("/api/v1/namespaces/default/events")).filter((event) => event["reason"] === reason);

t.test("a minimum above what there is: more, through the scale subresource", async (t) => {
  const labels = { app: NAME, "tandem.sh/model": NAME, "tandem.sh/role": "both" };
  await cluster.apply([
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: {
        ...{ name: NAME, namespace: "default", labels },
        annotations: {
          [AUTOSCALING.mode]: "auto",
          [AUTOSCALING.minReplicas]: "3",
          [AUTOSCALING.maxReplicas]: "4",
          [AUTOSCALING.stableWindow]: "5s",
          [AUTOSCALING.panicWindow]: "1s",
          [AUTOSCALING.scaleInDelay]: "0s",
        },
      },
      spec: {
        replicas: 1,
        selector: { matchLabels: { app: NAME } },
        template: {
          metadata: { labels },
          spec: {
            containers: [
              {
                ...{ name: "engine", image: "vllm/vllm-openai:v0.11.0", command: ["vllm", "serve", NAME] },
                ports: [{ name: "http", containerPort: 8000 }],
              },
            ],
          },
        },
      },
    },
  ]);
  await standing(3);
  lap("three replicas");
  const { metadata } = await deployment();
  t.match(annotationOf({ metadata }, AUTOSCALING_STATUS.lastScale), / -> 3 /);
  const writers = metadata["managedFields"] as { manager: string; subresource?: string }[];
  t.ok(writers.some((one) => one.manager === "tandem-autoscaler" && one.subresource === "scale"));
  const told = await eventually("the Event", async () => {
    const found = await events("ScaledOut");
    return found.length > 0 ? found : undefined;
  });
  t.match(told[0]?.["message"], /^1 to \d instances: /);
});

t.test("a lower maximum: drained first, by whoever leads, and then gone; killed in between", async (t) => {
  await ask({ [AUTOSCALING.minReplicas]: "1", [AUTOSCALING.maxReplicas]: "2" });
  const [victim] = await eventually(
    "a pod that drains",
    async () => {
      const found = (await pods()).filter((pod) => annotationOf(pod, AUTOSCALING_STATUS.draining) !== undefined);
      return found.length > 0 ? found : undefined;
    },
    120_000,
  );
  t.equal(annotationOf(victim!, STATUS.drain), "scale-in");
  t.equal((await deployment()).spec.replicas, 3, "nothing goes before it is idle");
  await autoscaler.running.kill();
  lap("killed");
  autoscaler = await startAutoscaler();
  const left = await standing(2);
  lap("two replicas");
  t.notOk(
    left.some(({ metadata }) => metadata.uid === victim?.metadata.uid),
    "the one that drained went",
  );
  for (const pod of left) for (const key of OURS) t.equal(annotationOf(pod, key), undefined, key);
});

t.test("the API server keeps it to annotations and replicas", async (t) => {
  const kubeconfig = await cluster.kubeconfigFor("tandem-system", "tandem-autoscaler");
  const client = await createKubeClient(loadConfig({ flags: { "cluster.kubeconfig": kubeconfig } }).cluster, { clock });
  t.teardown(() => client.close());
  const [pod] = await pods();
  const of: ObjectRef = { apiVersion: "apps/v1", plural: "deployments", namespace: "default", name: NAME };
  const each: ObjectRef = { apiVersion: "v1", plural: "pods", namespace: "default", name: pod?.metadata.name ?? "" };
  const refused: readonly (readonly [ref: ObjectRef, body: object])[] = [
    [of, { spec: { paused: true } }],
    [of, { spec: { replicas: 9 } }],
    [of, { metadata: { labels: { x: "y" } } }],
    [of, { metadata: { annotations: { "tandem.sh/mode": "off" } } }],
    [each, { metadata: { labels: { x: "y" } } }],
    [each, { metadata: { annotations: { "status.tandem.sh/endpoint": "{}" } } }],
  ];
  for (const [ref, body] of refused)
    await t.rejects(
      client.patch(ref, "merge", body),
      /the autoscaler (changes|writes) annotations/,
      JSON.stringify(body),
    );
  await client.patch(of, "merge", { metadata: { annotations: { [AUTOSCALING_STATUS.status]: "{}" } } });
  await t.rejects(client.remove(each), /forbidden/);
});
