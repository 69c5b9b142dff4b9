/**
 * The server of the admission benchmark, in a process of its own: Tandem's webhooks (`tandem`) or a plain fastify that
 * sends every body back (`echo`), over HTTPS. Its key pair and the cluster come as the first message; it answers with its
 * port, and to every further message with the CPU time that it has used.
 */
import { performance } from "node:perf_hooks";
import fastify from "fastify";
import { admitObject } from "../../src/admission/admit.ts";
import { admissionRoutes } from "../../src/admission/routes.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Namespace, Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { large, stored } from "../support/large-deployment.ts";

export interface Start {
  readonly variant: "tandem" | "echo";
  readonly cert: string;
  readonly key: string;
}

/** CPU time of the whole process in µs, garbage collector included. */
export interface Usage {
  readonly cpuUs: number;
}

const PAIRS = 150;
const NAMESPACES = 100;

/** A busy cluster: 302 admitted workloads in 100 namespaces. */
export function cluster(): ClusterSnapshot {
  const { admission: settings } = loadConfig({});
  const namespaces: Namespace[] = Array.from({ length: NAMESPACES }, (_, index) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: index === NAMESPACES - 1 ? "inference" : `ns-${index}` },
  }));
  const base = { ...EMPTY_SNAPSHOT, namespaces };
  const pair = (options: object): Workload[] =>
    (["prefill", "decode"] as const).map((role) => large({ name: `${role}-of-it`, ...options, role }));
  const others = Array.from({ length: PAIRS }, (_, index) =>
    pair({ model: `m-${index}`, namespace: `ns-${index % (NAMESPACES - 1)}` }),
  );
  const workloads = [...pair({ namespace: "inference" }), ...others.flat()].map(
    (object) => stored(admitObject(object, { snapshot: base, settings }).object) as Workload,
  );
  return { ...base, workloads };
}

const BODY_LIMIT = 7340032;

async function serve({ variant, cert, key }: Start): Promise<void> {
  const app = fastify({ https: { cert, key }, logger: false, bodyLimit: BODY_LIMIT, keepAliveTimeout: 120_000 });
  if (variant === "echo") app.post("/admission/:webhook", (request) => request.body);
  else {
    const log = { debug: ignore, info: ignore, warn: ignore, error: ignore, with: () => log };
    const snapshot = cluster();
    const clock = { now: () => Date.now(), monotonic: () => performance.now() };
    const { admission: settings } = loadConfig({});
    await app.register(admissionRoutes({ settings, snapshot: () => snapshot, clock, metrics: createMetrics(), log }));
  }
  const address = await app.listen({ host: "127.0.0.1", port: 0 });
  process.on("message", () => {
    const { user, system } = process.cpuUsage();
    process.send?.({ cpuUs: user + system } satisfies Usage);
  });
  process.send?.({ port: Number(new URL(address).port) });
}

const ignore = (): undefined => undefined;

if (process.send !== undefined) process.once("message", (start) => void serve(start as Start));
