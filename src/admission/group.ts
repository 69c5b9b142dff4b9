/**
 * Checks of one workload against the others of its group. They warn, because no group of two Deployments could be
 * upgraded if they denied; `admission.strict` makes them deny.
 */
import type { KubeObject } from "../kinds/kube.ts";
import { denied, warned, type Verdict } from "../kinds/verdict.ts";
import { compatible } from "../profiles/connectors.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { compatibilityOf } from "../workload/endpoint.ts";
import { KEYS, type KeyName } from "../workload/keys.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { templatesOf } from "../workload/template.ts";
import { byServedName, isOther, ofService, peerSpec } from "./peers.ts";
import { checkScaling } from "./scaling.ts";
import { specOf, type Planning } from "./stages.ts";

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

/** The other workloads of the group, decoded without what Tandem injected. */
export function partners({ spec, snapshot, settings, namespace }: Planning): readonly WorkloadSpec[] {
  const devices = configuredDevices(settings);
  return ofService(snapshot, spec.namespace, spec.model)
    .filter((workload) => isOther(workload, spec))
    .map((workload) => peerSpec(workload, devices, namespace))
    .filter((other) => other !== undefined)
    .filter((other) => other.model === spec.model && other.group === spec.group && other.mode !== "observe");
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
  // A script that loads no connector is told so already, and a pair without any as KvNotHandedOver.
  const isTold =
    [spec, other].some(({ offered }) => offered !== undefined) ||
    [spec, other].every(({ connector }) => connector === "none");
  const reason = isTold ? undefined : compatible(compatibilityOf(prefill), compatibilityOf(decode));
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

/** Warnings, or denials under `admission.strict`. `object` without what Tandem injected. */
export function checkGroup(
  object: KubeObject,
  planning: Planning,
  others: readonly WorkloadSpec[],
): readonly Verdict[] {
  const { spec, settings } = planning;
  const make = settings.strict ? denied : warned;
  // Workers of a LeaderWorkerSet transfer as their leader does, or not at all.
  const parts = templatesOf(object).map((found, index) => (index === 0 ? spec : specOf(object, found, planning)));
  const told = others
    .flatMap((other) => [...disagreements(spec, other), ...new Set(parts.flatMap((part) => mismatches(part, other)))])
    .map((message) => make("GroupDisagrees", message));
  return [
    ...told,
    ...partnerMissing(planning, others),
    ...claims(planning).map((message) => make("ServedModelClaimed", message)),
    ...checkScaling(object, planning),
  ];
}

const PARTNER = { prefill: "decode", decode: "prefill" } as const;

/**
 * A warning always, and only where the snapshot holds everything that is to come, as the files given to `tandem admit`
 * and the controller's store do: of any pair one half is created first.
 */
function partnerMissing(planning: Planning, others: readonly WorkloadSpec[]): Verdict[] {
  const { spec, settled } = planning;
  if (spec.role === "both" || settled !== true) return [];
  const partner = PARTNER[spec.role];
  if (others.some(({ role, compat }) => role === partner && compat === spec.compat)) return [];
  const of = spec.compat === "" ? "" : ` with ${KEYS.compat.key} "${spec.compat}"`;
  return [warned("PartnerMissing", `group ${spec.group} has no ${partner} workload${of}`)];
}

/** Names that another service answers to as well: who gets such a request is for the operator to say, by a policy. */
function claims({ spec, snapshot, settings }: Planning): string[] {
  if (spec.served.length === 0) return [];
  const served = byServedName(snapshot, configuredDevices(settings));
  const isStranger = (other: WorkloadSpec): boolean => other.model !== spec.model || other.namespace !== spec.namespace;
  return spec.served
    .filter((name) => served.get(name)?.some(isStranger) === true)
    .map((name) => `model name "${name}" is served by another service, too`);
}
