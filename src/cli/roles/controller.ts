/** The controller role: lease, certificates and the one loop. */
import { admitObject, strip } from "../../admission/admit.ts";
import { summary } from "../../admission/explain.ts";
import { admissionSettings } from "../../admission/stage.ts";
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
    judge: (workload, snapshot) => {
      // As it would be planned today: over the recorded plan there would be nothing to tell.
      const result = admitObject(strip(workload), { snapshot, settings: admissionSettings(config), settled: true });
      return [summary(result), ...result.verdicts];
    },
  });

  /** Certificates are ours unless a folder holds them, or somebody else issues them. */
  function certificateTasks(): Parameters<typeof startController>[0]["tasks"] & object {
    const { directory, secret, issuer } = config.admission.certificates;
    if (directory !== "" || issuer !== "tandem") return [];
    const names = [...serviceNames(service, namespace), ...alternativeNames];
    // Certificates are verified by the API server's clock; a wrong one of ours must not date them.
    const verifier = { monotonic: clock.monotonic, now: () => client.serverNow() ?? clock.now() };
    const to = { reader: client, writer: client, clock: verifier, random };
    const options = { ...to, namespace, secret, names, webhookConfiguration };
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
