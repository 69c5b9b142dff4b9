/**
 * The arguments of Volcano's `extender` plugin (pkg/scheduler/plugins/extender/extender.go) in a volcano-scheduler.conf,
 * and where in it the plugin stands.
 */
import { isObject, type JsonObject } from "../kinds/kube.ts";

export interface VolcanoExtender {
  readonly urlPrefix: string;
  /** Go's notation, as `250ms`; empty: Volcano's 1 s. */
  readonly httpTimeout: string;
  readonly ignorable: boolean;
  /** What is called, by what it is called for: `{ jobReady: "jobReady" }` for `extender.jobReadyVerb: jobReady`. */
  readonly verbs: ReadonlyMap<string, string>;
  /** Empty where every pod is sent; undefined for what is no list of texts, on which the scheduler ends. */
  readonly managedResources: readonly string[] | undefined;
  /** Plugins before it in its tier. */
  readonly before: readonly string[];
}

/** Those of ours, in the order of the tiers. */
export const extendersOf = (conf: JsonObject): readonly VolcanoExtender[] =>
  objectsIn(conf["tiers"]).flatMap((tier) => {
    const plugins = objectsIn(tier["plugins"]);
    return plugins.flatMap((plugin, index) => {
      const { name, arguments: given } = plugin;
      if (name !== "extender" || !isObject(given)) return [];
      const found = extenderOf(
        given,
        plugins.slice(0, index).map((other) => textOf(other["name"])),
      );
      return servedByUs(found) ? [found] : [];
    });
  });

const objectsIn = (value: unknown): readonly JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

function extenderOf(given: JsonObject, before: readonly string[]): VolcanoExtender {
  const verbs = Object.entries(given).flatMap(([key, value]): [string, string][] => {
    const [, verb] = /^extender\.(\w+)Verb$/.exec(key) ?? [];
    return verb === undefined || textOf(value) === "" ? [] : [[verb, textOf(value)]];
  });
  const resources = given["extender.managedResources"] ?? [];
  const isList = Array.isArray(resources) && resources.every((name) => typeof name === "string");
  return {
    urlPrefix: textOf(given["extender.urlPrefix"]),
    httpTimeout: textOf(given["extender.httpTimeout"]),
    ignorable: ["true", "1", "t", "T", "TRUE", "True"].includes(String(given["extender.ignorable"])),
    verbs: new Map(verbs),
    managedResources: isList ? resources : undefined,
    before,
  };
}

function servedByUs({ urlPrefix }: VolcanoExtender): boolean {
  const url = URL.canParse(urlPrefix) ? new URL(urlPrefix) : undefined;
  return url !== undefined && /\/volcano\/?$/.test(url.pathname);
}
