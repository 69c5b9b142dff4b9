/**
 * What one role must know of the other: the immutable ConfigMap of a cell and `tandem.sh/compat` value, with the whole
 * KV transfer configuration of each role. Pods read it when they start, and wait for it while it is not there.
 *
 * Immutable, because a container that restarts in the middle of a rollout reads whatever stands there then: new sizes
 * need a new `compat`, and so a new ConfigMap beside the old one. The serving port of its readers, with
 * which the connector's moves, is in its name: a change makes another, and the old one goes when no pod reads it any more.
 * The name is the one that the workload's template holds: a plan is replayed as it was made, by whichever Tandem.
 */
import { isObject, keyOf, type KubeObject, type PodTemplate } from "../kinds/kube.ts";
import { LABEL } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import { changed, skipped, warned, type Verdict } from "../kinds/verdict.ts";
import { connectorProfile } from "../profiles/connectors.ts";
import { transferConfigs, type TransferConfigs } from "../profiles/transfer.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { cellOf, isSizesName, sizesName } from "../workload/cell.ts";
import { asOffered } from "../workload/offered.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { templatesOf } from "../workload/template.ts";
import type { Action } from "./action.ts";
import type { Contract } from "./contracts.ts";
import { isApplied, ownedMeta, sealed } from "./owned.ts";

/** What is stored, and what may read it. */
export interface SizesFacts extends Pick<ClusterSnapshot, "configMaps" | "pods" | "workloads"> {
  /** Namespaces with a workload that cannot be read: nothing is taken away there. */
  readonly unclear: ReadonlySet<string>;
}

export function sizesActions(cells: readonly (readonly Contract[])[], facts: SizesFacts): readonly Action[] {
  const stored = new Map(facts.configMaps.map((configMap) => [keyOf(configMap), configMap]));
  return cells.flatMap((cell) => [
    ...[...Map.groupBy(cell, ({ spec }) => spec.compat).values()].flatMap((pair) => pairActions(pair, stored)),
    ...leftovers(cell, facts),
  ]);
}

const needsSizes = ({ mode, connector, engine, role, skip }: WorkloadSpec): boolean =>
  mode === "manage" &&
  role !== "both" &&
  !skip.includes("kv") &&
  connectorProfile(connector, engine)?.needsBothSizes === true;

/** The workloads of one cell that share a `compat` value: one ConfigMap for those that read the same one. */
function pairActions(given: readonly Contract[], stored: ReadonlyMap<string, KubeObject>): readonly Action[] {
  const pair = given.map((contract) => ({ ...contract, spec: asOffered(contract.spec) }));
  const readers = Map.groupBy(
    pair.filter(({ spec }) => needsSizes(spec)),
    nameOf,
  );
  return [...readers].flatMap(([name, [first, ...rest]]) =>
    first === undefined ? [] : readerActions({ name, readers: [first, ...rest], pair }, stored),
  );
}

/** Names of the ConfigMaps from which containers take a variable. */
const namesRead = ({ spec }: PodTemplate): readonly string[] =>
  spec.containers.flatMap(({ env }) =>
    (env ?? []).flatMap(({ valueFrom }) => {
      const reference = isObject(valueFrom) ? valueFrom["configMapKeyRef"] : undefined;
      const read = isObject(reference) ? reference["name"] : undefined;
      return typeof read === "string" ? [read] : [];
    }),
  );

const namesReadBy = (workload: KubeObject): readonly string[] =>
  templatesOf(workload).flatMap(({ template }) => namesRead(template));

/** As the pods will ask for it; where the template says nothing of ours, as admission will write it into them. */
const nameOf = ({ spec, workload }: Contract): string =>
  namesReadBy(workload).find((name) => isSizesName(spec, name)) ?? sizesName(spec);

interface Reading {
  readonly name: string;
  readonly readers: readonly [Contract, ...Contract[]];
  readonly pair: readonly Contract[];
}

function readerActions(reading: Reading, stored: ReadonlyMap<string, KubeObject>): readonly Action[] {
  const { name, readers } = reading;
  const found = stored.get(`${readers[0].spec.namespace}/${name}`);
  const configs = configsOf(reading);
  if (typeof configs === "string")
    // Scripts that are only offered a connector wait for nothing.
    return readers.every(({ spec }) => spec.offered !== undefined)
      ? []
      : [told(name, readers, skipped("SizesWaiting", configs, { subject: name }))];
  const data = dataOf(found) ?? { prefill: configs.prefill, decode: configs.decode };
  const object = sealed({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: ownedMeta(name, readers),
    immutable: true,
    data,
  });
  // The other role's part is read by nobody here.
  const differs = readers.some(({ spec: { role } }) => role !== "both" && data[role] !== configs[role]);
  return [...(isApplied(found, object) ? [] : [publish(object, readers)]), ...(differs ? [fixed(name, readers)] : [])];
}

