/** What the autoscaler reads, put together: the cluster's snapshot, pages of engines, words of routers, Prometheus. */
import type { Observation, RouterSeen } from "../../autoscaler/group.ts";
import { Observer, wakeableOf, type Readings } from "../../autoscaler/observe/observe.ts";
import { startPrometheus, type Prometheus } from "../../autoscaler/observe/prometheus/client.ts";
import { isHeard } from "../../autoscaler/observe/queries.ts";
import type { ScalingReader } from "../../autoscaler/observe/reading.ts";
import { startRouters, type Routers } from "../../autoscaler/observe/routers/client.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import type { Cancel } from "../../ports.ts";
import { configuredDevices } from "../../profiles/devices.ts";
import { resolved } from "../../router/replicas/client.ts";
import { UsageError } from "../input.ts";
import { engineAccess } from "./engine.ts";
import { fileOf, reread } from "./files.ts";
import type { RolePorts } from "./ports.ts";
import { createStarted, type Started } from "./running.ts";
import { startScraping } from "./scraping.ts";

export interface ObservedCluster {
  readonly snapshot: () => ClusterSnapshot;
  /** The API server's own time in milliseconds since the epoch, where it was heard. */
  readonly serverNow: () => number | undefined;
}

export interface Observing {
  /** All groups that are scaled, or the one of this name. */
  readonly observe: (only?: string) => readonly { readonly group: string; readonly observation: Observation }[];
  /** Called when requests wait for a group that has no endpoint. */
  readonly onWake: (listener: (group: string) => void) => Cancel;
  readonly stop: () => Promise<void>;
}

/** Throws a UsageError where the configuration cannot be; then nothing of it is left running. */
export async function startObserving(
  ports: RolePorts,
  cluster: ObservedCluster,
  reader: ScalingReader,
): Promise<Observing> {
  const begun = createStarted(ports.log);
  try {
    return compose(ports, { cluster, reader, begun });
  } catch (error) {
    await begun.stop();
    throw error;
  }
}

interface Parts {
  readonly cluster: ObservedCluster;
  readonly reader: ScalingReader;
  readonly begun: Started;
}

function compose(ports: RolePorts, { cluster, reader, begun }: Parts): Observing {
  const { config, clock } = ports;
  const { snapshot, serverNow } = cluster;
  const observer = new Observer({
    ...{ devices: configuredDevices(config.admission), reader, optIn: config.admission.optIn },
  });
  const scraper = scraping(ports, () => observer.targets(snapshot()), begun);
  const listeners = new Set<(group: string) => void>();
  const routers = following(ports, (group) => listeners.forEach((listener) => listener(group)), begun);
  const said = saying(ports, { routers, groups: () => observer.groups(snapshot()) }, begun);
  const readings = (): Readings => ({
    ...{ snapshot: snapshot(), scraped: scraper.of, routers: said() },
    now: { monotonic: clock.monotonic(), wall: serverNow() ?? clock.now() },
  });
  return {
    observe: (only) => {
      const groups = observer.observe(readings(), only);
      if (only === undefined) routers.tell(wakeableOf(groups));
      return groups.map(({ key, observation }) => ({ group: key, observation }));
    },
    onWake: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    stop: () => begun.stop(),
  };
}

function scraping(ports: RolePorts, targets: Parameters<typeof startScraping>[1], begun: Started) {
  const { scrapeIntervalMs: intervalMs, scrapeTimeoutMs: timeoutMs } = ports.config.autoscaler;
  const engines = engineAccess(ports);
  const scraper = startScraping(ports, targets, engines.current(), { intervalMs, timeoutMs });
  begun.add(() => scraper.stop());
  begun.add(engines.onChange((access) => scraper.use(access)));
  return scraper;
}

function following(ports: RolePorts, onWake: (group: string) => void, begun: Started): Routers {
  const { clock, timers, random, log, metrics } = ports;
  const { routers: names, tokenFile } = ports.config.autoscaler;
  const token = tokenOf("autoscaler.tokenFile", tokenFile, ports, begun);
  const resolve = (): Promise<readonly string[]> => resolved(names);
  const routers = startRouters({ resolve, token, onWake, clock, timers, random, log, metrics });
  begun.add(() => routers.stop());
  return routers;
}

interface Words {
  readonly routers: Routers;
  readonly groups: () => readonly string[];
}

/** What routers say of each group, or Prometheus in their place. */
function saying(ports: RolePorts, { routers, groups }: Words, begun: Started): () => Readings["routers"] {
  const { clock } = ports;
  const { prometheus: config } = ports.config.autoscaler;
  if (config.url === "") return routers.seen;
  if (config.queries.requests === "")
    throw new UsageError(
      "autoscaler.prometheus.queries.requests: give a query, or leave autoscaler.prometheus.url empty",
    );
  const unheard = (group: string, seen: Readings["routers"]): boolean =>
    config.use === "instead" || !isHeard(seen.get(group) ?? [], clock.monotonic());
  const asked = (): readonly string[] => {
    const seen = routers.seen();
    return groups().filter((group) => unheard(group, seen));
  };
  const prometheus = asking(ports, asked, begun);
  return () => {
    const seen = routers.seen();
    const instead = groups().flatMap((group): readonly (readonly [string, readonly RouterSeen[]])[] => {
      const said = unheard(group, seen) ? prometheus.seen(group) : undefined;
      return said === undefined ? [] : [[group, [said]]];
    });
    return new Map([...seen, ...instead]);
  };
}

function asking(ports: RolePorts, groups: () => readonly string[], begun: Started): Prometheus {
  const { clock, timers, log, metrics } = ports;
  const { url, tokenFile, queries } = ports.config.autoscaler.prometheus;
  const token = tokenOf("autoscaler.prometheus.tokenFile", tokenFile, ports, begun);
  const prometheus = startPrometheus({ url, token, queries, groups, clock, timers, log, metrics });
  begun.add(() => prometheus.stop());
  return prometheus;
}

/** Read again now and then: tokens of service accounts are renewed. */
function tokenOf(key: string, file: string, ports: RolePorts, begun: Started): () => string {
  if (file === "") return () => "";
  const source = reread(key, () => fileOf(key, file, checkedToken), ports);
  let token = source.current();
  begun.add(source.onChange((next) => (token = next)));
  return () => token;
}

function checkedToken(text: string): string {
  const token = text.trim();
  if (!/^[\x21-\x7e]{1,8192}$/.test(token))
    throw new Error("no token: one line of printable characters, without blanks");
  return token;
}
