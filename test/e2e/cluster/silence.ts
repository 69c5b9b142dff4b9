/** A group whose engines answer nobody any more, under an autoscaler of its own that reaches no router. */
import { setTimeout as sleep } from "node:timers/promises";
import { AUTOSCALING } from "../../../src/kinds/names.ts";
import { freePorts } from "../../support/ports.ts";
import { followPods } from "./engines.ts";
import { eventually } from "./process.ts";
import { deploymentOf, engineOf, scaledDeployment, standingPods, type Scaled } from "./scaled.ts";

const [NAME, NAMESPACE] = ["silent", "quiet"];
const SILENCE_MS = 600_000;
/** The declared number holds after five minutes; less what it may be early by, as the last pages were older. */
const HELD_MS = 270_000;
const LOOK_MS = 2000;

export interface Silence {
  /** Once ten minutes are over: the numbers that stood for the first four and a half, and the last one. */
  over(): Promise<{ readonly held: readonly number[]; readonly end: number }>;
}

/** Two engines that were heard, and then are not; `fallback` is 3. Resolves when the silence has begun. */
export async function startSilence({ cluster, startAutoscaler }: Scaled): Promise<Silence> {
  const [nobody = 0] = await freePorts(1);
  await startAutoscaler([
    `autoscaler.routers=127.0.0.1:${nobody}`,
    `autoscaler.namespaces=${NAMESPACE}`,
    // The lease is of the other one, which leaves this namespace alone.
    "autoscaler.lease=",
    "autoscaler.intervalMs=1000",
    "autoscaler.scrapeIntervalMs=1000",
  ]);
  await cluster.api.post("/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } });
  const shape = { model: NAME, role: "both", namespace: NAMESPACE, replicas: 2 };
  await cluster.apply([scaledDeployment(NAME, shape, { [AUTOSCALING.fallback]: "3" })]);
  const fleet = followPods(cluster, { namespace: NAMESPACE, selector: `app=${NAME}`, start: engineOf });
  const standing = (count: number) => async (): Promise<boolean | undefined> =>
    (await standingPods(cluster, NAME, NAMESPACE)).length === count ? true : undefined;
  await eventually("two that answer", standing(2), 60_000);
  await sleep(5 * LOOK_MS);
  await fleet.stop();
  const watching = watch(async () => (await deploymentOf(cluster, NAME, NAMESPACE)).spec.replicas ?? 1);
  return { over: () => watching };
}

async function watch(look: () => Promise<number>): Promise<{ readonly held: readonly number[]; readonly end: number }> {
  const begun = performance.now();
  const held = new Set<number>();
  let end = 0;
  for (let ms = 0; ms < SILENCE_MS; ms = performance.now() - begun) {
    end = await look();
    if (ms < HELD_MS) held.add(end);
    await sleep(LOOK_MS);
  }
  return { held: [...held], end };
}
