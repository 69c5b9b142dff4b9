/** The admission and extender roles: one HTTPS server with the routes of the roles that run, its certificate kept fresh. */
import { createSecureContext } from "node:tls";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fastify, { type FastifyInstance } from "fastify";
import { admissionRoutes } from "../../admission/routes.ts";
import { servingFrom } from "../../certs/plan.ts";
import { parseListen } from "../../config/listen.ts";
import { extenderRoutes } from "../../extender/routes.ts";
import { UsageError } from "../input.ts";
import type { ClusterAccess } from "./cluster.ts";
import type { RoleName } from "./names.ts";
import type { Role, RolePorts } from "./ports.ts";

/** Above the Go client's 90 s of idle keep-alive: the API server must be the one that closes. */
const KEEP_ALIVE_MS = 120_000;

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
  const app = fastify({
    https: { ...certificate.current(), minVersion: "TLSv1.2" },
    keepAliveTimeout: KEEP_ALIVE_MS,
    logger: false,
    bodyLimit: Math.max(ports.config.admission.maxBodyBytes, ports.config.extender.maxBodyBytes),
  });
  await mount(app, ports, access, roles);
  const address = await app.listen({ host: listen.host, port: listen.port });
  const cancel = certificate.onChange((pair) =>
    (app.server as unknown as { setSecureContext(pair: KeyPair): void }).setSecureContext(pair),
  );
  ports.log.info("webhooks listen", { address, roles: [...roles].join() });
  return {
    address: new URL(address).host,
    ready: () => certificate.present() && access.cluster.synced(),
    stop: async () => {
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
        defaultProfile: config.admission.defaultProfile,
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
      return {
        cert: readFileSync(join(directory, "tls.crt"), "utf8"),
        key: readFileSync(join(directory, "tls.key"), "utf8"),
      };
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
          createSecureContext({ ...next });
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
    onChange: (listener) =>
      source.onChange(() => {
        const next = read();
        if (next.cert === undefined || next.cert === served.cert) return;
        served = next;
        listener(next as KeyPair);
        log.info("certificate taken from the Secret");
      }),
  };
}
