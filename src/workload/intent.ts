/**
 * What a Pod must know of its workload's annotations when it is created, carried on the pod template in one annotation.
 *
 * A change of it rolls the workload, so it holds only keys whose change must make new pods, and only those that are set.
 * It works without any view of the cluster: the Pod brings its contract along.
 */
import { entry, isObject, type StringMap } from "../kinds/kube.ts";
import { ANNOTATION } from "../kinds/names.ts";

/** Keys that shape what a Pod is given at creation. Served names do not: they are read from the owner when it is known. */
const CARRIED: readonly string[] = [
  ANNOTATION.engine,
  ANNOTATION.container,
  ANNOTATION.port,
  ANNOTATION.rankPorts,
  ANNOTATION.parallelism,
  ANNOTATION.dpMode,
  ANNOTATION.accelerator,
  ANNOTATION.kvConnector,
  ANNOTATION.compat,
  ANNOTATION.prefillRunner,
  ANNOTATION.nodesPerInstance,
  ANNOTATION.skip,
];

/** Longest annotation that is read; ours is below 2 KiB. */
const LONGEST = 16384;

/**
 * The annotation's value: the carried keys of the workload over those of its Namespace, in a fixed order; `told` over
 * both, for what another template of the workload decides.
 */
export function writeIntent(
  annotations: StringMap | undefined,
  defaults: StringMap | undefined,
  told?: StringMap,
): string {
  const found = CARRIED.flatMap((key) => {
    const value = entry(told, key) ?? entry(annotations, key) ?? entry(defaults, key);
    return value === undefined ? [] : [[key, value]];
  });
  return JSON.stringify(Object.fromEntries(found));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The carried keys; undefined where there is no annotation of ours. */
export function readIntent(text: string | undefined): StringMap | undefined {
  const value = typeof text !== "string" || text.length > LONGEST ? undefined : parse(text);
  if (!isObject(value)) return undefined;
  const known = CARRIED.filter((key) => Object.hasOwn(value, key) && typeof value[key] === "string");
  return Object.fromEntries(known.map((key) => [key, value[key] as string]));
}
