/**
 * The extender of a row, in a process of its own: Tandem's routes over HTTPS, and a cluster in its memory that changes by
 * one binding each time it is told. Its key pair comes as the first message; it answers with its port, and to every
 * binding with nothing but having done it.
 */
import fastify from "fastify";
import { loadConfig } from "../../src/config/load.ts";
import { extenderRoutes } from "../../src/extender/kube/routes.ts";
import type { Pod } from "../../src/kinds/kube.ts";
import type { ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { configuredDevices } from "../../src/profiles/devices.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { deployment, fabric, pod, snapshotOf } from "../support/placement.ts";

export interface Start {
  readonly cert: string;
  readonly key: string;
  readonly shape: FleetShape;
}

export interface FleetShape {
  readonly nodes: number;
  readonly pods: number;
  readonly gangs: number;
}

/** Pods of each role of a gang; this many of them are bound, the others wait. */
export const REPLICAS = 10;
const BOUND = 5;
const RACK = 16;
/** Gangs are spread over the racks from here on, one in each. */
const FIRST_RACK = 200;

export const podOf = (gang: number, role: "prefill" | "decode", index: number): Pod =>
  pod(`m${gang}-${role}-${index}`, { model: `m${gang}`, role });

/** Foreign pods of two devices that fill the first nodes, and gangs that are half bound, each in a rack. */
export function cluster({ nodes: count, pods: total, gangs }: FleetShape): ClusterSnapshot {
  const { nodes: all, hyperNodes } = fabric(Math.ceil(count / RACK), RACK);
  const nodes = all.slice(0, count);
  const names = nodes.map(({ metadata }) => metadata.name ?? "");
  const roles = ["prefill", "decode"] as const;
  const workloads = Array.from({ length: gangs }, (_, gang) =>
    roles.map((role) =>
      deployment(`m${gang}-${role}`, {
        ...{ model: `m${gang}`, role, replicas: REPLICAS },
        annotations: { "tandem.sh/topology": gang % 2 === 0 ? "preferred" : "required" },
      }),
    ),
  ).flat();
  const ours = Array.from({ length: gangs }, (_, gang) =>
    roles.flatMap((role) =>
      Array.from({ length: REPLICAS }, (_, index) => {
        const made = podOf(gang, role, index);
        const nodeName = names[(FIRST_RACK + gang) * RACK + index] ?? "";
        return index < BOUND ? { ...made, spec: { ...made.spec, nodeName } } : made;
      }),
    ),
  ).flat();
  const foreign = Array.from({ length: total - ours.length }, (_, index) =>
    pod(`foreign-${index}`, { model: null, gpus: 2, nodeName: names[Math.floor(index / 4) % count] ?? "" }),
  );
  return snapshotOf({ nodes, hyperNodes, workloads, pods: [...foreign, ...ours] });
}

/** Which pod goes where. */
export interface Binding {
  readonly name: string;
  readonly node: string;
}

const bound = (snapshot: ClusterSnapshot, { name, node }: Binding): ClusterSnapshot => ({
  ...snapshot,
  pods: snapshot.pods.map((one) =>
    one.metadata.name === name ? { ...one, spec: { ...one.spec, nodeName: node } } : one,
  ),
});

async function serve({ cert, key, shape }: Start): Promise<void> {
  const config = loadConfig({});
  let snapshot = cluster(shape);
  const app = fastify({ https: { cert, key }, logger: false, keepAliveTimeout: 120_000 });
  const clock = { now: () => Date.now(), monotonic: () => performance.now() };
  await app.register(
    extenderRoutes({
      ...{ config, devices: configuredDevices(config.admission) },
      cluster: () => ({ snapshot, synced: true }),
      ...{ clock, metrics: createMetrics(), log: SILENT_LOG },
    }),
  );
  const address = await app.listen({ host: "127.0.0.1", port: 0 });
  process.on("message", (binding) => {
    snapshot = bound(snapshot, binding as Binding);
    process.send?.({ done: true });
  });
  process.send?.({ port: Number(new URL(address).port) });
}

if (process.send !== undefined) process.once("message", (start) => void serve(start as Start));
