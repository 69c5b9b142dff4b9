/**
 * Which workloads of a role carry its need: several Deployments on other devices are variants. Cheapest first, as the need
 * grows, so that more need never takes an instance from anyone; speed and memory of each count, not only its price.
 */
export interface Variant {
  readonly id: string;
  readonly least: number;
  readonly most: number;
  /** Instances that come together. */
  readonly step: number;
  readonly cost: number;
  /** Work and memory of an instance against the reference one: 2 does twice as much. */
  readonly speed: number;
  readonly memory: number;
  readonly startupMs: number;
  /** No node for more of it: others first. */
  readonly isExhausted: boolean;
  /** What stands; so much is kept where the need is the same, so that nothing moves for a small saving. */
  readonly current: number;
}

export interface Required {
  /** Instances of the reference workload. */
  readonly work: number;
  readonly memory: number;
  /** The fastest to start comes before the cheapest. */
  readonly inPanic: boolean;
}

export type Allocation = ReadonlyMap<string, number>;

/** How many of each; never beyond their bounds. `short`: instances of the reference workload that no bound leaves room for. */
export function allocate(
  variants: readonly Variant[],
  required: Required,
): { readonly of: Allocation; readonly short: number } {
  const of = new Map(variants.map(({ id, least }) => [id, least]));
  for (const variant of [...variants].sort(order(required)))
    while (missing(variants, of, required) > EPSILON && (of.get(variant.id) ?? 0) < variant.most)
      of.set(variant.id, Math.min(variant.most, stepUp(of.get(variant.id) ?? 0, variant.step)));
  return { of, short: Math.max(0, missing(variants, of, required)) };
}

/** Rounding of sums of rates. */
const EPSILON = 1e-9;

const stepUp = (count: number, step: number): number => (Math.floor(count / step) + 1) * step;

function missing(variants: readonly Variant[], of: Allocation, { work, memory }: Required): number {
  const sum = (each: (variant: Variant) => number): number =>
    variants.reduce((total, variant) => total + each(variant) * (of.get(variant.id) ?? 0), 0);
  return Math.max(work - sum(({ speed }) => speed), memory - sum((variant) => variant.memory));
}

/** Those without nodes last; then the price of work, or in panic the time to start; then by name, so that it never changes by chance. */
const order =
  ({ inPanic }: Required) =>
  (a: Variant, b: Variant): number =>
    Number(a.isExhausted) - Number(b.isExhausted) ||
    (inPanic ? a.startupMs - b.startupMs : 0) ||
    a.cost / a.speed - b.cost / b.speed ||
    (a.id < b.id ? -1 : 1);
