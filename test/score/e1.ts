/** E1: the API server takes ten seconds for every call that the extender makes. */
import fastify from "fastify";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { loadConfig } from "../../src/config/load.ts";
import { extenderRoutes } from "../../src/extender/kube/routes.ts";
import { configuredDevices } from "../../src/profiles/devices.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { systemClock as clock, systemTimers as timers } from "../../src/telemetry/process.ts";
import { createClientOver } from "../../src/cluster/client.ts";
import { createTransport, type Connection } from "../../src/cluster/transport.ts";
import { fabric, pod, snapshotOf } from "../support/placement.ts";
import type { ScoreRow } from "./row.ts";

const CALLS = 100;
const MOST_MS = 1000;
const SLOW_MS = 10_000;
const GAP_MS = 50;

export interface Slow {
  readonly calls: number;
  readonly errors: number;
  readonly worstMs: number;
  readonly filterWorstMs: number;
  /** Longest that this process, which is caller and called, did not get to run: what a loaded machine adds. */
  readonly stalledMs: number;
}

/** Bindings of so many pods at once, and a filter beside each, while the API server answers nothing. */
export async function slowApi(calls: number): Promise<Slow> {
  const config = loadConfig();
  const server = createServer(() => undefined).listen(0, "127.0.0.1");
  await once(server, "listening");
  const target = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const connect = (): Promise<Connection> => Promise.resolve({ server: target, options: {} });
  const transport = createTransport({ connect, timeoutMs: SLOW_MS });
  const pods = Array.from({ length: calls }, (_, index) => pod(`p${index}`, { model: null, gpus: 1 }));
  const snapshot = snapshotOf({ ...fabric(10, 10), pods });
  const app = fastify();
  await app.register(
    extenderRoutes({
      ...{ config, devices: configuredDevices(config.admission) },
      cluster: () => ({ snapshot, synced: true }),
      ...{ clock, metrics: createMetrics(), log: SILENT_LOG },
      bind: { api: createClientOver(transport, { clock }), timers },
    }),
  );
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const post = async (verb: string, body: unknown): Promise<{ ms: number; error: string }> => {
    const began = performance.now();
    const headers = { "content-type": "application/json" };
    const reply = await fetch(`${url}/extender/${verb}`, { method: "POST", headers, body: JSON.stringify(body) });
    const { Error: error } = (await reply.json()) as { Error: string };
    return { ms: performance.now() - began, error };
  };
  const stalls = monitorEventLoopDelay({ resolution: 5 });
  try {
    await post("filter", { Pod: pods[0], NodeNames: ["r0n0"] });
    stalls.enable();
    const answers = await Promise.all(
      pods.map(async ({ metadata }, index) => {
        await sleep(index * GAP_MS);
        const [PodName, PodUID, Node] = [metadata.name, metadata.uid, `r${index % 10}n${Math.floor(index / 10) % 10}`];
        const filter = post("filter", { Pod: pods[index], NodeNames: [Node] });
        return [await post("bind", { PodName, PodNamespace: "default", PodUID, Node }), await filter] as const;
      }),
    );
    return {
      calls,
      errors: answers.filter(([bind]) => bind.error !== "").length,
      worstMs: Math.max(...answers.map(([bind]) => bind.ms)),
      filterWorstMs: Math.max(...answers.map(([, filter]) => filter.ms)),
      stalledMs: stalls.max / 1e6,
    };
  } finally {
    await app.close();
    transport.close();
    server.closeAllConnections();
    server.close();
  }
}

export const row: ScoreRow = {
  id: "E1",
  fault: `the API server answers nothing for 10 s; ${CALLS} bindings and filters over HTTP meanwhile`,
  required: `every binding answered with Error within ${MOST_MS} ms, and filters are not held up`,
  run: async () => {
    const found = await slowApi(CALLS);
    const [worstMs, filterWorstMs] = [Math.ceil(found.worstMs), Math.ceil(found.filterWorstMs)];
    const stalledMs = Math.ceil(found.stalledMs);
    const met = found.errors === CALLS && worstMs <= MOST_MS && filterWorstMs <= MOST_MS;
    return { figures: { calls: CALLS, errors: found.errors, worstMs, filterWorstMs, stalledMs }, met };
  },
};
