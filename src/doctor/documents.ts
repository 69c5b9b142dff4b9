/**
 * Configurations of schedulers, which are no objects of a cluster: kube-scheduler's KubeSchedulerConfiguration
 * (kubescheduler.config.k8s.io/v1) and Volcano's `volcano-scheduler.conf`. Files and ConfigMaps hold them.
 *
 * Read for what Tandem depends on. A field of a wrong type is as good as absent: the scheduler refuses such a file itself.
 */
import { parse } from "yaml";
import { isObject, keyOf, type JsonObject, type KubeObject } from "../kinds/kube.ts";
import { extendersOf, type VolcanoExtender } from "./volcano-plugin.ts";

export interface VolcanoConfiguration {
  /** Where it was found, for people. */
  readonly source: string;
  readonly plugins: readonly string[];
  /** Plugins `extender` that call Tandem; absent where there is none. */
  readonly extenders?: readonly VolcanoExtender[];
}

export interface ManagedResource {
  readonly name: string;
  readonly ignoredByScheduler: boolean;
}

export interface ExtenderEntry {
  readonly urlPrefix: string;
  readonly filterVerb: string;
  readonly prioritizeVerb: string;
  readonly preemptVerb: string;
  readonly bindVerb: string;
  readonly weight: number | undefined;
  readonly enableHttps: boolean;
  /** `insecure` of tlsConfig. */
  readonly insecure: boolean;
  /** A path on the scheduler's machine. */
  readonly caFile: string;
  /** PEM, decoded from base64. */
  readonly caData: string;
  /** The name its certificate must carry, where that is not the host of the URL. */
  readonly serverName: string;
  /** Go's notation, as `1s`; empty: kube-scheduler's 5 s. */
  readonly httpTimeout: string;
  readonly nodeCacheCapable: boolean;
  readonly ignorable: boolean;
  readonly managedResources: readonly ManagedResource[];
}

export interface SchedulerConfiguration {
  readonly source: string;
  /** `schedulerName` and effective `percentageOfNodesToScore` of each profile; undefined: kube-scheduler's sample. */
  readonly profiles: readonly { readonly name: string; readonly percentage: number | undefined }[];
  readonly extenders: readonly ExtenderEntry[];
}

export interface Documents {
  readonly volcano: readonly VolcanoConfiguration[];
  readonly schedulers: readonly SchedulerConfiguration[];
}

/** The configurations that a decoded document is, or carries as the text of a ConfigMap. */
export function documentsOf(value: unknown, source: string): Documents {
  if (!isObject(value)) return { volcano: [], schedulers: [] };
  if (value["kind"] === "ConfigMap") return documentsIn(value as KubeObject);
  if (value["kind"] === "KubeSchedulerConfiguration")
    return { volcano: [], schedulers: [schedulerConfiguration(value, source)] };
  const volcano = isVolcano(value) ? [volcanoConfiguration(value, source)] : [];
  return { volcano, schedulers: [] };
}

/** True for a document that is a configuration and no object. */
export const isConfiguration = (value: unknown): boolean =>
  isObject(value) && (value["kind"] === "KubeSchedulerConfiguration" || isVolcano(value));

const isVolcano = (value: JsonObject): boolean =>
  value["kind"] === undefined && typeof value["actions"] === "string" && Array.isArray(value["tiers"]);

/** A text in a ConfigMap longer than this is no configuration; etcd allows 1 MiB for all of them. */
const LONGEST_TEXT = 262_144;

function documentsIn(map: KubeObject): Documents {
  const texts = isObject(map["data"]) ? Object.entries(map["data"]) : [];
  const found = texts.flatMap(([key, text]) => {
    const value = typeof text === "string" && text.length <= LONGEST_TEXT ? parsed(text) : undefined;
    return isConfiguration(value) ? [documentsOf(value, `ConfigMap ${keyOf(map)}, ${key}`)] : [];
  });
  return {
    volcano: found.flatMap(({ volcano }) => volcano),
    schedulers: found.flatMap(({ schedulers }) => schedulers),
  };
}

