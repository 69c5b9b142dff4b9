/**
 * A cell's identity, and the names of the objects we make for it.
 *
 * Label values and object names have different alphabets, so a name is a slug of group and cell with a short hash of
 * the exact values: stable, readable, and never the same for two cells of one namespace.
 */
import { createHash } from "node:crypto";
import type { WorkloadSpec } from "./spec.ts";

export interface CellId {
  readonly namespace: string;
  readonly model: string;
  readonly group: string;
  readonly cell: string;
}

export const cellOf = (spec: WorkloadSpec): CellId => ({
  namespace: spec.namespace,
  model: spec.model,
  group: spec.group,
  cell: spec.cell,
});

/** Unique over the cluster; for maps. Label values hold no slash. */
export const cellKey = (cell: CellId): string => `${cell.namespace}/${cell.model}/${cell.group}/${cell.cell}`;

/** What the keys of the cells of one service have in common. */
export const serviceKey = (key: string): string => key.slice(0, key.lastIndexOf("/"));

/** Object names have 253 characters at most, but some become label values (63); hash and prefix take 16 of them. */
const SLUG_LENGTH = 40;

/** The letters of a label value that an object's name may hold. */
export const slug = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, SLUG_LENGTH)
    .replace(/^-+|-+$/g, "");

const hash = (parts: readonly string[]): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 8);

/** `tandem-<slug of group and cell>-<hash>`: the PodGroup of the cell. */
export const cellObjectName = (cell: CellId): string =>
  `tandem-${slug(`${cell.group}-${cell.cell}`)}-${hash([cell.model, cell.group, cell.cell])}`;

/** `tandem-<slug of kind and name>-<hash>`: what belongs to one workload. */
export const workloadObjectName = ({ kind, name }: Pick<WorkloadSpec, "kind" | "name">): string =>
  `tandem-${slug(name)}-${hash([kind, name])}`;

/**
 * The immutable ConfigMap with both roles' parallel sizes, by cell, `compat` value and serving port of the role that reads
 * it: on the host's network the connector's port moves with that, so that a change makes another ConfigMap. Nothing that
 * other webhooks change in Pods may be part of the name. Its keys are the roles; each value is the whole KV transfer
 * configuration of that role as JSON.
 */
export const sizesName = ({
  model,
  group,
  cell,
  compat,
  port,
}: Pick<WorkloadSpec, "model" | "group" | "cell" | "compat" | "port">): string =>
  `tandem-${slug(`${group}-${cell}`)}-${hash([model, group, cell, compat, String(port), "sizes"])}`;

/** True for a name in that form: what an older or a newer Tandem, with another hash, called a ConfigMap of the cell. */
export const isSizesName = ({ group, cell }: Pick<CellId, "group" | "cell">, name: string): boolean =>
  name.startsWith(`tandem-${slug(`${group}-${cell}`)}-`) && /-[0-9a-f]{8}$/.test(name);

/** The ConfigMap that says that the cell stands, and where. Never taken for one of sizes, whose names end in a hash. */
export const standingName = (cell: CellId): string => `${cellObjectName(cell)}-standing`;

/** The cells of some workloads, each with its workloads in their order. */
export function groupByCell(specs: readonly WorkloadSpec[]): ReadonlyMap<string, readonly WorkloadSpec[]> {
  const cells = new Map<string, WorkloadSpec[]>();
  for (const spec of specs) {
    const key = cellKey(cellOf(spec));
    const members = cells.get(key);
    if (members === undefined) cells.set(key, [spec]);
    else members.push(spec);
  }
  return cells;
}
