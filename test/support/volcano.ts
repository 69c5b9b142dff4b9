/** The extender's server for Volcano, without a network, and calls in Volcano's form. */
import fastify, { type FastifyInstance } from "fastify";
import { loadConfig } from "../../src/config/load.ts";
import { volcanoRoutes } from "../../src/extender/volcano/routes.ts";
import type { Pod } from "../../src/kinds/kube.ts";
import type { ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { configuredDevices } from "../../src/profiles/devices.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { createMetrics, type MetricsRegistry } from "../../src/telemetry/metrics.ts";

/** Volcano's TaskStatus. */
export const STATUS = { pending: 1, allocated: 2, binding: 8, running: 32, releasing: 64 } as const;

export interface Served {
  /** Milliseconds, both clocks. */
  now: number;
  snapshot: ClusterSnapshot;
  synced: boolean;
  readonly app: FastifyInstance;
  readonly metrics: MetricsRegistry;
  post(verb: string, body: unknown): Promise<{ readonly status: number; readonly body: unknown }>;
}

export async function serveVolcano(snapshot: ClusterSnapshot, settings = ""): Promise<Served> {
  const config = loadConfig({ text: settings, name: "test" });
  const app = fastify();
  const metrics = createMetrics();
  const served: Served = {
    ...{ now: 0, snapshot, synced: true, app, metrics },
    post: async (verb, body) => {
      const reply = await app.inject({
        method: "POST",
        url: `/volcano/${verb}`,
        headers: { "content-type": "application/json" },
        payload: typeof body === "string" ? body : JSON.stringify(body),
      });
      return { status: reply.statusCode, body: reply.body === "" ? undefined : JSON.parse(reply.body) };
    },
  };
  await app.register(
    volcanoRoutes({
      ...{ config, metrics, log: SILENT_LOG, devices: configuredDevices(config.admission) },
      cluster: () => ({ snapshot: served.snapshot, synced: served.synced }),
      clock: { now: () => served.now, monotonic: () => served.now },
    }),
  );
  return served;
}

export const task = (pod: Pod, status: number): object => ({
  UID: pod.metadata.uid,
  Name: pod.metadata.name,
  Status: status,
  Pod: pod,
});

export const job = (name: string, ...tasks: readonly object[]): object => ({
  job: { UID: `default/${name}`, Name: name, Tasks: Object.fromEntries(tasks.map((one, index) => [`t${index}`, one])) },
});
