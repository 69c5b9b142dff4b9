/**
 * A process that competes for several Leases, and writes without end under those that it holds: the product's own Lease,
 * loop, throttle, actor and client, with a decision that always wants another number. Run by `stopped-leaders.ts`.
 *
 * SIGUSR2 and SIGHUP make it stop itself (SIGSTOP) at the worst of moments: right after the throttle was told that it
 * leads, or right after the last question before a change of an object leaves. On SIGTERM it tells what it saw.
 */
import { startAutoscaler, type Observed } from "../../src/autoscaler/loop.ts";
import { createClientOver, createKubeClient } from "../../src/cluster/client.ts";
import { createLease, type Lease } from "../../src/cluster/lease.ts";
import { startCluster } from "../../src/cluster/sources.ts";
import type { Call, Transport } from "../../src/cluster/transport.ts";
import { loadConfig } from "../../src/config/load.ts";
import { isWithheld } from "../../src/kinds/kube-error.ts";
import { FIELD_MANAGER } from "../../src/kinds/names.ts";
import type { Workload } from "../../src/kinds/kube.ts";
import { changed } from "../../src/kinds/verdict.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import { SILENT_LOG as log } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { systemClock as clock, systemTimers as timers } from "../../src/telemetry/process.ts";
import { GROUP_SCALING, SCALING } from "../../src/workload/scaling.ts";
import { AIMED_WITHIN_MS, type LeadingOptions, type LeadingReport } from "./leading.ts";

type Moment = "throttle" | "wire";
/** What takes longer has slept: calls have shorter deadlines. */
const SLEPT_MS = 1500;
const MOST_CHECKS = 4;

const options = JSON.parse(process.argv[2] ?? "") as LeadingOptions;
const { next } = seededRandom(options.seed);
const seen = { inFlight: 0, withheld: 0, reading: 0 };
const armed: Record<Moment, number> = { throttle: 0, wire: 0 };
let armedUntil = -Infinity;
const arm = (moment: Moment): void => {
  armed[moment] = 1 + Math.floor(next() * MOST_CHECKS);
  armedUntil = clock.monotonic() + AIMED_WITHIN_MS;
};
process.on("SIGUSR2", () => arm("throttle")).on("SIGHUP", () => arm("wire"));

/** Stops the process right after a yes, at the last of the checks that were armed. */
function after(moment: Moment, yes: boolean): boolean {
  if (!yes || armed[moment] === 0 || clock.monotonic() > armedUntil) return yes;
  armed[moment] -= 1;
  if (armed[moment] === 0) process.kill(process.pid, "SIGSTOP");
  return yes;
}

/** As the product's, told of every call that slept. */
function watched(transport: Transport): Transport {
  const call = async (given: Call): Promise<unknown> => {
    const { mayLeave } = given;
    const isAim = mayLeave !== undefined && !given.path.endsWith("/events");
    const checked = isAim ? { ...given, mayLeave: () => after("wire", mayLeave()) } : given;
    const begun = clock.monotonic();
    const slept = (): boolean => clock.monotonic() - begun > SLEPT_MS;
    try {
      return await transport.call(checked);
    } catch (error) {
      if (isWithheld(error)) seen.withheld += 1;
      throw error;
    } finally {
      if (slept() && mayLeave !== undefined) seen.inFlight += 1;
      if (slept() && given.path.endsWith("/scale") && mayLeave === undefined) seen.reading += 1;
    }
  };
  return { ...transport, call };
}

const config = loadConfig({ flags: { "cluster.kubeconfig": options.kubeconfig } });
const client = await createKubeClient(config.cluster, { clock });
const transport = watched(client.transport);
const metrics = createMetrics();
const random = { next, id: () => options.identity };
const ports = { clock, timers, random, log, metrics };
const cluster = startCluster({ ...ports, transport, config: config.cluster, kinds: ["deployments"] });

/** Each Deployment is a group: one does not wait for another. */
function observe(lease: string): readonly Observed[] {
  const now = { at: clock.monotonic(), wallClock: clock.now(), scaling: GROUP_SCALING, instances: [], routers: [] };
  const sizes = { nodesPerInstance: 1, replicasPerInstance: 1, acceleratorsPerInstance: 1, isRolling: false };
  const scaling = { ...SCALING, mode: "auto", maxReplicas: 2 } as const;
  const seenOf = ({ metadata, spec }: Workload) => {
    const id = `${metadata.namespace ?? ""}/Deployment/${metadata.name ?? ""}`;
    return { id, role: "decode", scaling, replicas: spec.replicas ?? 1, ...sizes } as const;
  };
  const ours = cluster.snapshot().workloads.filter(({ metadata }) => metadata.labels?.["tandem.sh/model"] === lease);
  return ours.map(seenOf).map((one) => ({ group: one.id, observation: { ...now, workloads: [one] } }));
}

let decisions = 0;

function start(name: string): { readonly lease: Lease; readonly stop: () => Promise<void> } {
  const { leaseNamespace: namespace, identity, times } = options;
  const lease = createLease({ ...ports, reader: client, writer: client, namespace, name, identity, times });
  const writer = createClientOver(transport, {
    ...{ clock, manager: FIELD_MANAGER.autoscaler },
    fence: { mayWrite: () => lease.isLeader(), withinMs: lease.marginMs },
  });
  const autoscaler = startAutoscaler({
    ...ports,
    config: { ...config.autoscaler, intervalMs: options.intervalMs, writesPerSecond: 1000 },
    observer: {
      observe: (only) => observe(name).filter(({ group }) => only === undefined || group === only),
      onWake: () => () => undefined,
    },
    decider: {
      createMemory: () => undefined,
      decide: (_, { at, workloads }) => ({
        ...{ at, roles: [], verdicts: [] },
        workloads: workloads.map(({ id, replicas: from }) => {
          const to = from === 1 ? 2 : 1;
          const chain = [changed("ScaleReplicas", `decision ${(decisions += 1)} of ${identity}`)];
          return { workload: id, from, to, recommended: to, chain };
        }),
      }),
    },
    snapshot: () => cluster.snapshot(),
    synced: () => cluster.synced(),
    isLeader: () => after("throttle", lease.isLeader()),
    reader: writer,
    writer,
  });
  return { lease, stop: () => autoscaler.stop().then(() => lease.stop()) };
}

const started = options.leases.map(start);
process.once("SIGTERM", () => {
  void Promise.all(started.map(({ stop }) => stop())).then(() => {
    console.log(JSON.stringify(seen satisfies LeadingReport));
    process.exit(0);
  });
});
