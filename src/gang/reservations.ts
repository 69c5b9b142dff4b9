/**
 * Who holds room on which node without being bound to it: pods that were let go for a node, and pods whose binding is
 * under way.
 *
 * The first stand in the API alone: lifting a gate writes where the pod is to go (`waiting.ts`), so that replicas agree
 * and a restart loses nothing. Gates and extender read them by the same function. The second are the extender's own
 * (`assume`), and end when the pod is seen bound. It never decides who may go where, and reads no clock.
 */
import { keyOf, type Pod } from "../kinds/kube.ts";
import { isBound, type Amounts, type Room } from "./devices.ts";
import { isMember, podCell } from "./members.ts";
import { after, type Rings } from "./rings.ts";
import { isUnschedulable, liftedTo } from "./waiting.ts";

/**
 * A reservation ends by being bound, deleted or given back, which the controller does `gang.bindSeconds` after lifting,
 * once the scheduler has refused the pod. Where no controller runs, it lapses after twice that time: a lease of 15 s has
 * then passed on, and a pod is not both given back here and held there.
 */
const REFUSED = 2;
/**
 * A pod that its scheduler has not tried yet may stand far behind in the queue: 10 x 60 s is what kube-scheduler needs for
 * some 60,000 pods at 100 a second. After that nobody is going to try it.
 */
const UNTRIED = 10;

export interface ReservationTimes {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** `gang.bindSeconds`, in milliseconds. */
  readonly bindMs: number;
}

export interface Reservation {
  readonly node: string;
  /** When it lapses: milliseconds since the Unix epoch. */
  readonly until: number;
}

/** The room that a pod was let go for, whether or not it has lapsed; undefined for a pod that waits for none. */
export function reservationOf(pod: Pod, bindMs: number): Reservation | undefined {
  if (podCell(pod) === undefined || !isMember(pod)) return undefined;
  const { node, at } = liftedTo(pod) ?? { node: undefined, at: 0 };
  return node === undefined ? undefined : { node, until: at + bindMs * (isUnschedulable(pod) ? REFUSED : UNTRIED) };
}

/** The node on which the pod holds room now. */
export function reservedNode(pod: Pod, { now, bindMs }: ReservationTimes): string | undefined {
  const reservation = reservationOf(pod, bindMs);
  return reservation !== undefined && reservation.until > now ? reservation.node : undefined;
}

/** Room that a pod holds on a node. */
export interface Hold {
  readonly pod: Pod;
  readonly node: string;
  readonly demand: Amounts;
}

interface Reserved extends Hold {
  readonly until: number;
}

/** The incarnation of a pod: a successor of the same name is somebody else. */
export const podId = (pod: Pod): string => pod.metadata.uid ?? keyOf(pod);

const NONE: ReadonlySet<Hold> = new Set();

/** All holds, kept pod by pod as snapshots change: 50,000 pods are not looked at again for one that came. */
export class Holds {
  readonly #bindMs: number;
  readonly #demand: (pod: Pod) => Amounts;
  readonly #reserved = new Map<string, Reserved>();
  readonly #assumed = new Map<string, Hold>();
  readonly #byNode = new Map<string, Set<Hold>>();
  #version = 0;

  constructor(bindMs: number, demand: (pod: Pod) => Amounts) {
    this.#bindMs = bindMs;
    this.#demand = demand;
  }

  /** Grows with every change, so that what was derived from the holds can be told to be old. */
  get version(): number {
    return this.#version;
  }

  /** Pods that hold room. */
  get size(): number {
    return new Set([...this.#reserved.keys(), ...this.#assumed.keys()]).size;
  }

  /** A pod of the snapshot that is new or has changed. Once it is seen bound, its node counts it as used. */
  come(pod: Pod): void {
    const id = podId(pod);
    if (isBound(pod)) this.release(id);
    const reservation = reservationOf(pod, this.#bindMs);
    if (reservation !== undefined) this.#put(this.#reserved, id, { ...reservation, pod, demand: this.#demand(pod) });
  }

  /** A pod that is gone, or about to come again as it is now. */
  leave(pod: Pod): void {
    this.#drop(this.#reserved, podId(pod));
  }

  /** Reservations that have lapsed end. */
  expire(now: number): void {
    for (const [id, { until }] of this.#reserved) if (until <= now) this.#drop(this.#reserved, id);
  }

  /** The pod is about to be bound to the node: it holds room there, and nowhere else, until it is released. */
  assume(pod: Pod, node: string): void {
    this.#put(this.#assumed, podId(pod), { pod, node, demand: this.#demand(pod) });
  }

  /** Ends an assumption; without one, nothing happens. */
  release(id: string): void {
    this.#drop(this.#assumed, id);
  }

  assumed(id: string): Hold | undefined {
    return this.#assumed.get(id);
  }

  /** Where the pod holds room. */
  nodeOf(id: string): string | undefined {
    return (this.#assumed.get(id) ?? this.#reserved.get(id))?.node;
  }

  /** Every hold. A pod that is being bound elsewhere than it was let go for has two: the binding may fail. */
  *all(): Iterable<Hold> {
    yield* this.#assumed.values();
    for (const hold of this.#reserved.values()) if (!this.#isDouble(hold)) yield hold;
  }

  /** Whether anybody holds room on the node: most nodes are asked no more. */
  isHeld(node: string): boolean {
    return this.#byNode.size > 0 && this.#byNode.has(node);
  }

  /** Holds of others on a node. */
  on(node: string, except?: string): readonly Hold[] {
    const found = this.#byNode.get(node) ?? NONE;
    return found.size === 0 ? [] : [...found].filter((hold) => this.#counts(hold, except));
  }

  #counts(hold: Hold, except: string | undefined): boolean {
    const id = podId(hold.pod);
    return id !== except && !this.#isDouble(hold);
  }

  /** A reservation on the node on which its pod is being bound. */
  #isDouble(hold: Hold): boolean {
    const assumed = this.#assumed.get(podId(hold.pod));
    return assumed !== undefined && assumed !== hold && assumed.node === hold.node;
  }

  /** What is free beside what others than the pod hold. */
  beside(below: Room, except?: string): Room {
    const taken = (node: string, resource: string): number[] =>
      this.on(node, except).flatMap(({ demand }) => demand.get(resource) ?? []);
    return {
      free: (node, resource) =>
        taken(node, resource).reduce((left, amount) => left - amount, below.free(node, resource)),
      allocatable: (node, resource) => below.allocatable(node, resource),
      ringed: below.ringed === true,
      rings: (node, resource): Rings | undefined => {
        const rings = below.rings?.(node, resource);
        return rings === undefined ? undefined : after(rings, taken(node, resource));
      },
    };
  }

  #put<H extends Hold>(holds: Map<string, H>, id: string, hold: H): void {
    this.#drop(holds, id);
    holds.set(id, hold);
    const there = this.#byNode.get(hold.node) ?? new Set();
    this.#byNode.set(hold.node, there.add(hold));
    this.#version += 1;
  }

  #drop(holds: Map<string, Hold>, id: string): void {
    const hold = holds.get(id);
    if (hold === undefined) return;
    holds.delete(id);
    const there = this.#byNode.get(hold.node);
    there?.delete(hold);
    if (there?.size === 0) this.#byNode.delete(hold.node);
    this.#version += 1;
  }
}