/** Any text may stand in a ConfigMap. */
function parsed(text: string): unknown {
  if (!/^(actions|tiers|kind): /m.test(text) && !text.includes("KubeSchedulerConfiguration")) return undefined;
  try {
    return parse(text, { maxAliasCount: 0 }) as unknown;
  } catch {
    return undefined;
  }
}

const listOf = (value: unknown): readonly JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");
const numberOf = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined);

function volcanoConfiguration(value: JsonObject, source: string): VolcanoConfiguration {
  const extenders = extendersOf(value);
  return { source, plugins: pluginsOf(value), ...(extenders.length === 0 ? {} : { extenders }) };
}

const pluginsOf = (conf: JsonObject): readonly string[] =>
  listOf(conf["tiers"])
    .flatMap((tier) => listOf(tier["plugins"]))
    .map(({ name }) => textOf(name));

function schedulerConfiguration(value: JsonObject, source: string): SchedulerConfiguration {
  const overall = numberOf(value["percentageOfNodesToScore"]);
  const profiles = listOf(value["profiles"]).map((profile) => ({
    name: textOf(profile["schedulerName"]) || "default-scheduler",
    percentage: numberOf(profile["percentageOfNodesToScore"]) ?? overall,
  }));
  return {
    source,
    profiles: profiles.length === 0 ? [{ name: "default-scheduler", percentage: overall }] : profiles,
    extenders: listOf(value["extenders"]).map(extenderEntry),
  };
}

function extenderEntry(value: JsonObject): ExtenderEntry {
  const tls = isObject(value["tlsConfig"]) ? value["tlsConfig"] : {};
  return {
    urlPrefix: textOf(value["urlPrefix"]),
    filterVerb: textOf(value["filterVerb"]),
    prioritizeVerb: textOf(value["prioritizeVerb"]),
    preemptVerb: textOf(value["preemptVerb"]),
    bindVerb: textOf(value["bindVerb"]),
    weight: numberOf(value["weight"]),
    enableHttps: value["enableHTTPS"] === true,
    insecure: tls["insecure"] === true,
    caFile: textOf(tls["caFile"]),
    caData: Buffer.from(textOf(tls["caData"]), "base64").toString("utf8"),
    serverName: textOf(tls["serverName"]),
    // A number is no duration, and the scheduler refuses the file for it; it is not missing.
    httpTimeout: typeof value["httpTimeout"] === "number" ? String(value["httpTimeout"]) : textOf(value["httpTimeout"]),
    nodeCacheCapable: value["nodeCacheCapable"] === true,
    ignorable: value["ignorable"] === true,
    managedResources: listOf(value["managedResources"]).map((resource) => ({
      name: textOf(resource["name"]),
      ignoredByScheduler: resource["ignoredByScheduler"] === true,
    })),
  };
}

/** The path under which Tandem serves kube-scheduler. */
const PATH = /^\/extender\/?$/;

/** True for an entry that leads to Tandem: other extenders are none of our business. */
export function isOurs({ urlPrefix }: ExtenderEntry): boolean {
  const url = URL.canParse(urlPrefix) ? new URL(urlPrefix) : undefined;
  return url !== undefined && PATH.test(url.pathname);
}

const UNITS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 0.001,
  µs: 0.001,
  ns: 1e-6,
};
const DURATION = /^(?:\d+(?:\.\d+)?(?:h|ms|m|s|us|µs|ns))+$/;

/** Milliseconds of a duration in Go's notation (time.ParseDuration), as `1m30s`; undefined where it is none. */
export function durationMs(text: string): number | undefined {
  if (!DURATION.test(text)) return undefined;
  const parts = text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g);
  return [...parts].reduce((sum, [, amount, unit = ""]) => sum + Number(amount) * (UNITS[unit] ?? 0), 0);
}
