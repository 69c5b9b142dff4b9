/**
 * How much of a group can be seen: enough to size it, enough to take something away, or too little for either. A source
 * that is silent never counts as idle.
 */
import { kept, warned, type Verdict } from "../kinds/verdict.ts";
import type { InstanceSeen, Observation } from "./group.ts";
import type { GroupMemory } from "./memory.ts";
import { FRESH_MS } from "./traffic.ts";

export interface Evidence {
  /** Nothing is heard of load at all. */
  readonly isLost: boolean;
  /** Lost for so long that the declared fallback holds. */
  readonly isFallback: boolean;
  /** All that serve and all routers were heard. */
  readonly mayShrink: boolean;
  readonly verdicts: readonly Verdict[];
}

const FALLBACK_AFTER_MS = 300_000;
/** An instance that is new has so long until its metrics are read. */
const NEW_MS = 30_000;
/** One that is silent for so long while others are heard is broken, and no longer asked for its word. */
const BROKEN_MS = 120_000;

export function judgeEvidence(memory: GroupMemory, observation: Observation): Evidence {
  const { at } = observation;
  const { source } = memory.traffic;
  const serving = observation.instances.filter(({ state }) => state === "ready" || state === "draining");
  if (source === "none" && (serving.length > 0 || observation.routers.length > 0)) return lost(memory, at);
  memory.lostSince = undefined;
  const silent = serving.filter((instance) => isSilent(instance, at) && !isBroken(instance, serving, at));
  const verdicts: readonly Verdict[] = [
    ...(source === "partial"
      ? [kept("MetricsPartial", "some replicas of the router are silent: nothing is scaled in")]
      : []),
    ...(source === "engines"
      ? [kept("MetricsPartial", "no router is heard: engines' metrics decide, and nothing is scaled in")]
      : []),
    ...(silent.length > 0
      ? [
          kept(
            "MetricsPartial",
            `${silent.length} of ${serving.length} instances gave no metrics for ${FRESH_MS / 1000} s: nothing is scaled in`,
          ),
        ]
      : []),
  ];
  return { isLost: false, isFallback: false, mayShrink: verdicts.length === 0, verdicts };
}

function lost(memory: GroupMemory, at: number): Evidence {
  memory.lostSince ??= memory.traffic.heardAt ?? at;
  const isFallback = at - memory.lostSince >= FALLBACK_AFTER_MS;
  const message = `neither a router nor an engine was heard for ${Math.round((at - memory.lostSince) / 1000)} s`;
  return { isLost: true, isFallback, mayShrink: false, verdicts: [warned("MetricsLost", message)] };
}

const heardAt = ({ engine, readyAt, createdAt }: InstanceSeen): number => engine?.at ?? readyAt ?? createdAt;

const isSilent = (instance: InstanceSeen, at: number): boolean =>
  at - heardAt(instance) > (instance.engine === undefined ? NEW_MS : FRESH_MS) || !isPlausible(instance);

const isBroken = (instance: InstanceSeen, serving: readonly InstanceSeen[], at: number): boolean =>
  at - heardAt(instance) > BROKEN_MS && 2 * serving.filter((other) => !isSilent(other, at)).length >= serving.length;

const isPlausible = ({ engine }: InstanceSeen): boolean =>
  engine === undefined ||
  [engine.running, engine.waiting, engine.kvUsage].every((value) => Number.isFinite(value) && value >= 0);
