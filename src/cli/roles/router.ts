/** The router role: endpoints -> scraper -> directory -> request router -> ext_proc server, with its health service. */
import { readFileSync } from "node:fs";
import { parseListen } from "../../config/listen.ts";
import type { RemoteScraper } from "../../endpoints/remote.ts";
import type { Scraper } from "../../endpoints/scrape.ts";
import type { Endpoint } from "../../kinds/endpoint.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import { compatible } from "../../profiles/connectors.ts";
import { idSetOf } from "../../router/directory.ts";
import { createExplainer } from "../../router/explain/explainer.ts";
import type { RequestRouter } from "../../router/exchange.ts";
import { startExtProcServer } from "../../router/extproc/server.ts";
import { startHealthServer } from "../../router/health/server.ts";
import { createBlockHasher } from "../../router/kv/blocks.ts";
import type { PrefixIndex } from "../../router/kv/index.ts";
import type { LoadBook } from "../../router/load.ts";
import type { History } from "../../router/replicas/peers.ts";
import { SentLog, ToldIndex } from "../../router/replicas/sent.ts";
import { SALT_KEY_BYTES } from "../../router/request/salt.ts";
import { createRouter } from "../../router/route.ts";
import type { Pages } from "../../telemetry/server.ts";
import { UsageError } from "../input.ts";
import { callbackEdge, type CallbackEdge } from "./callbacks.ts";
import { endpointPages } from "./endpoint-pages.ts";
import { costPages, explainPages } from "./explain-pages.ts";
import { named } from "./files.ts";
import { startKnowledge } from "./knowledge.ts";
import type { Role, RolePorts } from "./ports.ts";
import { proxyTls } from "./proxy-tls.ts";
import { createStarted, type Started } from "./running.ts";
import { startReplicas } from "./replicas.ts";
import { routerStatistics, type RouterStatistics } from "./statistics.ts";
import { startTokenizing } from "./tokenizing.ts";

export interface RouterRole extends Role {
  /** `host:port` of ext_proc. */
  readonly address: string;
  readonly scraper: Scraper;
}

export interface RouterRoleOptions {
  readonly endpoints: () => readonly Endpoint[];
  /** False until the endpoints are known; the router is not ready before. */
  readonly synced: () => boolean;
  readonly onPick?: (verdict: Verdict) => void;
}

/** No engine is listened to. */
const NO_EVENTS = { anyLive: false, isLive: () => false };

/** Throws a UsageError where the configuration cannot be; then nothing of it is left running. */
export async function startRouterRole(ports: RolePorts, options: RouterRoleOptions): Promise<RouterRole> {
  const begun = createStarted(ports.log);
  try {
    return await compose(ports, options, begun);
  } catch (error) {
    await begun.stop();
    throw error;
  }
}

interface Composed {
  readonly router: RequestRouter;
  readonly loads: LoadBook;
  readonly scraper: RemoteScraper;
  readonly history: History;
  readonly edge: CallbackEdge | undefined;
  readonly forAutoscaler: RouterStatistics;
  readonly pages: Pages;
}

/** What picks, with what it knows. What begins is noted in `begun`, to be undone where something behind it fails. */
function composeRouter(ports: RolePorts, options: RouterRoleOptions, begun: Started): Composed {
  const { clock, timers, random, log, metrics } = ports;
  const config = ports.config.router;
  const salt = saltKeyOf(config.tenant.saltKeyFile);
  const edge = callbackEdge(ports);
  const { joint, following, index, scraper, ...known } = startKnowledge(ports, options.endpoints, begun);
  const { client, directory, loads, learner } = known;
  const { sent, told } = telling(index, config);
  // Compatibility is a question between two endpoints: what keeps their KV blocks from travelling.
  const incompatible = (prefill: Endpoint, decode: Endpoint): string | undefined =>
    compatible(prefill.compatibility, decode.compatibility);
  const tokenizer = startTokenizing(ports, { client, events: following?.index ?? NO_EVENTS }, begun);
  const explainer = createExplainer({ config: config.explain, clock, random, log });
  const { rates, trust, counted } = known;
  const forAutoscaler = routerStatistics(ports, directory, loads);
  const { statistics, wakeable, holding } = forAutoscaler;
  const router = createRouter({
    ...{
      config,
      directory,
      loads,
      index: told,
      hasher: createBlockHasher(),
      rates,
      trust,
      counted,
      client,
      incompatible,
    },
    ...{ clock, random, timers, metrics, log, statistics, wakeable, holding },
    ...given({ onPick: options.onPick, tokenizer, events: joint, explainer, learner, callbacks: edge?.callbacks }),
    ...salt,
  });
  const pages = {
    ...explainPages(explainer),
    ...costPages(learner, config.cost),
    ...endpointPages(() => directory.list(), { events: following?.index, trust }, clock),
  };
  const sharing = { index, endpoints: () => idSetOf(directory.list()), sent };
  return { router, loads, scraper, history: sharing, edge, forAutoscaler, pages };
}

