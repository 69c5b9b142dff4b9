/** The extender for Volcano: a plain HTTP server of its own, because Volcano's plugin takes no authority and no token. */
import fastify from "fastify";
import { parseListen } from "../../config/listen.ts";
import { volcanoRoutes } from "../../extender/volcano/routes.ts";
import { configuredDevices } from "../../profiles/devices.ts";
import type { ClusterAccess } from "./cluster.ts";
import type { Role, RolePorts } from "./ports.ts";

/** Above the 90 s for which a Go client keeps an idle connection: the caller must be the one that closes. */
const KEEP_ALIVE_MS = 120_000;
/** Volcano gives up after `extender.httpTimeout`, a second by default. */
const REQUEST_MS = 30_000;

/** Undefined where `extender.volcanoListen` is empty. */
export async function startVolcanoRole(
  ports: RolePorts,
  { cluster, fresh }: ClusterAccess,
): Promise<(Role & { readonly address: string }) | undefined> {
  const { config, clock, log, metrics } = ports;
  const listen = parseListen(config.extender.volcanoListen);
  if (listen === undefined) return undefined;
  const app = fastify({
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_MS,
    return503OnClosing: false,
    logger: false,
    bodyLimit: config.extender.maxBodyBytes,
  });
  await app.register(
    volcanoRoutes({
      ...{ config, clock, log, metrics },
      devices: configuredDevices(config.admission),
      cluster: () => ({ snapshot: cluster.snapshot(), synced: cluster.synced() }),
    }),
  );
  const address = await app.listen({ host: listen.host, port: listen.port });
  log.info("extender for Volcano listens", { address });
  let draining = false;
  return {
    address: new URL(address).host,
    ready: () => !draining && fresh(),
    stop: async () => {
      draining = true;
      const closed = app.close();
      app.server.closeIdleConnections();
      await closed;
    },
  };
}
