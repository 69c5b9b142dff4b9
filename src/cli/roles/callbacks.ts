/** Where decode engines ask for the prefill of their requests: at the port of the router's replicas, or at one of its own. */
import fastify, { type FastifyInstance } from "fastify";
import { parseListen } from "../../config/listen.ts";
import { Callbacks } from "../../router/disagg/callbacks.ts";
import { callbackRoutes, METASERVER_PATH } from "../../router/disagg/routes.ts";
import { UsageError } from "../input.ts";
import type { RolePorts } from "./ports.ts";

/** What is asked is a few hundred kilobytes at most, sent at once. */
const REQUEST_MS = 2000;

export interface CallbackEdge {
  readonly callbacks: Callbacks;
  /** Serves them there as well; to be told its `host:port`. */
  readonly mount: (app: FastifyInstance) => Promise<(address: string) => void>;
  /** True where they are to share the address that is given. */
  readonly shares: (listen: string) => boolean;
  /** Listens, where nobody shared. */
  readonly start: () => Promise<() => Promise<void>>;
}

/** Undefined where no decode engine is to reach the router. Throws a UsageError where it is not said how. */
export function callbackEdge(ports: RolePorts): CallbackEdge | undefined {
  const { listen, advertise: host } = ports.config.router.callbacks;
  const at = parseListen(listen);
  if (at === undefined) return undefined;
  if (host === "")
    throw new UsageError("router.callbacks.advertise: decode engines must be told an address of this very replica");
  let port = at.port;
  const told = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  const callbacks = new Callbacks(() => `http://${told}:${port}${METASERVER_PATH}`);
  const mount = async (app: FastifyInstance): Promise<(address: string) => void> => {
    await app.register(callbackRoutes({ callbacks, metrics: ports.metrics }));
    return (address) => {
      port = Number(new URL(`http://${address}`).port);
    };
  };
  return {
    callbacks,
    mount,
    shares: (other) => other === listen,
    start: async () => {
      const app = fastify({ logger: false, requestTimeout: REQUEST_MS, forceCloseConnections: true });
      const listens = await mount(app);
      const address = await app.listen(at).catch((error: unknown) => {
        throw new UsageError(`router.callbacks.listen: ${(error as Error).message}`);
      });
      listens(new URL(address).host);
      return () => app.close();
    },
  };
}