/** Both configurations as the readers need them, or what is missing for them, in words. */
function configsOf({ pair, readers }: Reading): TransferConfigs | string {
  const specs = [...readers, ...pair].map(({ spec }) => spec);
  const [prefill, decode] = [side(specs, "prefill"), side(specs, "decode")];
  if (typeof prefill === "string") return prefill;
  return typeof decode === "string" ? decode : transferConfigs(prefill, decode);
}

/** The workload that speaks for a role, or why none does. */
function side(specs: readonly WorkloadSpec[], role: "prefill" | "decode"): WorkloadSpec | string {
  const candidates = specs.filter((spec) => spec.role === role);
  const [first] = candidates;
  if (first === undefined) return `no ${role} workload of this cell with the same tandem.sh/compat is known yet`;
  const hidden = candidates.find((spec) => spec.sizesHidden === true);
  if (hidden !== undefined) return `${hidden.name}: a script hides the parallel sizes; declare tandem.sh/parallelism`;
  const other = candidates.find((spec) => sizesOf(spec) !== sizesOf(first));
  return other === undefined
    ? first
    : `${first.name} and ${other.name} differ in sizes; give each its own tandem.sh/compat`;
}

const sizesOf = ({ parallelism }: WorkloadSpec): string =>
  JSON.stringify([parallelism.tp, parallelism.dp, parallelism.pp]);

/** No old pod is left that its controller may make again: then what no pod reads, no pod will. */
function isRolledOut({ workload }: Contract): boolean {
  const status = isObject(workload["status"]) ? workload["status"] : {};
  const { generation } = workload.metadata;
  return (
    generation !== undefined &&
    status["observedGeneration"] === generation &&
    (status["updatedReplicas"] ?? 0) === (status["replicas"] ?? 0)
  );
}

/** ConfigMaps of the cell that nothing asks for or reads, once every workload of it is rolled out. */
function leftovers(cell: readonly Contract[], facts: SizesFacts): readonly Action[] {
  const [first] = cell;
  if (first === undefined || facts.unclear.has(first.spec.namespace) || !cell.every(isRolledOut)) return [];
  const { namespace, ...labels } = cellOf(first.spec);
  const candidates = facts.configMaps.filter(
    ({ metadata }) =>
      metadata.namespace === namespace &&
      isSizesName(labels, metadata.name ?? "") &&
      metadata.labels?.[LABEL.model] === labels.model &&
      metadata.labels[LABEL.group] === labels.group &&
      metadata.labels[LABEL.cell] === labels.cell,
  );
  if (candidates.length === 0) return [];
  const used = namesUsed(cell, namespace, facts);
  return candidates.filter(({ metadata }) => !used.has(metadata.name ?? "")).map((one) => discard(one, cell));
}

/** A template may hold a name that its workload does not ask for: its pods would wait for it all the same. */
function namesUsed(cell: readonly Contract[], namespace: string, { pods, workloads }: SizesFacts): ReadonlySet<string> {
  const inside = ({ metadata }: KubeObject): boolean => metadata.namespace === namespace;
  const wanted = cell.map((contract) => ({ ...contract, spec: asOffered(contract.spec) }));
  return new Set([
    ...wanted.filter(({ spec }) => needsSizes(spec)).map(nameOf),
    ...workloads.filter(inside).flatMap(namesReadBy),
    ...pods.filter(inside).flatMap(namesRead),
  ]);
}

const discard = (configMap: KubeObject, owners: readonly Contract[]): Action => ({
  do: "remove",
  key: `sizes/${keyOf(configMap)}/remove`,
  verdict: changed("SizesRemoved", `ConfigMap ${keyOf(configMap)}: no workload names it and no pod reads it`, {
    subject: keyOf(configMap),
  }),
  about: about(owners),
  kind: "ConfigMap",
  ref: refOf(configMap),
  uid: configMap.metadata.uid,
});

function dataOf(configMap: KubeObject | undefined): Record<string, unknown> | undefined {
  const data = configMap?.["data"];
  return isObject(data) ? data : undefined;
}

const about = (owners: readonly Contract[]): readonly KubeObject[] => owners.map(({ workload }) => workload);

const told = (name: string, owners: readonly Contract[], verdict: Verdict): Action => ({
  do: "tell",
  key: `sizes/${owners[0]?.spec.namespace ?? ""}/${name}/${verdict.reason}`,
  verdict,
  about: about(owners),
});

function fixed(name: string, owners: readonly Contract[]): Action {
  const message = `sizes differ from those in ConfigMap ${name}; set a new tandem.sh/compat on both roles`;
  return told(name, owners, warned("SizesFixed", message, { subject: name }));
}

const publish = (object: KubeObject, owners: readonly Contract[]): Action => ({
  do: "apply",
  key: `sizes/${keyOf(object)}`,
  verdict: changed("SizesPublished", `ConfigMap ${keyOf(object)}: sizes of both roles`, { subject: keyOf(object) }),
  about: about(owners),
  object,
});
