/**
 * What is free on each node: allocatable minus the requests of the pods bound to it.
 *
 * Counted as kube-scheduler counts (its NodeInfo): every bound pod that has not ended, terminating ones too, since their
 * devices are held until they are gone.
 */
import type { Container, Namespace, Node, Pod, PodSpec, ResourceRequirements } from "../kinds/kube.ts";
import { replaced } from "./change.ts";
import { Neighbours } from "./neighbours.ts";
import { amountOf } from "./quantity.ts";
import { after, ringSlots, RingBook, type Rings } from "./rings.ts";
import { BUILT_IN, type DeviceProfile } from "../profiles/devices.ts";

/** Amounts by resource name, in the whole units of `amountOf`. */
export type Amounts = ReadonlyMap<string, number>;

type Counts = Map<string, number>;

/** Answers what is free. */
export interface Room {
  /** Free amount of a resource on a node; 0 for what the node does not have. */
  free(node: string, resource: string): number;
  /** Allocatable amount, whoever holds it now. */
  allocatable(node: string, resource: string): number;
  /** The pods that stand, for what pods demand of one another; absent: nothing of the kind is judged. */
  readonly neighbours?: Neighbours | undefined;
  /** True where some node has rings, so that `rings` is worth asking. */
  readonly ringed?: boolean;
  /** Free devices by ring; undefined where the node has none. */
  rings?(node: string, resource: string): Rings | undefined;
  /** Pods placed on trial. */
  placed?(): Iterable<Placed>;
}

export interface Placed {
  readonly pod: Pod;
  readonly node: string;
}

/** An extended resource is named `vendor/device`; the bare names are Kubernetes' own (`cpu`, `hugepages-2Mi`, ...). */
export const isDevice = (resource: string): boolean => resource.includes("/");

export const hasEnded = (pod: Pod): boolean => pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";

export const isBound = (pod: Pod): boolean => (pod.spec.nodeName ?? "") !== "" && !hasEnded(pod);

/**
 * What a pod asks of its node: the larger of all containers together and the hungriest init container, where restartable
 * init containers (sidecars) run beside everything that starts after them; plus overhead; and one of `pods`. Requests
 * that are not given are the limits, as the API server fills them in.
 */
export function podDemand(spec: PodSpec): Amounts {
  const total: Counts = new Map();
  for (const container of spec.containers) add(total, requestsOf(container.resources));
  const sidecars: Counts = new Map();
  const peak: Counts = new Map();
  for (const container of spec.initContainers ?? []) {
    const requests = requestsOf(container.resources);
    if (isSidecar(container)) add(sidecars, requests);
    raise(peak, isSidecar(container) ? sidecars : sum(sidecars, requests));
  }
  add(total, sidecars);
  raise(total, peak);
  overrule(total, spec["resources"] as ResourceRequirements | undefined);
  add(total, amounts(spec["overhead"] as Record<string, string> | undefined));
  total.set("pods", 1);
  return total;
}

const isSidecar = (container: Container): boolean => container["restartPolicy"] === "Always";

const amounts = (quantities: Readonly<Record<string, string | number>> | undefined): Amounts =>
  new Map(Object.entries(quantities ?? {}).map(([resource, value]) => [resource, amountOf(resource, value)]));

const requestsOf = (resources: ResourceRequirements | undefined): Amounts =>
  amounts({ ...resources?.limits, ...resources?.requests });

/** Requests of the whole pod (Kubernetes 1.34) stand above the sum of its containers'. */
function overrule(total: Counts, resources: ResourceRequirements | undefined): void {
  for (const [resource, amount] of requestsOf(resources)) total.set(resource, amount);
}

function add(total: Counts, more: Amounts, sign: 1 | -1 = 1): void {
  for (const [resource, amount] of more) total.set(resource, (total.get(resource) ?? 0) + sign * amount);
}

function raise(total: Counts, floor: Amounts): void {
  for (const [resource, amount] of floor) total.set(resource, Math.max(total.get(resource) ?? 0, amount));
}

function sum(a: Amounts, b: Amounts): Amounts {
  const total = new Map(a);
  add(total, b);
  return total;
}

const NONE: readonly Namespace[] = [];

/**
 * Free devices of every node, kept from one snapshot to the next.
 *
 * One writer calls `update`. Lists of a snapshot keep their order, so after a change only the stretch between the first
 * and the last difference is counted anew: one pod bound among 100 000 costs a comparison of pointers, not 100 000 sums.
 */
