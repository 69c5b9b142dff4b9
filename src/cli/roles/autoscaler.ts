/** The autoscaler role: lease, what is observed, what is decided, the loop that acts, and what KEDA is told. */
import { decide, createMemory } from "../../autoscaler/decide.ts";
import { createDesired, type DesiredReplicas } from "../../autoscaler/keda/desired.ts";
import { startKedaServer } from "../../autoscaler/keda/server.ts";
import { startAutoscaler, type Observer } from "../../autoscaler/loop.ts";
import { createClientOver } from "../../cluster/client.ts";
import { ALWAYS_LEADER, createLease, type Lease } from "../../cluster/lease.ts";
import { parseListen } from "../../config/listen.ts";
import { FIELD_MANAGER } from "../../kinds/names.ts";
import { autoscalerPages } from "./autoscaler-pages.ts";
import type { ClusterAccess } from "./cluster.ts";
import { startObserving, type Observing } from "./observing.ts";
import { SCALING_READER } from "./scaling-reader.ts";
import { UsageError } from "../input.ts";
import type { Role, RolePorts } from "./ports.ts";
import { createStarted, type Started } from "./running.ts";

export async function startAutoscalerRole(ports: RolePorts, access: ClusterAccess): Promise<Role> {
  const started = createStarted(ports.log);
  try {
    return await compose(ports, access, started);
  } catch (error) {
    await started.stop();
    throw error;
  }
}

async function compose(ports: RolePorts, access: ClusterAccess, started: Started): Promise<Role> {
  const { config, clock } = ports;
  const { cluster, fresh } = access;
  const snapshot = (): ReturnType<typeof cluster.snapshot> => cluster.snapshot();
  const serverNow = (): number | undefined => access.client.serverNow();
  const observing = await startObserving(ports, { snapshot, serverNow }, SCALING_READER);
  started.add(() => observing.stop());
  const desired = createDesired();
  await serveKeda(ports, desired, started);
  const lease = leaseOf(ports, access);
  started.add(() => lease.stop());
  // Replicas that it writes are told from those of others by its name.
  const isLeader = (): boolean => lease.isLeader();
  const client = createClientOver(access.client.transport, {
    ...{ clock, manager: FIELD_MANAGER.autoscaler },
    fence: { mayWrite: isLeader, withinMs: lease.marginMs },
  });
  const autoscaler = startAutoscaler({
    ...ports,
    config: config.autoscaler,
    observer: within(observing, config.autoscaler.namespaces),
    decider: { createMemory, decide },
    snapshot,
    synced: () => cluster.synced(),
    isLeader,
    reader: client,
    writer: client,
    serverNow,
    onDecision: desired.decided,
    onRound: desired.keep,
  });
  started.add(() => autoscaler.stop());
  return { ready: fresh, pages: autoscalerPages(autoscaler.history), stop: () => started.stop() };
}

/** KEDA may ask any replica: those that do not lead decide as well. */
async function serveKeda(
  { config, log, metrics }: RolePorts,
  desired: DesiredReplicas,
  started: Started,
): Promise<void> {
  const listen = parseListen(config.autoscaler.keda.listen);
  if (listen === undefined) return;
  const server = await startKedaServer(listen, desired, { log, metrics }).catch((error: unknown) => {
    throw new UsageError(`autoscaler.keda.listen: ${(error as Error).message}`);
  });
  started.add(() => server.stop());
}

function leaseOf(ports: RolePorts, { client }: ClusterAccess): Lease {
  const { clock, timers, random, log } = ports;
  const { lease: name } = ports.config.autoscaler;
  const { namespace } = ports.config.controller;
  if (name === "") return ALWAYS_LEADER;
  const identity = random.id();
  return createLease({ reader: client, writer: client, clock, timers, random, log, namespace, name, identity });
}

/** Groups of these namespaces alone; of all where none is named. */
function within(observing: Observing, namespaces: readonly string[]): Observer {
  if (namespaces.length === 0) return observing;
  const isOurs = (group: string): boolean => namespaces.includes(group.split("/", 1)[0] ?? "");
  return {
    observe: (only) => observing.observe(only).filter(({ group }) => isOurs(group)),
    onWake: (listener) => observing.onWake((group) => (isOurs(group) ? listener(group) : undefined)),
  };
}