/** What listens, with the router behind it. */
async function compose(ports: RolePorts, options: RouterRoleOptions, begun: Started): Promise<RouterRole> {
  const { clock, timers, log, metrics } = ports;
  const { maxStreams, maxConnections, maxBufferedBytes, ...config } = ports.config.router;
  const listen = listenOf(config.listen);
  const certificates = proxyTls(ports);
  const { router, loads, scraper, forAutoscaler, pages, ...shared } = composeRouter(ports, options, begun);
  let [draining, drainMs, listens] = [false, 0, false];
  const ready = (): boolean => listens && !draining && options.synced();
  const healthListen = parseListen(config.healthListen);
  const health =
    healthListen === undefined ? undefined : await at("router.healthListen", startHealthServer(healthListen, ready));
  begun.add(() => health?.stop());
  // They go behind the server: what still runs while it drains is work on the endpoints.
  const replicas = await startReplicas(ports, { loads, told: forAutoscaler.told, ...shared });
  begun.add(() => replicas.stop());
  const serving = { router, maxStreams, maxConnections, maxBufferedBytes, clock, timers, log, metrics };
  const server = await at("router.listen", startExtProcServer(listen, { ...serving, ...certificates.current() }));
  begun.add(() => server.stop(drainMs));
  begun.add(certificates.onChange((next) => server.secure(next)));
  listens = true;
  log.info("router listens", { extProc: server.address, health: health?.address ?? "off" });
  return {
    address: server.address,
    scraper,
    ready,
    pages,
    stop: async () => {
      draining = true;
      // Another replica holds them for as long as it takes.
      forAutoscaler.holding.end();
      // Proxies learn by asking that it goes; who does not know yet opens streams still.
      if (health?.asked() === true) await new Promise<void>((resolve) => void timers.after(config.leaveMs, resolve));
      drainMs = config.drainMs;
      await begun.stop();
    },
  };
}

/** Without what is not there. */
const given = <T extends object>(parts: T): { readonly [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined)) as never;

/** Without replicas to tell, nothing is kept to be told. */
function telling(
  index: PrefixIndex,
  { replicas }: RolePorts["config"]["router"],
): { sent?: SentLog; told: PrefixIndex } {
  if (replicas.peers === "") return { told: index };
  const sent = new SentLog();
  return { sent, told: new ToldIndex(index, sent) };
}

/** Throws where the file is not to be read, or too short to be a secret: tenants would share what they must not. */
function saltKeyOf(file: string): { readonly saltKey?: Buffer } {
  if (file === "") return {};
  const saltKey = named("router.tenant.saltKeyFile", file, () => readFileSync(file));
  if (saltKey.length < SALT_KEY_BYTES)
    throw new UsageError(
      `router.tenant.saltKeyFile: ${file} has ${saltKey.length} bytes; give ${SALT_KEY_BYTES} or more`,
    );
  return { saltKey };
}

/** Whose address it is that cannot be listened on. */
const at = async <T>(key: string, starting: Promise<T>): Promise<T> => {
  try {
    return await starting;
  } catch (error) {
    throw new UsageError(`${key}: ${(error as Error).message}`);
  }
};

function listenOf(text: string): { host: string; port: number } {
  const listen = parseListen(text);
  if (listen === undefined) throw new UsageError("router.listen must not be empty for the router role");
  return listen;
}
