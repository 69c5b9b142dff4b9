/**
 * Stage topology: affinities that keep the pods of a cell close, for schedulers that know no HyperNodes.
 *
 * Each node label that the HyperNode tree is selected by, or each configured label level, becomes a topology key, the
 * closest with the highest weight.
 * Under Volcano the PodGroup's networkTopology says the same and better; without label keys only the extender can.
 */
import {
  labelOf,
  type HyperNode,
  type Node,
  type PodAffinityTerm,
  type WeightedPodAffinityTerm,
} from "../../kinds/kube.ts";
import { ANNOTATION, LABEL, VOLCANO } from "../../kinds/names.ts";
import { changed, warned } from "../../kinds/verdict.ts";
import { topologyKeys, topologySource, type TopologySource } from "../../topology/tree.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { append, type Wish } from "../change.ts";
import { at, nothing, type StageContext, type StageResult } from "../stage.ts";
import { effectiveScheduler } from "./gang.ts";
import { serviceLabels } from "./scheduling.ts";

/**
 * Whether the widest key selects domains of the highest tier that the user names. A HyperNode of HyperNodes often has no
 * label of its own; required by the key below it, a cell that may span several racks would be shut into one.
 */
function selectsHighest(source: TopologySource, highest: number | string | undefined): boolean {
  if (source.kind !== "hypernodes" || highest === undefined) return true;
  const allowed = allowedTiers(source.hyperNodes, highest) ?? [];
  const top = Math.max(...allowed.map(({ spec }) => spec.tier));
  return topologyKeys(allowed.filter(({ spec }) => spec.tier === top)).length > 0;
}

const NOT_BINDING = "no node label selects the highest tier, to which gates and the extender keep the cell; preferred";

/** The keys of the tiers that a cell may span, closest first; a verdict where the tier that the user names is unknown. */
function allowedKeys(source: TopologySource, highest: number | string | undefined): readonly string[] | StageResult {
  if (source.kind === "none") return [];
  if (source.kind === "labels") return allowedLevels(source.levels, highest);
  const { hyperNodes } = source;
  const allowed = allowedTiers(hyperNodes, highest);
  if (allowed !== undefined || hyperNodes.length === 0) return topologyKeys(allowed ?? []);
  return unknownTier(
    highest,
    "HyperNode",
    [...new Set(hyperNodes.map(({ spec }) => spec.tierName ?? String(spec.tier)))].sort(),
  );
}

/** A level is a tier, numbered from 1, and named by its label. */
function allowedLevels(
  levels: readonly string[],
  highest: number | string | undefined,
): readonly string[] | StageResult {
  if (highest === undefined) return levels;
  const tier = typeof highest === "number" ? highest : levels.indexOf(highest) + 1;
  return tier < 1 ? unknownTier(highest, "label level", levels) : levels.slice(0, tier);
}

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
const unknownTier = (tier: number | string | undefined, what: string, known: readonly string[]): StageResult => ({
  changes: [],
  verdict: warned(
    "TopologyUnknown",
    `${ANNOTATION.topologyTier}: no ${what} has tier ${tier ?? ""}; there are ${known.join(", ")}`,
  ),
});

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
function wishes(context: StageContext, keys: readonly string[], binds: boolean): Wish[] {
  const one = (kind: "required" | "preferred", value: object): Wish =>
    append(at(context, "spec", "affinity", "podAffinity", `${kind}DuringSchedulingIgnoredDuringExecution`), [value]);
  const widest = keys.at(-1);
  const { spec } = context;
  if (!binds || widest === undefined) return preferred(spec, keys).map((value) => one("preferred", value));
  const closer = preferred(spec, keys.slice(0, -1));
  return [one("required", term(spec, widest)), ...closer.map((value) => one("preferred", value))];
}

const HYPER_NODES = {
  source: "hypernodes",
  preset: "",
  levels: [],
} as const satisfies StageContext["settings"]["topology"];

/** Levels that some node has, where nodes are known: a required term by a label that no node has would fit nowhere. */
const carried = (levels: readonly string[], nodes: readonly Node[]): readonly string[] =>
  nodes.length === 0 ? levels : levels.filter((key) => nodes.some((node) => labelOf(node, key) !== undefined));

const NO_KEYS = "no HyperNode is selected by a node label, so affinities cannot say it; the scheduler extender does";

export function topology(context: StageContext): StageResult {
  const { spec, snapshot, settings } = context;
  if (spec.topology === "off") return nothing("topology is off");
  if (effectiveScheduler(context) === VOLCANO.schedulerName)
    return nothing("Volcano places the cell by the networkTopology of its PodGroup");
  const source = topologySource(settings.topology ?? HYPER_NODES, snapshot.hyperNodes);
  const allowed = allowedKeys(source, spec.topologyTier);
  if ("verdict" in allowed) return allowed;
  const keys = closest(source.kind === "labels" ? carried(allowed, snapshot.nodes) : allowed);
  if (keys.length === 0) return nothing(NO_KEYS);
  const binds = spec.topology === "required" && selectsHighest(source, spec.topologyTier);
  const kind = spec.topology === "required" && !binds ? NOT_BINDING : spec.topology;
  return {
    changes: wishes(context, keys, binds),
    verdict: changed("TopologyInjected", `${kind} affinity by ${keys.join(", ")}`),
  };
}
