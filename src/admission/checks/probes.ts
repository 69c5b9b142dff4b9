/** Checks of the user's own probes: one that would kill every engine before its model is loaded. */
import { isObject, type Container } from "../../kinds/kube.ts";
import { warned } from "../../kinds/verdict.ts";
import type { Check } from "./check.ts";

/** Seconds. No model of a size worth two roles is loaded, compiled and warmed up sooner. */
const SHORTEST_LOAD = 120;

const number = (value: unknown, fallback: number): number => (typeof value === "number" ? value : fallback);

/** Seconds after which the liveness probe kills an engine that still loads; undefined where it certainly does not. */
export function killsLoading(container: Container): number | undefined {
  const probe = container["livenessProbe"];
  if (!isObject(probe) || isObject(container["startupProbe"])) return undefined;
  // Defaults of the API.
  const period = number(probe["periodSeconds"], 10);
  const after = number(probe["initialDelaySeconds"], 0) + period * number(probe["failureThreshold"], 3);
  return after < SHORTEST_LOAD ? after : undefined;
}

/** Where the stage probes is left out, nothing holds the liveness probe back. */
const liveness: Check = ({ spec, inferred }) => {
  const after = spec.skip.includes("probes") ? killsLoading(inferred.container) : undefined;
  if (after === undefined) return [];
  return [warned("ProbeKills", `livenessProbe kills after ${after} s of loading; give a startupProbe`)];
};

export const PROBE_CHECKS: readonly Check[] = [liveness];
