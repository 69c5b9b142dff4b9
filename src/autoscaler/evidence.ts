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
  /** All that serve and all routers were heard, but for those below. */
  readonly mayShrink: boolean;
  /** Instances that have been silent for long while most are heard: on the way down each counts as full. */
  readonly broken: readonly string[];
  readonly verdicts: readonly Verdict[];
}

const FALLBACK_AFTER_MS = 300_000;
/** An instance that is new has so long until its metrics are read. */
const NEW_MS = 30_000;
/** One that is silent for so long while others are heard is broken, and no longer asked for its word. */
const BROKEN_MS = 120_000;
/** Were more of them silent, it would be the way to them that is broken. */
const FEW = 0.25;

export function judgeEvidence(memory: GroupMemory, observation: Observation): Evidence {
  const { at } = observation;
  const { source } = memory.traffic;
  const serving = observation.instances.filter(({ state }) => state === "ready" || state === "draining");
  if (source === "none" && (serving.length > 0 || observation.routers.length > 0)) return lost(memory, at);
  memory.lostSince = undefined;
  const silent = serving.filter((instance) => isSilent(instance, at));
  const broken = brokenOf(memory, { silent, serving, at });
  const unheard = silent.filter(({ id }) => !broken.includes(id));
  const verdicts: readonly Verdict[] = [
    ...(source === "partial"
      ? [kept("MetricsPartial", "some replicas of the router are silent: nothing is scaled in")]
      : []),
    ...(source === "engines"
      ? [kept("MetricsPartial", "no router is heard: engines' metrics decide, and nothing is scaled in")]
      : []),
    ...(unheard.length > 0
      ? [
          kept(
            "MetricsPartial",
            `${unheard.length} of ${serving.length} instances gave no metrics for ${FRESH_MS / 1000} s: nothing is scaled in`,
          ),
        ]
      : []),
  ];
  return { isLost: false, isFallback: false, mayShrink: verdicts.length === 0, broken, verdicts };
}

function lost(memory: GroupMemory, at: number): Evidence {
  memory.lostSince ??= memory.traffic.heardAt ?? at;
  const isFallback = at - memory.lostSince >= FALLBACK_AFTER_MS;
  const message = `neither a router nor an engine was heard for ${Math.round((at - memory.lostSince) / 1000)} s`;
  return { isLost: true, isFallback, mayShrink: false, broken: [], verdicts: [warned("MetricsLost", message)] };
}

const heardAt = ({ engine, readyAt, createdAt }: InstanceSeen): number => engine?.at ?? readyAt ?? createdAt;

const isSilent = (instance: InstanceSeen, at: number): boolean =>
  at - heardAt(instance) > (instance.engine === undefined ? NEW_MS : FRESH_MS) || !isPlausible(instance);

interface Listening {
  readonly silent: readonly InstanceSeen[];
  readonly serving: readonly InstanceSeen[];
  readonly at: number;
}

/** One pod that cannot be read must not freeze its group for ever. */
function brokenOf({ silentSince }: GroupMemory, { silent, serving, at }: Listening): readonly string[] {
  const ids = silent.map(({ id }) => id);
  for (const id of silentSince.keys()) if (!ids.includes(id)) silentSince.delete(id);
  for (const id of ids) if (!silentSince.has(id)) silentSince.set(id, at);
  return silent.length > FEW * serving.length ? [] : ids.filter((id) => at - (silentSince.get(id) ?? at) > BROKEN_MS);
}

const isPlausible = ({ engine }: InstanceSeen): boolean =>
  engine === undefined ||
  [engine.running, engine.waiting, engine.kvUsage].every((value) => Number.isFinite(value) && value >= 0);
