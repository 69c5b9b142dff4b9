/** The extender for Volcano: a plain HTTP server of its own, because Volcano's plugin takes no authority and no token. */
import fastify from "fastify";
import { parseListen } from "../../config/listen.ts";
import { volcanoRoutes } from "../../extender/volcano/routes.ts";
import { configuredDevices } from "../../profiles/devices.ts";
import type { ClusterAccess } from "./cluster.ts";
import type { Role, RolePorts } from "./ports.ts";
import { SERVER, createDraining } from "./server.ts";

/** Undefined where `extender.volcanoListen` is empty. */
export async function startVolcanoRole(
  ports: RolePorts,
  { cluster, fresh }: ClusterAccess,
): Promise<(Role & { readonly address: string }) | undefined> {
  const { config, clock, timers, log, metrics } = ports;
  const listen = parseListen(config.extender.volcanoListen);
  if (listen === undefined) return undefined;
  const app = fastify({ ...SERVER, bodyLimit: config.extender.maxBodyBytes });
  const life = createDraining(app, timers, config.admission.drainMs);
  await app.register(
    volcanoRoutes({
      ...{ config, devices: configuredDevices(config.admission) },
      ...{ clock, log, metrics },
      cluster: () => ({ snapshot: cluster.snapshot(), synced: cluster.synced() }),
    }),
  );
  const address = await app.listen({ host: listen.host, port: listen.port });
  log.info("extender for Volcano listens", { address });
  return {
    address: new URL(address).host,
    ready: () => !life.draining() && fresh(),
    stop: life.stop,
  };
}
