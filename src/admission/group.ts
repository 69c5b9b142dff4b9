/**
 * Checks of one workload against the others of its group. They warn, because no group of two Deployments could be
 * upgraded if they denied; `admission.strict` makes them deny.
 */
import { annotationOf, type Workload } from "../kinds/kube.ts";
import { STATUS } from "../kinds/names.ts";
import { denied, warned, type Verdict } from "../kinds/verdict.ts";
import { compatible } from "../profiles/connectors.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { workloadSpec } from "../workload/decode.ts";
import { compatibilityOf } from "../workload/endpoint.ts";
import { KEYS, type KeyName } from "../workload/keys.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { recordOf, unplan } from "./record.ts";
import type { Planning } from "./stages.ts";

/** A key that the members of a cell or group must agree on, as their specs hold it. */
type Shared = readonly [key: KeyName, value: (spec: WorkloadSpec) => unknown];

const SHARED: readonly Shared[] = [
  ["scheduler", (spec) => spec.scheduler],
  ["queue", (spec) => spec.queue],
  ["recovery", (spec) => spec.recovery],
  ["disruption", (spec) => spec.disruption],
];
const SHARED_BY_CELL: readonly Shared[] = [
  ["gang", (spec) => JSON.stringify(spec.gang)],
  ["topology", (spec) => spec.topology],
  ["topologyTier", (spec) => spec.topologyTier],
];

const isOther = (workload: Workload, spec: WorkloadSpec): boolean =>
  workload.kind !== spec.kind ||
  workload.metadata.name !== spec.name ||
  (workload.metadata.namespace ?? "default") !== spec.namespace;

/** The other workloads of the group, decoded without what Tandem injected. */
function partners({ spec, snapshot, settings, namespace }: Planning): readonly WorkloadSpec[] {
  const context = { devices: configuredDevices(settings), namespace };
  return snapshot.workloads
    .filter((workload) => (workload.metadata.namespace ?? "default") === spec.namespace && isOther(workload, spec))
    .map((workload) => workloadSpec(clean(workload), context).spec)
    .filter((other) => other !== undefined)
    .filter((other) => other.model === spec.model && other.group === spec.group && other.mode !== "observe");
}

function clean(workload: Workload): Workload {
  const record = annotationOf(workload, STATUS.plan) === undefined ? undefined : recordOf(workload);
  return record === undefined ? workload : (unplan(workload, record) as Workload);
}

const disagreements = (spec: WorkloadSpec, other: WorkloadSpec): string[] =>
  [...SHARED, ...(spec.cell === other.cell ? SHARED_BY_CELL : [])]
    .filter(([, value]) => value(spec) !== value(other))
    .map(([key]) => `${KEYS[key].key} differs from ${other.kind} ${other.name}`);

const isPair = (spec: WorkloadSpec, other: WorkloadSpec): boolean =>
  [spec.role, other.role].sort().join() === "decode,prefill" && spec.compat === other.compat;

/** Facts that the halves of a pair must share: what the connector wants, KV block sizes, model names. */
function mismatches(spec: WorkloadSpec, other: WorkloadSpec): string[] {
  if (!isPair(spec, other)) return [];
  const [prefill, decode] = spec.role === "prefill" ? [spec, other] : [other, spec];
  const reason = compatible(compatibilityOf(prefill), compatibilityOf(decode));
  return [
    ...(reason === undefined ? [] : [`${reason} (${other.kind} ${other.name})`]),
    ...(sameWhereKnown(spec.blockSize, other.blockSize)
      ? []
      : [`KV block size differs from ${other.kind} ${other.name}`]),
    ...(sharesModel(spec, other) ? [] : [`no model name is shared with ${other.kind} ${other.name}`]),
  ];
}

const sameWhereKnown = (a: number | undefined, b: number | undefined): boolean =>
  a === undefined || b === undefined || a === b;

const sharesModel = (spec: WorkloadSpec, other: WorkloadSpec): boolean =>
  spec.served.length === 0 || other.served.length === 0 || spec.served.some((name) => other.served.includes(name));

/** Warnings, or denials under `admission.strict`. */
export function checkGroup(planning: Planning): readonly Verdict[] {
  const make = planning.settings.strict ? denied : warned;
  return partners(planning)
    .flatMap((other) => [...disagreements(planning.spec, other), ...mismatches(planning.spec, other)])
    .map((message) => make("GroupDisagrees", message));
}
