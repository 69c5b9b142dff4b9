/**
 * Which workloads of a role carry its need: several Deployments on other devices are variants. What stands is added to where
 * work is cheapest, and taken from where it is dearest, so that more need never takes an instance from anyone; all of it is
 * arranged anew only when that saves much for long (reference autoscaling.md 5.4). Speed counts, not only price: others take
 * all variants for equally fast.
 */
export interface Variant {
  readonly id: string;
  readonly least: number;
  readonly most: number;
  /** Instances that come together. */
  readonly step: number;
  /** Of an instance. */
  readonly cost: number;
  /** What an instance does against the reference one: 2 does twice as much. */
  readonly speed: number;
  readonly startupMs: number;
  /** No node for more of it: others first. */
  readonly isExhausted: boolean;
  readonly current: number;
  /** Of those, what serves: what is only asked for relieves no other variant. */
  readonly serving: number;
}

export interface Required {
  /** Instances of the reference workload. */
  readonly work: number;
  /** The fastest to start comes before the cheapest. */
  readonly inPanic: boolean;
}

export type Allocation = ReadonlyMap<string, number>;

/** How many of each, from what stands now; never beyond their bounds. */
export function allocate(variants: readonly Variant[], required: Required): Allocation {
  return shrink(variants, grow(variants, standingOf(variants), required), required.work);
}

const standingOf = (variants: readonly Variant[]): Allocation =>
  new Map(variants.map(({ id, least, most, current }) => [id, Math.min(most, Math.max(least, current))]));

/** On the way to another arrangement: what is to come comes at once, and what is to go stays until that serves. */
export function towards(variants: readonly Variant[], goal: Allocation, work: number): Allocation {
  const standing = standingOf(variants);
  const bound = variants.map((variant) => ({ ...variant, least: goal.get(variant.id) ?? variant.least }));
  const both = bound.map(({ id, least }) => [id, Math.max(least, standing.get(id) ?? 0)] as const);
  return shrink(bound, new Map(both), work);
}

/** As if nothing stood: the cheapest way to carry the work. */
export function arrangement(variants: readonly Variant[], work: number): Allocation {
  const floor = new Map(variants.map(({ id, least }) => [id, least]));
  const served = variants.map((variant) => ({ ...variant, serving: Infinity }));
  return shrink(served, grow(variants, floor, { work, inPanic: false }), work);
}

export const costOf = (variants: readonly Variant[], of: Allocation): number =>
  variants.reduce((sum, { id, cost }) => sum + cost * (of.get(id) ?? 0), 0);

/** Arranging anew is worth it where it saves this share for so long. */
const SAVING = 0.15;
const SAVING_MS = 600_000;

/** Since when another arrangement would have been so much cheaper. */
export class ArrangementMemory {
  #since: number | undefined;

  /** What stands with more or fewer, or after ten minutes the cheaper arrangement. */
  choose(at: number, variants: readonly Variant[], required: Required): Allocation {
    const kept = allocate(variants, required);
    const better = arrangement(variants, required.work);
    if (required.inPanic || costOf(variants, better) > (1 - SAVING) * costOf(variants, kept)) {
      this.#since = undefined;
      return kept;
    }
    this.#since ??= at;
    return at - this.#since >= SAVING_MS ? towards(variants, better, required.work) : kept;
  }
}

/** Rounding of sums of rates. */
export const EPSILON = 1e-9;

function grow(variants: readonly Variant[], from: Allocation, required: Required): Allocation {
  const of = new Map(from);
  for (const { id, most, step } of [...variants].sort(order(required)))
    for (
      let count = of.get(id) ?? 0;
      missing(variants, of, required.work) > EPSILON && count < most;
      count = of.get(id) ?? 0
    )
      of.set(id, Math.min(most, count + step));
  return of;
}

/** From the dearest on, as long as what remains carries the work: of the others, what serves. */
function shrink(variants: readonly Variant[], from: Allocation, work: number): Allocation {
  const of = new Map(from);
  for (const { id, least, step, speed } of [...variants].sort(order({ work, inPanic: false })).reverse()) {
    const others = variants.filter((variant) => variant.id !== id);
    const served = new Map(others.map((other) => [other.id, Math.min(other.serving, of.get(other.id) ?? 0)]));
    const left = missing(others, served, work);
    for (let count = of.get(id) ?? 0; count - step >= least && left <= (count - step) * speed + EPSILON; count -= step)
      of.set(id, count - step);
  }
  return of;
}

/** Negative where there is more than enough. */
const missing = (variants: readonly Variant[], of: Allocation, work: number): number =>
  work - variants.reduce((sum, { id, speed }) => sum + speed * (of.get(id) ?? 0), 0);

/** Those without nodes last; then the price of work, or in panic the time to start; then by name, so that it never changes by chance. */
const order =
  ({ inPanic }: Required) =>
  (a: Variant, b: Variant): number =>
    Number(a.isExhausted) - Number(b.isExhausted) ||
    (inPanic ? a.startupMs - b.startupMs : 0) ||
    a.cost / a.speed - b.cost / b.speed ||
    (a.id < b.id ? -1 : 1);
