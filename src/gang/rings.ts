/**
 * Rings within a node: devices whose links end at the ring, so that a pod which fits one gets devices of one only.
 *
 * Eight devices free in two rings of four may be three here and one there: a count alone would place a pod of four that
 * the kubelet then refuses. Known only where a device profile says how its product is built (`rules[].ring`, by node
 * label); which devices a bound pod holds tells the annotation that the device plugin leaves on it (`allocated`). A pod
 * without one is taken to hold what a tight fit would give it.
 */
import type { DeviceProfile } from "../config/devices.ts";
import { annotationOf, labelOf, type Node, type Pod } from "../kinds/kube.ts";

/** Free devices of each ring. */
export interface Rings {
  readonly size: number;
  readonly free: readonly number[];
}

type CountRule = DeviceProfile["rules"][number];

const NONE: ReadonlySet<Pod> = new Set();

/** Rings of all nodes that have any. */
export class RingBook {
  /** Profiles of products with rings, by resource. */
  readonly #profiles: ReadonlyMap<string, DeviceProfile>;
  readonly #rules = new Map<string, ReadonlyMap<string, CountRule>>();
  readonly #pods = new Map<string, Set<Pod>>();

  constructor(profiles: readonly DeviceProfile[]) {
    const ringed = profiles.filter(({ rules }) => rules.some(({ ring }) => ring > 0));
    this.#profiles = new Map(ringed.map((profile) => [profile.resource, profile]));
  }

  /** False where no node has rings: then nobody need ask. */
  get any(): boolean {
    return this.#rules.size > 0;
  }

  node(name: string, node: Node | undefined): void {
    const rules =
      node === undefined ? [] : [...this.#profiles].flatMap(([resource, { rules }]) => ruleOf(resource, rules, node));
    if (rules.length === 0) this.#rules.delete(name);
    else this.#rules.set(name, new Map(rules));
  }

  pod(pod: Pod, demand: ReadonlyMap<string, number>, sign: 1 | -1): void {
    if (![...this.#profiles.keys()].some((resource) => (demand.get(resource) ?? 0) > 0)) return;
    const node = pod.spec.nodeName ?? "";
    const pods = this.#pods.get(node) ?? new Set();
    this.#pods.set(node, pods);
    if (sign === 1) pods.add(pod);
    else pods.delete(pod);
  }

  /** The rings of a resource on a node of which `free` devices are free; undefined where it has none. */
  of(
    node: string,
    resource: string,
    { free, demand, without = NONE }: { free: number; demand: (pod: Pod) => number; without?: ReadonlySet<Pod> },
  ): Rings | undefined {
    const rule = this.#rules.get(node)?.get(resource);
    if (rule === undefined) return undefined;
    const rings = Array.from({ length: Math.ceil(rule.perNode / rule.ring) }, () => rule.ring);
    const pods = [...(this.#pods.get(node) ?? NONE).difference(without)].map((pod) => ({
      pod,
      devices: this.#told(pod, resource),
    }));
    for (const device of pods.flatMap(({ devices }) => devices ?? [])) hold(rings, Math.floor(device / rule.ring));
    const untold = pods.filter(({ devices }) => devices === undefined).map(({ pod }) => demand(pod));
    for (const amount of untold.sort((a, b) => b - a)) fill(rings, rule.ring, amount);
    // A device out of order is nobody's: it is taken to lie where it hurts most.
    for (let sum = total(rings); sum > Math.max(0, free); sum--) hold(rings, freest(rings));
    return { size: rule.ring, free: rings };
  }

  #told(pod: Pod, resource: string): readonly number[] | undefined {
    return devicesOf(pod, this.#profiles.get(resource)?.allocated ?? []);
  }
}

function ruleOf(resource: string, rules: readonly CountRule[], node: Node): [string, CountRule][] {
  const found = rules.find(({ label, value, ring }) => ring > 0 && labelOf(node, label) === value);
  return found === undefined ? [] : [[resource, found]];
}

/** As `Ascend910-0,Ascend910-3`: the numbers at the ends. */
function devicesOf(pod: Pod, annotations: readonly string[]): readonly number[] | undefined {
  const told = annotations.map((key) => annotationOf(pod, key)).find((text) => text !== undefined && text !== "");
  if (told === undefined) return undefined;
  const numbers = told.split(",").map((name) => Number(/-(\d{1,4})\s*$/.exec(name)?.[1] ?? NaN));
  return numbers.every(Number.isInteger) ? numbers : undefined;
}

const total = (rings: readonly number[]): number => rings.reduce((sum, free) => sum + free, 0);
const freest = (rings: readonly number[]): number => rings.indexOf(Math.max(...rings));

function hold(rings: number[], ring: number): void {
  const free = rings[ring];
  if (free !== undefined && free > 0) rings[ring] = free - 1;
}

/** Takes devices as a tight fit would: of the fullest ring that has them all, else whole rings. */
function fill(rings: number[], size: number, amount: number): void {
  const tightest = rings
    .map((free, ring) => ({ free, ring }))
    .filter(({ free }) => free >= amount)
    .sort((a, b) => a.free - b.free)[0];
  if (amount <= size && tightest !== undefined) rings[tightest.ring] = tightest.free - amount;
  else for (let left = amount; left > 0 && total(rings) > 0; left--) hold(rings, freest(rings));
}

/** The rings after these amounts were taken, one after another. */
export function after({ size, free }: Rings, amounts: readonly number[]): Rings {
  const rings = [...free];
  for (const amount of amounts) fill(rings, size, amount);
  return { size, free: rings };
}

/** How many pods of so many devices the rings have room for: each within one ring, or over whole ones. */
export function ringSlots({ size, free }: Rings, amount: number): number {
  if (amount <= size) return free.reduce((sum, ring) => sum + Math.floor(ring / amount), 0);
  const whole = free.filter((ring) => ring === size).length;
  return Math.floor(whole / Math.ceil(amount / size));
}
