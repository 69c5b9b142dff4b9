/**
 * Stage topology: affinities that keep the pods of a cell close, for schedulers that know no HyperNodes.
 *
 * Each node label that the HyperNode tree is selected by becomes a topology key, the closest with the highest weight.
 * Under Volcano the PodGroup's networkTopology says the same and better; without label keys only the extender can.
 */
import type { HyperNode, PodAffinityTerm, WeightedPodAffinityTerm } from "../../kinds/kube.ts";
import { ANNOTATION, LABEL, VOLCANO } from "../../kinds/names.ts";
import { changed, warned } from "../../kinds/verdict.ts";
import { topologyKeys } from "../../topology/tree.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { append, type Wish } from "../change.ts";
import { at, nothing, type StageContext, type StageResult } from "../stage.ts";
import { effectiveScheduler } from "./gang.ts";
import { serviceLabels } from "./scheduling.ts";

/** HyperNodes that a cell may span: those up to the highest tier that the user names; undefined where none is called so. */
function allowedTiers(
  hyperNodes: readonly HyperNode[],
  highest: number | string | undefined,
): readonly HyperNode[] | undefined {
  if (highest === undefined) return hyperNodes;
  const named = hyperNodes.find(({ spec }) => spec.tierName === String(highest))?.spec.tier;
  const tier = typeof highest === "number" ? highest : named;
  return tier === undefined ? undefined : hyperNodes.filter(({ spec }) => spec.tier <= tier);
}

/** A misspelt tier must not widen a cell to the whole cluster in silence: nothing is written then. */
const unknownTier = (tier: number | string | undefined, hyperNodes: readonly HyperNode[]): StageResult => {
  const known = [...new Set(hyperNodes.map(({ spec }) => spec.tierName ?? String(spec.tier)))].sort().join(", ");
  return {
    changes: [],
    verdict: warned(
      "TopologyUnknown",
      `${ANNOTATION.topologyTier}: no HyperNode has tier ${tier ?? ""}; there are ${known}`,
    ),
  };
};

/** Both roles of the cell: the term has no role, so that prefill and decode attract each other. */
function term(spec: WorkloadSpec, topologyKey: string): PodAffinityTerm {
  const cell = Object.entries(serviceLabels(spec)).filter(([key]) => key !== LABEL.role);
  return { labelSelector: { matchLabels: Object.fromEntries(cell) }, topologyKey };
}

/** Weights halve from key to key and end at 1; the widest is kept, because `required` binds at it. */
const MOST_KEYS = 7;
const closest = (keys: readonly string[]): readonly string[] =>
  keys.length <= MOST_KEYS ? keys : [...keys.slice(0, MOST_KEYS - 1), ...keys.slice(-1)];

/** 100, 50, 25, ...: sharing a closer domain outweighs sharing every wider one. */
const HIGHEST_WEIGHT = 100;

const preferred = (spec: WorkloadSpec, keys: readonly string[]): WeightedPodAffinityTerm[] =>
  keys.map((key, index) => ({
    weight: Math.max(1, Math.floor(HIGHEST_WEIGHT / 2 ** index)),
    podAffinityTerm: term(spec, key),
  }));

/**
 * `required` binds at the widest allowed key, the weakest promise that still holds: a required term has no way back once
 * the first pod has chosen a domain, so a narrow one wedges the cell in a domain that is too small.
 */
function wishes(context: StageContext, keys: readonly string[]): Wish[] {
  const { spec } = context;
  const one = (kind: "required" | "preferred", value: object): Wish =>
    append(at(context, "spec", "affinity", "podAffinity", `${kind}DuringSchedulingIgnoredDuringExecution`), [value]);
  const widest = keys.at(-1);
  if (spec.topology !== "required" || widest === undefined)
    return preferred(spec, keys).map((value) => one("preferred", value));
  const closer = preferred(spec, keys.slice(0, -1));
  return [one("required", term(spec, widest)), ...closer.map((value) => one("preferred", value))];
}

export function topology(context: StageContext): StageResult {
  const { spec, snapshot } = context;
  if (spec.topology === "off") return nothing("topology is off");
  if (effectiveScheduler(context) === VOLCANO.schedulerName)
    return nothing("Volcano places the cell by the networkTopology of its PodGroup");
  const allowed = allowedTiers(snapshot.hyperNodes, spec.topologyTier);
  if (allowed === undefined && snapshot.hyperNodes.length > 0)
    return unknownTier(spec.topologyTier, snapshot.hyperNodes);
  const keys = closest(topologyKeys(allowed ?? []));
  if (keys.length === 0)
    return nothing(
      "no HyperNode is selected by a node label, so affinities cannot say it; the scheduler extender does",
    );
  return {
    changes: wishes(context, keys),
    verdict: changed("TopologyInjected", `${spec.topology} affinity by ${keys.join(", ")}`),
  };
}