export class DeviceLedger implements Room {
  #nodes: readonly Node[] = [];
  #pods: readonly Pod[] = [];
  readonly neighbours = new Neighbours();
  readonly #rings: RingBook;
  /** By resource, then by node: a question is mostly about one resource of all nodes. */
  readonly #stocks = new Map<string, Map<string, Stock>>();
  /** A pod object never changes; its demand is worked out once. */
  readonly #demands = new WeakMap<Pod, Amounts>();

  /** The profiles tell which products have rings. */
  constructor(profiles: readonly DeviceProfile[] = BUILT_IN) {
    this.#rings = new RingBook(profiles);
  }

  /**
   * Brings the ledger to these nodes and pods, and tells on which nodes anything changed. Namespaces are for terms of pod
   * affinity that select them by label.
   */
  update(nodes: readonly Node[], pods: readonly Pod[], namespaces: readonly Namespace[] = NONE): ReadonlySet<string> {
    const touched = new Set<string>();
    const [left, came]: [Node[], Node[]] = [[], []];
    const node = (name: string, allocatable: Amounts | undefined): void => {
      touched.add(name);
      for (const resource of this.#stocks.keys()) this.#stock(name, resource, (stock) => (stock.all = 0));
      for (const [resource, amount] of allocatable ?? []) this.#stock(name, resource, (stock) => (stock.all = amount));
    };
    const pod = (changed: Pod, sign: 1 | -1): void => {
      if (!isBound(changed)) return;
      touched.add(changed.spec.nodeName ?? "");
      this.#count(changed, sign);
      this.neighbours.pod(changed, sign);
      this.#rings.pod(changed, this.demand(changed), sign);
    };
    replaced(this.#nodes, nodes, {
      left: (one) => {
        left.push(one);
        this.#rings.node(one.metadata.name ?? "", undefined);
        node(one.metadata.name ?? "", undefined);
      },
      came: (one) => {
        came.push(one);
        this.#rings.node(one.metadata.name ?? "", one);
        node(one.metadata.name ?? "", amounts(one.status?.allocatable));
      },
    });
    this.neighbours.nodes(left, came);
    this.neighbours.namespaces(namespaces);
    replaced(this.#pods, pods, { left: (left) => pod(left, -1), came: (came) => pod(came, 1) });
    this.#nodes = nodes;
    this.#pods = pods;
    return touched;
  }

  demand(pod: Pod): Amounts {
    const known = this.#demands.get(pod) ?? podDemand(pod.spec);
    this.#demands.set(pod, known);
    return known;
  }

  free(node: string, resource: string): number {
    const stock = this.#stocks.get(resource)?.get(node);
    return stock === undefined ? 0 : stock.all - stock.used;
  }

  allocatable(node: string, resource: string): number {
    return this.#stocks.get(resource)?.get(node)?.all ?? 0;
  }

  /** One resource of all nodes that have it, or whose pods ask for it. */
  stocks(resource: string): ReadonlyMap<string, Readonly<Stock>> {
    return this.#stocks.get(resource) ?? NO_STOCKS;
  }

  get ringed(): boolean {
    return this.#rings.any;
  }

  rings(node: string, resource: string): Rings | undefined {
    const demand = (pod: Pod): number => this.demand(pod).get(resource) ?? 0;
    return this.#rings.of(node, resource, { free: this.free(node, resource), demand });
  }

  /** What would be free if these bound pods were gone. */
  without(pods: ReadonlySet<Pod>): Room {
    const freed = (node: string, resource: string): number =>
      [...pods].reduce((sum, pod) => sum + (pod.spec.nodeName === node ? (this.demand(pod).get(resource) ?? 0) : 0), 0);
    const free = (node: string, resource: string): number => this.free(node, resource) + freed(node, resource);
    return {
      free,
      allocatable: (node, resource) => this.allocatable(node, resource),
      ringed: this.ringed,
      rings: (node, resource) => {
        const demand = (pod: Pod): number => this.demand(pod).get(resource) ?? 0;
        return this.#rings.of(node, resource, { free: free(node, resource), demand, without: pods });
      },
    };
  }

  #count(pod: Pod, sign: 1 | -1): void {
    const node = pod.spec.nodeName ?? "";
    for (const [resource, amount] of this.demand(pod))
      this.#stock(node, resource, (stock) => (stock.used += sign * amount));
  }

