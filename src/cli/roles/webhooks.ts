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

/** Above the Go client's 90 s of idle keep-alive: the API server must be the one that closes. */
const KEEP_ALIVE_MS = 120_000;

/** The API server gives a webhook 30 s at most; a caller that sends slower is none. */
const REQUEST_MS = 30_000;

/** Nobody waits longer for an answer: webhooks have 1 s, the scheduler gives the extender as much. */
const LAST_ANSWERS_MS = 2000;

/** Callers learn late that an address is gone: one that closes at once fails the calls of the next seconds. */
const elapsed = (ms: number, { timers }: RolePorts): Promise<void> =>
  new Promise((resolve) => void timers.after(ms, resolve));

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
  let draining = false;
  const app = fastify({
    https: { ...certificate.current(), ...tls },
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_MS,
    // What comes in on a connection that is still open is answered to the end: a 503 would fail somebody's write.
    return503OnClosing: false,
    logger: false,
    bodyLimit: Math.max(ports.config.admission.maxBodyBytes, ports.config.extender.maxBodyBytes),
  });
  // The caller's connection goes with the answer, so that its next call finds another replica.
  app.addHook("onSend", (_request, reply, payload, done) => {
    if (draining) reply.header("connection", "close");
    done(null, payload);
  });
  checkCallerName(app, ports.config);
  await mount(app, ports, access, roles);
  const address = await app.listen({ host: listen.host, port: listen.port });
  const cancel = certificate.onChange((pair) => app.server.setSecureContext({ ...pair, ...tls }));
  ports.log.info("webhooks listen", { address, roles: [...roles].join() });
  return {
    address: new URL(address).host,
    ready: () => !draining && certificate.valid() && access.fresh(),
    stop: async () => {
      draining = true;
      await elapsed(ports.config.admission.drainMs, ports);
      cancel();
      const closed = app.close();
      await Promise.race([closed, elapsed(LAST_ANSWERS_MS, ports)]);
      // A caller opens connections ahead of its calls: those that never carried one would hold the stop for a minute.
      app.server.closeAllConnections();
      await closed;
    },
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
        extender: config.extender,
        topology: config.topology,
        gang: config.gang,
        devices: configuredDevices(config.admission),
        cluster: () => ({ snapshot: cluster.snapshot(), synced: cluster.synced() }),
        ...{ clock, metrics, log },
        ...(config.extender.bind ? { bind: { api: client, timers } } : {}),
      }),
    );
}
