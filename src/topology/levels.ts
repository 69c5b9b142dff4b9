/** Domains from configured node labels: one tier a label key, from the closest domain to the widest. */
import { labelOf, type Node } from "../kinds/kube.ts";
import type { DomainDraft, DraftedDomains } from "./tree.ts";

interface Growing extends DomainDraft {
  readonly nodes: string[];
}

/** A domain's place: the label values from the widest level down. One rack number may occur in several zones. */
type Place = readonly { readonly level: number; readonly value: string }[];

/**
 * The domains of these nodes. A node without a level's label hangs below the next wider level that it has. A domain is
 * named by its label value, or by its values from the widest level down where the value alone is not unique.
 */
export function labelDomains(nodes: readonly Node[], levels: readonly string[]): DraftedDomains {
  const places = new Map<string, { place: Place; nodes: string[] }>();
  for (const node of nodes) {
    const place = placeOf(node, levels);
    for (let depth = 1; depth <= place.length; depth++) {
      const known = ensure(places, place.slice(0, depth));
      if (depth === place.length) known.nodes.push(node.metadata.name ?? "");
    }
  }
  const names = uniqueNames([...places.entries()].map(([key, { place }]) => [key, place] as const));
  return {
    verdicts: [],
    domains: [...places.entries()].map(([key, known]) => toDraft(key, known, levels, names)),
  };
}

function placeOf(node: Node, levels: readonly string[]): Place {
  return levels
    .map((key, level) => ({ level, value: labelOf(node, key) ?? "" }))
    .filter(({ value }) => value !== "")
    .reverse();
}

const keyOfPlace = (place: Place): string => JSON.stringify(place.map(({ level, value }) => [level, value]));

function ensure(
  places: Map<string, { place: Place; nodes: string[] }>,
  place: Place,
): { place: Place; nodes: string[] } {
  const key = keyOfPlace(place);
  const known = places.get(key) ?? { place, nodes: [] };
  places.set(key, known);
  return known;
}

function uniqueNames(places: readonly (readonly [string, Place])[]): ReadonlyMap<string, string> {
  const counts = new Map<string, number>();
  for (const [, place] of places) counts.set(lastValue(place), (counts.get(lastValue(place)) ?? 0) + 1);
  return new Map(
    places.map(([key, place]) => [
      key,
      counts.get(lastValue(place)) === 1 ? lastValue(place) : place.map(({ value }) => value).join("/"),
    ]),
  );
}

const lastValue = (place: Place): string => place.at(-1)?.value ?? "";

function toDraft(
  key: string,
  known: { place: Place; nodes: string[] },
  levels: readonly string[],
  names: ReadonlyMap<string, string>,
): Growing {
  const level = known.place.at(-1)?.level ?? 0;
  const parent = names.get(keyOfPlace(known.place.slice(0, -1)));
  const tierName = levels[level];
  return {
    name: names.get(key) ?? key,
    tier: level + 1,
    nodes: known.nodes,
    keys: tierName === undefined ? [] : [tierName],
    ...(tierName === undefined ? {} : { tierName }),
    ...(parent === undefined ? {} : { parent }),
  };
}