  /** Of a node that is gone, and of which nobody holds anything, nothing is left. */
  #stock(node: string, resource: string, change: (stock: Stock) => void): void {
    const stocks = this.#stocks.get(resource) ?? new Map<string, Stock>();
    this.#stocks.set(resource, stocks);
    const stock = stocks.get(node) ?? { all: 0, used: 0 };
    change(stock);
    if (stock.all === 0 && stock.used === 0) stocks.delete(node);
    else stocks.set(node, stock);
  }
}

const NO_STOCKS: ReadonlyMap<string, Stock> = new Map();

/** Of one resource on one node. */
export interface Stock {
  /** Allocatable. */
  all: number;
  /** Asked for by the pods that are bound to it. */
  used: number;
}

/** Room with some pods placed on trial; dropping the trial takes nothing back from what lies below. */
export class Trial implements Room {
  readonly #below: Room;
  readonly #taken = new Map<string, Counts>();
  readonly #placed: Placed[] = [];
  /** What was taken of nodes with rings, piece by piece. */
  readonly #pieces = new Map<string, Amounts[]>();

  constructor(below: Room) {
    this.#below = below;
  }

  get neighbours(): Neighbours | undefined {
    return this.#below.neighbours;
  }

  get ringed(): boolean {
    return this.#below.ringed === true;
  }

  rings(node: string, resource: string): Rings | undefined {
    const below = this.#below.rings?.(node, resource);
    const pieces = this.#pieces.get(node) ?? [];
    return below === undefined
      ? undefined
      : after(
          below,
          pieces.flatMap((demand) => demand.get(resource) ?? []),
        );
  }

  *placed(): Iterable<Placed> {
    yield* this.#below.placed?.() ?? [];
    yield* this.#placed;
  }

  free(node: string, resource: string): number {
    return this.#below.free(node, resource) - (this.#taken.get(node)?.get(resource) ?? 0);
  }

  allocatable(node: string, resource: string): number {
    return this.#below.allocatable(node, resource);
  }

  isEmpty(): boolean {
    return this.#taken.size === 0;
  }

  /** Nodes of which something was taken. */
  touched(): Iterable<string> {
    return this.#taken.keys();
  }

  /** Takes what a pod demands; the pod itself, where its neighbours are to mind it. */
  take(node: string, demand: Amounts, pod?: Pod): void {
    if (pod !== undefined) this.#placed.push({ pod, node });
    if (this.ringed) this.#pieces.set(node, [...(this.#pieces.get(node) ?? []), demand]);
    const taken = this.#taken.get(node) ?? new Map<string, number>();
    this.#taken.set(node, taken);
    add(taken, demand);
  }

  /** Takes back what `take` took. */
  give(node: string, demand: Amounts): void {
    const taken = this.#taken.get(node);
    if (taken !== undefined) add(taken, demand, -1);
    const pieces = this.#pieces.get(node) ?? [];
    this.#pieces.set(node, pieces.toSpliced(pieces.lastIndexOf(demand), 1));
  }
}

/** The first resource of which the node has too little, or undefined where the demand fits. */
export function lacking(room: Room, node: string, demand: Amounts): string | undefined {
  for (const [resource, amount] of demand)
    if (amount > 0 && (room.free(node, resource) < amount || !ringsHold(room, node, { resource, amount })))
      return resource;
  return undefined;
}

function ringsHold(room: Room, node: string, { resource, amount }: { resource: string; amount: number }): boolean {
  if (room.ringed !== true) return true;
  const rings = room.rings?.(node, resource);
  return rings === undefined || ringSlots(rings, amount) > 0;
}

/** How many such pods fit on the node. */
export function capacity(room: Room, node: string, demand: Amounts): number {
  let pods = Infinity;
  for (const [resource, amount] of demand)
    if (amount > 0) {
      pods = Math.min(pods, Math.floor(room.free(node, resource) / amount));
      const rings = room.ringed === true ? room.rings?.(node, resource) : undefined;
      if (rings !== undefined) pods = Math.min(pods, ringSlots(rings, amount));
    }
  return Math.max(0, pods);
}

/** All of these demands together. */
export function sumOf(demands: Iterable<Amounts>): Amounts {
  const total: Counts = new Map();
  for (const demand of demands) add(total, demand);
  return total;
}

/** The resource that decides where pods go: the device asked for most, else `cpu`. */
export function scarcest(demands: Iterable<Amounts>): string {
  const devices = [...sumOf(demands)].filter(([resource, amount]) => isDevice(resource) && amount > 0);
  devices.sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return devices[0]?.[0] ?? "cpu";
}
