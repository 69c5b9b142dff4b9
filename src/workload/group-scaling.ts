/** What a group's workloads say of the group as a whole, as one value; where they differ, the first by name holds. */
import { AUTOSCALING } from "../kinds/names.ts";
import { warned, type Verdict } from "../kinds/verdict.ts";
import type { Role } from "../kinds/endpoint.ts";
import { GROUP_SCALING, type GroupScaling, type ScalingSpec } from "./scaling.ts";

export interface ScaledWorkload {
  /** Kind and name, as `Deployment decode`; by it they are ordered. */
  readonly name: string;
  readonly role: Role;
  readonly scaling: ScalingSpec;
}

export interface DecodedGroup {
  readonly scaling: GroupScaling;
  /** Keys on which workloads differ, each with both of them. */
  readonly verdicts: readonly Verdict[];
}

const KEY_OF = {
  ttftSloMs: AUTOSCALING.ttftSlo,
  tpotSloMs: AUTOSCALING.tpotSlo,
  objective: AUTOSCALING.objective,
  variants: AUTOSCALING.variants,
  maxAccelerators: AUTOSCALING.maxAccelerators,
  prefillPerDecode: AUTOSCALING.prefillPerDecode,
  idleAfterMs: AUTOSCALING.idleAfter,
} as const satisfies Readonly<Record<keyof GroupScaling, string>>;

const FIELDS = Object.keys(KEY_OF) as (keyof GroupScaling)[];

/** Decodes the group; a workload wins over its Namespace, that over the defaults. */
export function groupScaling(workloads: readonly ScaledWorkload[]): DecodedGroup {
  const ordered = workloads.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const backwards = ordered.toReversed();
  const said = [...backwards.map((one) => one.scaling.groupDefaults), ...backwards.map((one) => one.scaling.group)];
  const scaling = said.reduce<GroupScaling>((all, one) => ({ ...all, ...one }), GROUP_SCALING);
  const verdicts = [...FIELDS.flatMap((field) => differing(field, ordered)), ...halfZero(ordered)];
  return { scaling, verdicts };
}

/** Of each value that is not the first one's, the first that gives it. */
function differing(field: keyof GroupScaling, ordered: readonly ScaledWorkload[]): readonly Verdict[] {
  const said = ordered.filter(({ scaling }) => scaling.group[field] !== undefined);
  const [first] = said;
  if (first === undefined) return [];
  const textOf = ({ scaling }: ScaledWorkload): string => JSON.stringify(scaling.group[field]);
  const other = said.find((one) => textOf(one) !== textOf(first));
  if (other === undefined) return [];
  const message = `${KEY_OF[field]} differs between ${first.name} and ${other.name}; that of ${first.name} holds`;
  return [warned("GroupDisagrees", message, { subject: KEY_OF[field] })];
}

/** One role at zero serves nothing, and keeps the other's devices for nothing. */
function halfZero(ordered: readonly ScaledWorkload[]): readonly Verdict[] {
  const minima = (["prefill", "decode"] as const).map((role) => {
    const those = ordered.filter((one) => one.role === role && one.scaling.mode !== "off");
    const held = those.find(({ scaling }) => scaling.minReplicas > 0);
    return { role, first: those[0], held };
  });
  const zero = minima.find(({ first, held }) => first !== undefined && held === undefined)?.first;
  const held = minima.find((one) => one.held !== undefined)?.held;
  if (zero === undefined || held === undefined) return [];
  const message = `${AUTOSCALING.minReplicas} is 0 on ${zero.name}, but ${held.scaling.minReplicas} on ${held.name}: only both go to zero`;
  return [warned("GroupDisagrees", message, { subject: AUTOSCALING.minReplicas })];
}
