/** The admission and extender roles: one HTTPS server with the routes of the roles that run, its certificate kept fresh. */
import { createSecureContext } from "node:tls";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fastify, { type FastifyInstance } from "fastify";
import { admissionRoutes } from "../../admission/routes.ts";
import { servingFrom } from "../../certs/plan.ts";
import { parseListen } from "../../config/listen.ts";
import { extenderRoutes } from "../../extender/routes.ts";
import { configuredDevices } from "../../profiles/devices.ts";
import { UsageError } from "../input.ts";
import type { ClusterAccess } from "./cluster.ts";
import type { RoleName } from "./names.ts";
import type { Role, RolePorts } from "./ports.ts";

/** Above the Go client's 90 s of idle keep-alive: the API server must be the one that closes. */
const KEEP_ALIVE_MS = 120_000;

/** The API server gives a webhook 30 s at most; a caller that sends slower is none. */
const REQUEST_MS = 30_000;

/** Callers learn late that an address is gone: one that closes at once fails the calls of the next seconds. */
const elapsed = (ms: number, { timers }: RolePorts): Promise<void> =>
  new Promise((resolve) => void timers.after(ms, resolve));

interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

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
  let draining = false;
  const app = fastify({
    https: { ...certificate.current(), minVersion: "TLSv1.2" },
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_MS,
    logger: false,
    bodyLimit: Math.max(ports.config.admission.maxBodyBytes, ports.config.extender.maxBodyBytes),
  });
  // The caller's connection goes with the answer, so that its next call finds another replica.
  app.addHook("onSend", (_request, reply, payload, done) => {
    if (draining) reply.header("connection", "close");
    done(null, payload);
  });
  await mount(app, ports, access, roles);
  const address = await app.listen({ host: listen.host, port: listen.port });
  const cancel = certificate.onChange((pair) =>
    (app.server as unknown as { setSecureContext(pair: KeyPair): void }).setSecureContext(pair),
  );
  ports.log.info("webhooks listen", { address, roles: [...roles].join() });
  return {
    address: new URL(address).host,
    ready: () => !draining && certificate.present() && access.fresh(),
    stop: async () => {
      draining = true;
      await elapsed(ports.config.admission.drainMs, ports);
      cancel();
      await app.close();
    },
  };
}

async function mount(
  app: FastifyInstance,
  ports: RolePorts,
  { cluster }: ClusterAccess,
  roles: ReadonlySet<RoleName>,
): Promise<void> {
  const { config, clock, log, metrics } = ports;
  if (roles.has("admission"))
    await app.register(
      admissionRoutes({ settings: config.admission, snapshot: () => cluster.snapshot(), clock, log, metrics }),
    );
  if (roles.has("extender"))
    await app.register(
      extenderRoutes({
        extender: config.extender,
        topology: config.topology,
        devices: configuredDevices(config.admission),
        cluster: () => ({ snapshot: cluster.snapshot(), synced: cluster.synced() }),
        ...{ clock, metrics, log },
      }),
    );
}

interface KeyPairSource {
  /** The pair to serve with now; empty until there is one, and handshakes fail until then. */
  readonly current: () => Partial<KeyPair>;
  readonly present: () => boolean;
  readonly onChange: (listener: (pair: KeyPair) => void) => () => void;
}

function keyPairSource(ports: RolePorts, access: ClusterAccess): KeyPairSource {
  const { directory } = ports.config.admission.certificates;
  return directory === "" ? secretPair(ports, access) : directoryPair(directory, ports);
}

/** `tls.crt` and `tls.key` of a folder, read again every minute: cert-manager's CSI driver and kubelet swap them. */
function directoryPair(directory: string, { timers, log }: RolePorts): KeyPairSource {
  const read = (): KeyPair => {
    try {
      const [cert, key] = ["tls.crt", "tls.key"].map((name) => readFileSync(join(directory, name), "utf8"));
      const pair = { cert: cert ?? "", key: key ?? "" };
      createSecureContext(pair);
      return pair;
    } catch (error) {
      throw new UsageError(`admission.certificates.directory ${directory}: ${(error as Error).message}`);
    }
  };
  let pair = read();
  return {
    current: () => pair,
    present: () => true,
    onChange: (listener) =>
      timers.every(60_000, () => {
        try {
          const next = read();
          if (next.cert === pair.cert) return;
          pair = next;
          listener(next);
        } catch (error) {
          log.error("certificates not reloaded", { error: (error as Error).message });
        }
      }),
  };
}

/** The controller's Secret, through the API: kubelet's copy of a Secret may be two minutes old. */
function secretPair({ clock, log }: RolePorts, access: ClusterAccess): KeyPairSource {
  const { source } = access.certificates();
  const read = (): Partial<KeyPair> => {
    const pair = servingFrom(source.snapshot().items[0], clock.now());
    return pair === undefined ? {} : { cert: pair.certificate, key: pair.key };
  };
  let served: Partial<KeyPair> = read();
  return {
    current: () => served,
    present: () => served.cert !== undefined,
    onChange: (listener) => {
      const take = (): void => {
        const next = read();
        if (next.cert === undefined || next.cert === served.cert) return;
        served = next;
        listener(next as KeyPair);
        log.info("certificate taken from the Secret");
      };
      const cancel = source.onChange(take);
      // It may have come while the server was being opened.
      take();
      return cancel;
    },
  };
}
