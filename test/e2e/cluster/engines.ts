/**
 * Engines behind the pods of the test cluster: where a pod has an address, one is started on it and the pod is told to
 * be Ready; where a pod goes, its engine goes too.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pod } from "../../../src/kinds/kube.ts";
import { ApiError } from "./api.ts";
import { isReady, type Cluster } from "./control-plane.ts";

const POLL_MS = 100;

export interface Stoppable {
  stop(): Promise<void>;
}

export interface EngineFleet<T extends Stoppable> {
  /** Pod name -> its engine. */
  readonly engines: ReadonlyMap<string, T>;
  /** Ends one engine as a crash would: its address refuses connections, the pod stays as Ready as it was. */
  crash(pod: string): Promise<void>;
  /** Ends following, and every engine. Rejects with the first failure of `start`, if there was one. */
  stop(): Promise<void>;
}

export interface FleetOptions<T> {
  readonly namespace: string;
  /** Label selector. */
  readonly selector: string;
  /** Starts the engine of a pod; `pod.status.podIP` is its address. */
  readonly start: (pod: Pod) => Promise<T>;
}

/** Follows the pods that match, until stopped. */
export function followPods<T extends Stoppable>(cluster: Cluster, options: FleetOptions<T>): EngineFleet<T> {
  const engines = new Map<string, T>();
  const crashed = new Set<string>();
  const state: { on: boolean; failure?: unknown } = { on: true };
  const end = async (name: string): Promise<void> => {
    const engine = engines.get(name);
    engines.delete(name);
    await engine?.stop();
  };
  const pass = async (): Promise<void> => {
    const pods = (await cluster.pods(options.namespace, options.selector)).filter(isLive);
    const live = new Set(pods.map(nameOf));
    // First those that go: an address is given to the next pod at once.
    for (const name of engines.keys()) if (!live.has(name)) await end(name);
    for (const pod of pods) {
      const name = nameOf(pod);
      if (crashed.has(name) || engines.has(name)) continue;
      engines.set(name, await options.start(pod));
      if (!isReady(pod)) await cluster.setListening(pod, true).catch(unlessGone);
    }
  };
  const running = (async () => {
    while (state.on) {
      await pass().catch((error: unknown) => (state.failure ??= error));
      await sleep(POLL_MS);
    }
  })();
  return {
    engines,
    crash: async (pod) => {
      crashed.add(pod);
      await end(pod);
    },
    stop: async () => {
      state.on = false;
      await running;
      for (const name of [...engines.keys()]) await end(name);
      if (state.failure !== undefined) throw new Error("an engine did not start", { cause: state.failure });
    },
  };
}

/** Between two looks a pod may go. */
function unlessGone(error: unknown): void {
  if (!(error instanceof ApiError) || error.status !== 404) throw error;
}

const nameOf = (pod: Pod): string => pod.metadata.name ?? "";
const isLive = (pod: Pod): boolean =>
  pod.status?.podIP !== undefined && pod.status.phase === "Running" && pod.metadata.deletionTimestamp === undefined;
