/** One run: a backlog of unbound pods, kube-scheduler started on it, and the time from the first binding to the last. */
import { createTransport } from "../../../src/cluster/transport.ts";
import type { JsonObject, Pod } from "../../../src/kinds/kube.ts";
import type { Cluster } from "../../e2e/cluster/control-plane.ts";
import type { Running } from "../../e2e/cluster/process.ts";
import { cpuMsOf } from "../../support/usage.ts";

/** When each pod of a namespace was first seen bound, by a watch of its own. */
export interface Bindings {
  /** Monotonic milliseconds, in the order in which they came. */
  readonly times: readonly number[];
  /** Resolves when so many are bound; fails after `withinMs`. */
  reached(count: number, withinMs: number): Promise<void>;
  stop(): Promise<void>;
}

const POLL_MS = 20;

export function watchBindings(cluster: Cluster, namespace: string, token: string): Bindings {
  const { server } = cluster;
  const headers = { authorization: `Bearer ${token}` };
  const transport = createTransport({
    connect: () => Promise.resolve({ server: new URL(server.url), options: { ca: server.ca, headers } }),
    timeoutMs: 30_000,
  });
  const abort = new AbortController();
  const times: number[] = [];
  const bound = new Set<string>();
  const path = `/api/v1/namespaces/${namespace}/pods`;
  // Without a version the server reads etcd itself and loses events under load; 0 is its watch cache.
  const lines = transport.lines({
    method: "GET",
    path,
    query: { watch: "true", resourceVersion: "0" },
    signal: abort.signal,
  });
  const reading = (async () => {
    for await (const line of lines) {
      const { object } = JSON.parse(line) as { object: Pod };
      const id = object.metadata.uid ?? "";
      if (object.spec.nodeName === undefined || bound.has(id)) continue;
      bound.add(id);
      times.push(performance.now());
    }
  })().catch(() => undefined);
  return {
    times,
    reached: async (count, withinMs) => {
      const deadline = performance.now() + withinMs;
      while (times.length < count) {
        if (performance.now() > deadline)
          throw new Error(`${times.length} of ${count} pods bound after ${withinMs / 1000} s`);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    },
    stop: async () => {
      abort.abort();
      await reading;
    },
  };
}

export interface Run {
  readonly boundPerSecond: number;
  readonly seconds: number;
  /** Processor milliseconds for each pod bound, by program. */
  readonly cpuMsPerPod: Readonly<Record<string, number>>;
}

export interface RunOptions {
  readonly cluster: Cluster;
  readonly token: string;
  readonly namespace: string;
  readonly pods: number;
  readonly configure: (kubeconfig: string) => JsonObject;
  /** Whose processor time is counted, by name. */
  readonly programs: Readonly<Record<string, number>>;
}

/** A busy machine binds some two pods a second. */
const WITHIN_MS = 1_800_000;

/** The pods are there and unbound. */
export async function run(options: RunOptions): Promise<Run> {
  const { cluster, namespace, pods, configure, programs, token } = options;
  const bindings = watchBindings(cluster, namespace, token);
  let scheduler: Running | undefined;
  try {
    const before = usage(programs);
    scheduler = await cluster.startScheduler({ configure });
    await bindings.reached(pods, WITHIN_MS);
    const after = { ...usage(programs), "kube-scheduler": cpuMsOf(scheduler.pid) };
    const seconds = ((bindings.times.at(-1) ?? 0) - (bindings.times[0] ?? 0)) / 1000;
    return {
      boundPerSecond: (pods - 1) / seconds,
      seconds,
      cpuMsPerPod: Object.fromEntries(
        Object.entries(after).map(([name, cpu]) => [name, (cpu - (before[name] ?? 0)) / pods]),
      ),
    };
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${scheduler?.tail() ?? ""}`, { cause: error });
  } finally {
    await scheduler?.stop();
    await bindings.stop();
  }
}

const usage = (programs: RunOptions["programs"]): Record<string, number> =>
  Object.fromEntries(Object.entries(programs).map(([name, pid]) => [name, cpuMsOf(pid)]));
