/** The controller role: lease, certificates and the one loop. */
import { reconcileCertificates, serviceNames } from "../../certs/loop.ts";
import { ALWAYS_LEADER, createLease } from "../../cluster/lease.ts";
import { startController } from "../../controller/loop.ts";
import type { ClusterAccess } from "./cluster.ts";
import type { Role, RolePorts } from "./ports.ts";

export function startControllerRole(ports: RolePorts, { client, cluster, fresh }: ClusterAccess): Role {
  const { config, clock, timers, random, log, metrics } = ports;
  const { namespace, service, alternativeNames, webhookConfiguration, lease: name } = config.controller;
  const lease =
    name === ""
      ? ALWAYS_LEADER
      : createLease({
          reader: client,
          writer: client,
          clock,
          timers,
          random,
          log,
          namespace,
          name,
          identity: random.id(),
        });
  const controller = startController({
    ...{ config, clock, timers, random, log, metrics },
    snapshot: () => cluster.snapshot(),
    synced: () => cluster.synced(),
    onChange: (listener) => cluster.onChange(listener),
    isLeader: () => lease.isLeader(),
    reader: client,
    writer: client,
    tasks: certificateTasks(),
  });

  /** Certificates are ours unless a folder holds them. */
  function certificateTasks(): Parameters<typeof startController>[0]["tasks"] & object {
    if (config.admission.certificates.directory !== "") return [];
    const { secret } = config.admission.certificates;
    const names = [...serviceNames(service, namespace), ...alternativeNames];
    const options = { reader: client, writer: client, clock, random, namespace, secret, names, webhookConfiguration };
    return [{ name: "certificates", run: () => reconcileCertificates(options) }];
  }

  return {
    ready: fresh,
    stop: async () => {
      await controller.stop();
      await lease.stop();
    },
  };
}
