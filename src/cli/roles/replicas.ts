/** The router among its replicas: it listens to what they do and sent where, and tells them of itself. */
import fastify from "fastify";
import { parseListen } from "../../config/listen.ts";
import type { LoadBook } from "../../router/load.ts";
import { resolved, startPush } from "../../router/replicas/client.ts";
import { Members } from "../../router/replicas/members.ts";
import { Peers, type History } from "../../router/replicas/peers.ts";
import { replicaRoutes } from "../../router/replicas/routes.ts";
import { statisticsRoutes } from "../../router/statistics/routes.ts";
import { UsageError } from "../input.ts";
import type { CallbackEdge } from "./callbacks.ts";
import { fileOf } from "./files.ts";
import type { RolePorts } from "./ports.ts";
import type { RouterStatistics } from "./statistics.ts";

export interface Replicas {
  /** `host:port` it listens on; empty where it does not. */
  readonly address: string;
  readonly stop: () => Promise<void>;
}

/** A replica sends its few kilobytes at once. */
const REQUEST_MS = 2000;
/** Who left the names is no reader any more after this long; one that came is looked up when it calls. */
const READERS_MS = 10_000;

/** What of the router others hear, or tell it. */
export interface SharedState {
  readonly loads: LoadBook;
  readonly history: History;
  readonly edge: CallbackEdge | undefined;
  /** For the autoscaler. */
  readonly told: RouterStatistics["told"];
}

/** Either may be off: without `listen` the others are not heard, without `peers` they are not told. */
export async function startReplicas(ports: RolePorts, { loads, history, edge, told }: SharedState): Promise<Replicas> {
  const { clock, timers, random, log, metrics } = ports;
  const { listen, peers, tokenFile } = ports.config.router.replicas;
  const token = tokenFrom(tokenFile);
  checkPeers(ports.config.router.replicas);
  const { maxEndpoints } = ports.config.router.index;
  const state = new Peers(loads, random.id(), { ...history, maxEndpoints });
  const members = new Members(() => resolved(peers), clock);
  const isMember = (remote: string | undefined): Promise<boolean> => members.includes(remote);
  const app = fastify({ logger: false, requestTimeout: REQUEST_MS, forceCloseConnections: true });
  await app.register(replicaRoutes({ state, token, isMember, maxEndpoints, clock, metrics }));
  const readers = readersOf(ports);
  const callers = { token, isMember: (remote: string | undefined) => readers.includes(remote), metrics };
  await app.register(statisticsRoutes({ ...told, timers, callers }));
  const at = parseListen(listen);
  const listens = at !== undefined && edge?.shares(listen) === true ? await edge.mount(app) : undefined;
  const address = at === undefined ? "" : new URL(await app.listen(at)).host;
  listens?.(address);
  const endOwn = listens === undefined ? await edge?.start() : undefined;
  // Behind all that may fail: a timer would keep a process alive that cannot start.
  const endRefresh = timers.every(READERS_MS, () => void readers.refresh());
  const push = peers === "" ? undefined : startPush({ members, token, state, clock, timers, log, metrics });
  return {
    address,
    stop: async () => {
      endRefresh();
      await push?.stop();
      await endOwn?.();
      await app.close();
    },
  };
}

/** Who may ask for statistics: the replicas themselves too, so that each can be looked at from the others. */
function readersOf({ clock, config }: RolePorts): Members {
  const { peers, readers } = config.router.replicas;
  const names = [peers, readers].filter((name) => name !== "").join(",");
  return new Members(() => resolved(names), clock);
}

/** What would be told to nobody, or heard from nobody, is a mistake. */
function checkPeers({ listen, peers, tokenFile, readers }: RolePorts["config"]["router"]["replicas"]): void {
  const wrong = peers.split(",").find((peer) => peers !== "" && !/^.+:\d{1,5}$/.test(peer.trim()));
  if (wrong !== undefined)
    throw new UsageError(
      `router.replicas.peers: ${wrong.trim() || "(empty)"} is no host:port; several are separated by commas`,
    );
  if (listen !== "" && [peers, readers, tokenFile].every((each) => each === ""))
    throw new UsageError(
      "router.replicas.listen: nobody is heard there; name router.replicas.peers, or readers, or a tokenFile",
    );
}

function tokenFrom(file: string): string {
  if (file === "") return "";
  return fileOf("router.replicas.tokenFile", file, (text) => {
    const token = text.trim();
    if (token === "") throw new Error("it is empty");
    return token;
  });
}
