/**
 * Volcano's scheduler and controllers in the test cluster, as the administrator; its CRDs come first (`applyCrds`).
 * Its webhooks are left out: they default and refuse, and what Tandem writes must stand without either.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { volcanoBinaries } from "./binaries.ts";
import { answers } from "./components.ts";
import type { Cluster } from "./control-plane.ts";
import { eventually, ready, startProcess, type Running } from "./process.ts";
import { freePorts } from "../../support/ports.ts";

/** The scheduler's default configuration, with the plugin that honours network topology. */
const CONFIGURATION = {
  actions: "enqueue, allocate, backfill",
  tiers: [
    { plugins: [{ name: "priority" }, { name: "gang", enablePreemptable: false }, { name: "conformance" }] },
    {
      plugins: [
        { name: "overcommit" },
        { name: "drf", enablePreemptable: false },
        { name: "predicates" },
        { name: "proportion" },
        { name: "nodeorder" },
        { name: "binpack" },
        { name: "network-topology-aware" },
      ],
    },
  ],
};

/** Those that make PodGroups and open queues: nothing is placed from a queue that is not open. */
const CONTROLLERS = ["pg-controller", "queue-controller"];
/** Commands have a CRD of their own, which is not there. */
const FEATURES = "QueueCommandSync=false";

/** The whole configuration, where it is not the one above. */
export interface VolcanoOptions {
  readonly configuration?: object;
}

export interface Volcano {
  /** Gives the scheduler another configuration, which it takes within a second or two. */
  configure(configuration: object): void;
  readonly scheduler: Running;
  readonly controllers: Running;
  logs(): string;
  stop(): Promise<void>;
}

/** Resolves when the queue `default` is open. */
export async function startVolcano(cluster: Cluster, options: VolcanoOptions = {}): Promise<Volcano> {
  const folder = await volcanoBinaries();
  const [schedulerPort = 0, controllersPort = 0] = await freePorts(2);
  // A folder of its own: the scheduler reads it again after every write to the folder, and logs are written there.
  const file = join(cluster.folder, "volcano", "scheduler.yaml");
  mkdirSync(dirname(file), { recursive: true });
  const configure = (configuration: object): void => writeFileSync(file, JSON.stringify(configuration));
  configure(options.configuration ?? CONFIGURATION);
  const common = [`--kubeconfig=${cluster.kubeconfig}`, "--leader-elect=false", "--enable-healthz=true"];
  const health = (port: number): string => `--healthz-address=127.0.0.1:${port}`;
  const start = (name: string, args: readonly string[]): Running =>
    startProcess({ name, command: join(folder, name), args: [...common, ...args], folder: cluster.folder });
  const scheduler = start("vc-scheduler", [`--scheduler-conf=${file}`, "--cache-dumper=false", health(schedulerPort)]);
  await ready(scheduler, () => answers(`http://127.0.0.1:${schedulerPort}/healthz`));
  const controllers = start("vc-controller-manager", [
    `--controllers=${CONTROLLERS.join(",")}`,
    `--feature-gates=${FEATURES}`,
    health(controllersPort),
  ]);
  await ready(controllers, () => answers(`http://127.0.0.1:${controllersPort}/healthz`));
  await eventually("the queue default is open", async () => {
    const { status } = await cluster.api.get("/apis/scheduling.volcano.sh/v1beta1/queues/default");
    return (status as { state?: string } | undefined)?.state === "Open" ? true : undefined;
  });
  const all = [scheduler, controllers];
  return {
    scheduler,
    controllers,
    configure,
    logs: () => all.map((running) => `--- ${running.name}\n${running.tail()}`).join("\n"),
    stop: async () => {
      await Promise.all(all.map((running) => running.stop()));
    },
  };
}
