/** The admission and extender roles: one HTTPS server with the routes of the roles that run, its certificate kept fresh. */
import fastify, { type FastifyInstance } from "fastify";
import { admissionRoutes } from "../../admission/routes.ts";
import { admissionSettings } from "../../admission/stage.ts";
import { parseListen } from "../../config/listen.ts";
import { extenderRoutes } from "../../extender/kube/routes.ts";
import { configuredDevices } from "../../profiles/devices.ts";
import { UsageError } from "../input.ts";
import { callerTls, checkCallerName } from "./caller.ts";
import { keyPairSource } from "./certificate.ts";
import type { ClusterAccess } from "./cluster.ts";
import type { RoleName } from "./names.ts";
import type { Role, RolePorts } from "./ports.ts";
import { SERVER, createDraining } from "./server.ts";

export interface WebhookRole extends Role {
  readonly address: string;
}

export async function startWebhookRole(
  ports: RolePorts,
  access: ClusterAccess,
  roles: ReadonlySet<RoleName>,
): Promise<WebhookRole> {
  const listen = parseListen(ports.config.admission.listen);
  if (listen === undefined)
    throw new UsageError("admission.listen must not be empty for the roles admission and extender");
  const certificate = keyPairSource(ports, access);
  const tls = { ...callerTls(ports.config), minVersion: "TLSv1.2" } as const;
  const app = fastify({
    ...SERVER,
    https: { ...certificate.current(), ...tls },
    bodyLimit: Math.max(ports.config.admission.maxBodyBytes, ports.config.extender.maxBodyBytes),
  });
  const life = createDraining(app, ports.timers, ports.config.admission.drainMs);
  checkCallerName(app, ports.config);
  await mount(app, ports, access, roles);
  const address = await app.listen({ host: listen.host, port: listen.port });
  const cancel = certificate.onChange((pair) => app.server.setSecureContext({ ...pair, ...tls }));
  ports.log.info("webhooks listen", { address, roles: [...roles].join() });
  return {
    address: new URL(address).host,
    ready: () => !life.draining() && certificate.valid() && access.fresh(),
    stop: () => life.stop().finally(cancel),
  };
}

async function mount(
  app: FastifyInstance,
  ports: RolePorts,
  { client, cluster }: ClusterAccess,
  roles: ReadonlySet<RoleName>,
): Promise<void> {
  const { config, clock, timers, log, metrics } = ports;
  if (roles.has("admission"))
    await app.register(
      admissionRoutes({ settings: admissionSettings(config), snapshot: () => cluster.snapshot(), clock, log, metrics }),
    );
  if (roles.has("extender"))
    await app.register(
      extenderRoutes({
        ...{ config, devices: configuredDevices(config.admission) },
        cluster: () => ({ snapshot: cluster.snapshot(), synced: cluster.synced() }),
        ...{ clock, metrics, log },
        ...(config.extender.bind ? { bind: { api: client, timers } } : {}),
      }),
    );
}
