/**
 * What one role must know of the other: the immutable ConfigMap of a cell and `tandem.sh/compat` value, with the whole
 * KV transfer configuration of each role. Pods read it when they start, and wait for it while it is not there.
 *
 * Immutable, because a container that restarts in the middle of a rollout reads whatever stands there then: new sizes
 * need a new `compat`, and so a new ConfigMap beside the old one.
 */
import { isObject, keyOf, type KubeObject } from "../kinds/kube.ts";
import { changed, skipped, warned, type Verdict } from "../kinds/verdict.ts";
import { connectorProfile } from "../profiles/connectors.ts";
import { transferConfigs, type TransferConfigs } from "../profiles/transfer.ts";
import { cellOf, sizesName } from "../workload/cell.ts";
import { asOffered } from "../workload/offered.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Action } from "./action.ts";
import type { Contract } from "./contracts.ts";
import { isApplied, ownedMeta, sealed } from "./owned.ts";

export function sizesActions(
  cells: readonly (readonly Contract[])[],
  configMaps: readonly KubeObject[],
): readonly Action[] {
  const stored = new Map(configMaps.map((configMap) => [keyOf(configMap), configMap]));
  return cells.flatMap((cell) =>
    [...Map.groupBy(cell, ({ spec }) => spec.compat).values()].flatMap((pair) => pairActions(pair, stored)),
  );
}

const needsSizes = ({ mode, connector, engine, role, skip }: WorkloadSpec): boolean =>
  mode === "manage" &&
  role !== "both" &&
  !skip.includes("kv") &&
  connectorProfile(connector, engine)?.needsBothSizes === true;

/** The workloads of one cell that share a `compat` value. */
function pairActions(given: readonly Contract[], stored: ReadonlyMap<string, KubeObject>): readonly Action[] {
  const pair = given.map((contract) => ({ ...contract, spec: asOffered(contract.spec) }));
  const [first, ...rest] = pair.filter(({ spec }) => needsSizes(spec));
  if (first === undefined) return [];
  const waiting = [first, ...rest] as const;
  const name = sizesName(cellOf(first.spec), first.spec.compat);
  const found = stored.get(`${first.spec.namespace}/${name}`);
  const configs = configsOf(pair.map(({ spec }) => spec));
  if (typeof configs === "string")
    // Scripts that are only offered a connector wait for nothing.
    return waiting.every(({ spec }) => spec.offered !== undefined)
      ? []
      : [told(name, waiting, skipped("SizesWaiting", configs, { subject: name }))];
  const data = dataOf(found) ?? { prefill: configs.prefill, decode: configs.decode };
  const object = sealed({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: ownedMeta(name, waiting),
    immutable: true,
    data,
  });
  const differs = data["prefill"] !== configs.prefill || data["decode"] !== configs.decode;
  return [...(isApplied(found, object) ? [] : [publish(object, waiting)]), ...(differs ? [fixed(name, waiting)] : [])];
}

/** Both configurations, or what is missing for them, in words. */
function configsOf(specs: readonly WorkloadSpec[]): TransferConfigs | string {
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

const sizesOf = ({ parallelism, kvPort, connectorModule }: WorkloadSpec): string =>
  JSON.stringify([parallelism.tp, parallelism.dp, parallelism.pp, kvPort, connectorModule]);

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
