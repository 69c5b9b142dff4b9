/**
 * A prefill and a decode Deployment that are scaled, with all that works on them: admission, controller, router and
 * autoscaler as processes of their own, Envoy in front, simulated engines on the pods' addresses.
 */
import { join } from "node:path";
import { labelOf, type Pod, type Workload } from "../../../src/kinds/kube.ts";
import { AUTOSCALING, LABEL } from "../../../src/kinds/names.ts";
import { startEngine, type RunningEngine } from "../../../src/simulator/engine/server.ts";
import { H200_LLAMA_8B, type TimingProfile } from "../../../src/simulator/engine/timing.ts";
import {
  systemClock as clock,
  systemRandom as random,
  systemTimers as timers,
} from "../../../src/telemetry/process.ts";
import { endpointsOf } from "../../../src/workload/endpoint.ts";
import { freePorts } from "../../support/ports.ts";
import { isReady, startCluster, type Cluster } from "./control-plane.ts";
import { followPods, type EngineFleet } from "./engines.ts";
import { startEnvoy, type Envoy } from "./envoy.ts";
import { buildProgram, startRole, startTandem, type Tandem } from "./tandem.ts";

export type Started = Awaited<ReturnType<typeof startRole>>;

/** So slow that a handful of requests a second fills it: 450 prompt tokens/s; 40 sequences, 220 tokens/s, within 180 ms a token. */
const SLOW: TimingProfile = {
  ...H200_LLAMA_8B,
  name: "slow",
  stepMs: 100,
  prefillMsPerToken: 2,
  prefillMsPerTokenSquared: 0,
  decodeMsPerSequence: 2,
  decodeMsPerKvToken: 0,
  capacityTokens: 100_000,
};

export interface Scaled {
  readonly cluster: Cluster;
  readonly tandem: Tandem;
  readonly envoy: Envoy;
  readonly fleet: EngineFleet<RunningEngine>;
  /** `ip:port` at which the router's replicas are asked. */
  readonly statistics: string;
  /** Another autoscaler beside those that run. */
  readonly startAutoscaler: (set: readonly string[]) => Promise<Started>;
  readonly stop: () => Promise<void>;
}

export async function startScaled(): Promise<Scaled> {
  buildProgram();
  const cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes();
  const [replicas = 0] = await freePorts(1);
  const statistics = `127.0.0.1:${replicas}`;
  const tandem = await startTandem(cluster, [
    "router.scrapeIntervalMs=500",
    `router.replicas.listen=${statistics}`,
    `router.replicas.peers=${statistics}`,
    "router.replicas.readers=127.0.0.1",
  ]);
  await cluster.startScheduler({ extender: { url: `${tandem.webhooks}/extender`, ca: tandem.authority } });
  const fleet = followPods(cluster, { namespace: "default", selector: LABEL.model, start: engineOf });
  const envoy = await startEnvoy({ profile: "original-dst", extProcAddress: tandem.router, decodeEndpoints: [] });
  const started: Started[] = [];
  const startAutoscaler = async (set: readonly string[]): Promise<Started> => {
    const file = join(cluster.folder, "tandem.yaml");
    const one = await startRole(cluster, { role: "autoscaler", roles: "autoscaler", file, set });
    started.push(one);
    return one;
  };
  const stop = async (): Promise<void> => {
    for (const { running } of started) await running.stop();
    await envoy.stop();
    await fleet.stop();
    await tandem.stop();
    await cluster.stop();
  };
  return { cluster, tandem, envoy, fleet, statistics, startAutoscaler, stop };
}

/** The engine of a pod, as its endpoint says; where admission wrote none, one that does both. */
export function engineOf(pod: Pod): Promise<RunningEngine> {
  const [endpoint] = endpointsOf(pod);
  const { models, role } = endpoint ?? { models: [labelOf(pod, "app") ?? ""], role: "both" as const };
  const at = { host: pod.status?.podIP ?? "", port: 8000 };
  return startEngine({ ...at, models, role, connector: "nixl", profile: SLOW }, { clock, timers, random });
}

interface Shape {
  readonly model: string;
  readonly role: string;
  readonly namespace?: string;
  readonly replicas?: number;
}

/** What a user writes, with windows short enough for a test. */
export const scaledDeployment = (
  name: string,
  { model, role, namespace = "default", replicas = 1 }: Shape,
  annotations: Readonly<Record<string, string>> = {},
): object => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: {
    ...{ name, namespace, labels: { [LABEL.model]: model, [LABEL.role]: role } },
    annotations: {
      [AUTOSCALING.mode]: "auto",
      [AUTOSCALING.maxReplicas]: "5",
      [AUTOSCALING.ttftSlo]: "4s",
      [AUTOSCALING.tpotSlo]: "200ms",
      [AUTOSCALING.stableWindow]: "15s",
      [AUTOSCALING.panicWindow]: "5s",
      [AUTOSCALING.scaleInDelay]: "10s",
      [AUTOSCALING.maxScaleIn]: "100%/5s",
      [AUTOSCALING.maxScaleOut]: "100%/5s",
      ...annotations,
    },
  },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: {
        containers: [
          {
            ...{ name: "engine", image: "vllm/vllm-openai:v0.11.0", args: ["--model", model] },
            resources: { limits: { "nvidia.com/gpu": "1" } },
          },
        ],
      },
    },
  },
});

export const deploymentOf = async (cluster: Cluster, name: string, namespace = "default"): Promise<Workload> =>
  (await cluster.api.get(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`)) as unknown as Workload;

/** Ready pods of a Deployment that are not on their way out. */
export const standingPods = async (cluster: Cluster, name: string, namespace = "default"): Promise<readonly Pod[]> =>
  (await cluster.pods(namespace, `app=${name}`)).filter(
    (pod) => isReady(pod) && pod.metadata.deletionTimestamp === undefined,
  );
