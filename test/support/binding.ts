/**
 * A model of everything around the extender's binding: an API server whose answers are lost, late or wrong, a watch that is
 * behind, and a scheduler that filters and binds several pods at once, counts no device itself and tries again. Time is
 * virtual, chance is seeded. Nothing in it knows how the extender guards a device.
 */
import { setImmediate as turn } from "node:timers/promises";
import { createBinder, type Binder } from "../../src/extender/bind/loop.ts";
import { filterNodes } from "../../src/extender/decide.ts";
import { ExtenderMemo, type ClusterView } from "../../src/extender/view.ts";
import { isBound, podDemand } from "../../src/gang/devices.ts";
import { podId, reservedNode } from "../../src/gang/reservations.ts";
import type { Verdict } from "../../src/kinds/verdict.ts";
import type { Binding } from "../../src/extender/bind/outcome.ts";
import { KubeError } from "../../src/kinds/kube-error.ts";
import type { Node, Pod } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../src/kinds/snapshot.ts";
import { BUILT_IN } from "../../src/profiles/devices.ts";
import { VirtualTime } from "../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { letGo, node, pod } from "./placement.ts";
import { randomOf } from "./hostile.ts";

export const GPU = "nvidia.com/gpu";
/** `extender.timeoutMs` and the scheduler's httpTimeout. */
export const DEADLINE_MS = 500;
const HTTP_TIMEOUT_MS = 1000;
/** A started process lists the pods before it answers. */
const RESTART_MS = 1000;
const BIND_MS = 60_000;

/** What becomes of a POST: whether the pod is bound, and what is heard of it. */
const FAULTS = ["ok", "lost", "reset", "never", "late", "500", "500 done", "429", "gone", "taken"] as const;
export type Fault = (typeof FAULTS)[number];

export interface WorldOptions {
  readonly seed: number;
  readonly nodes?: number;
  /** Devices of each node. */
  readonly capacity?: number;
  /** Pods to be bound, and devices of each. */
  readonly pods?: number;
  /** Of a hundred calls, how many go wrong. */
  readonly faulty: number;
}

export class BindingWorld {
  readonly time = new VirtualTime(0);
  readonly nodes: readonly Node[];
  readonly capacity: number;
  /** What the API server has. */
  readonly stored = new Map<string, Pod>();
  /** What has broken: empty where all is well. */
  readonly faults: string[] = [];
  readonly counts = { filters: 0, binds: 0, answered: 0, lost: 0, kills: 0 };
  readonly #random: () => number;
  readonly #faulty: number;
  #seen: ClusterSnapshot = EMPTY_SNAPSHOT;
  #life = 0;
  #memo: ExtenderMemo | undefined;
  #binder: Binder;
  #alive = true;
  #calm = false;

  constructor({ seed, nodes = 2, capacity = 4, pods = 5, faulty }: WorldOptions) {
    this.#random = randomOf(seed);
    this.#faulty = faulty;
    this.capacity = capacity;
    this.nodes = Array.from({ length: nodes }, (_, index) => node(`n${index}`, { gpus: capacity }));
    for (let index = 0; index < pods; index++) {
      const one = this.#make(index);
      this.stored.set(podId(one), one);
      this.#later(this.#dice(300), () => this.#schedule(podId(one)));
    }
    this.#seen = this.#now();
    [this.#memo, this.#binder] = this.#start();
    this.#watch();
  }

  /** What a watch that is not behind shows. */
  #now(): ClusterSnapshot {
    return { ...EMPTY_SNAPSHOT, nodes: this.nodes, pods: [...this.stored.values()] };
  }

  #make(index: number): Pod {
    const gpus = 1 + this.#dice(this.capacity);
    const one = pod(`p${index}`, { gpus, ...(this.#dice(2) === 0 ? { model: null } : {}) });
    const on = `n${this.#dice(this.nodes.length)}`;
    const fits = this.used(on) + gpus <= this.capacity && one.metadata.labels?.["tandem.sh/model"] !== undefined;
    return fits && this.#dice(2) === 0 ? letGo(one, on) : one;
  }

  #dice(sides: number): number {
    return Math.floor(this.#random() * sides);
  }

  #later(ms: number, task: () => void): void {
    this.time.after(ms, task);
  }

  #start(): [ExtenderMemo, Binder] {
    const memo = new ExtenderMemo({
      topology: { source: "none", preset: "", levels: [] },
      devices: { defaultProfile: "nvidia", profiles: BUILT_IN },
      bindMs: BIND_MS,
      now: () => this.time.now(),
    });
    const life = this.#life;
    const api = { bind: this.#bind.bind(this, life), get: this.#get.bind(this, life) };
    const view = (): ClusterView => memo.view(this.#seen);
    const ports = { clock: this.time, timers: this.time, log: SILENT_LOG };
    return [memo, createBinder({ ...ports, api, view, holds: memo.holds, timeoutMs: DEADLINE_MS })];
  }

  /** The process is gone between two steps, and with it all it knew; calls that it sent are still under way. */
  kill(): void {
    this.counts.kills += 1;
    this.#binder.stop();
    this.#life += 1;
    this.#alive = false;
    this.#later(RESTART_MS, () => {
      this.#seen = this.#now();
      [this.#memo, this.#binder] = this.#start();
      this.#alive = true;
    });
  }

  /** From now on nothing goes wrong any more. */
  calm(): void {
    this.#calm = true;
  }

  /** The watch is behind, by up to two seconds. */
  #watch(): void {
    this.#later(this.#calm ? 20 : this.#dice(2000), () => {
      this.#seen = this.#now();
      this.#watch();
    });
  }

  #schedule(uid: string): void {
    const given = this.stored.get(uid);
    if (given === undefined || isBound(given)) return;
    const chosen = this.#alive ? this.#filter(given) : undefined;
    const again = (): void => this.#later(50 + this.#dice(1200), () => this.#schedule(uid));
    // Meanwhile the scheduler takes up other pods; a call that timed out goes on.
    if (chosen === undefined) again();
    else this.#later(this.#dice(50), () => void this.#bindTo(given, chosen).then(again));
  }

  #filter(given: Pod): string | undefined {
    this.counts.filters += 1;
    const names = this.nodes.map(({ metadata }) => metadata.name ?? "");
    const { fit } = filterNodes(given, names, (this.#memo as ExtenderMemo).view(this.#seen));
    return fit[this.#dice(fit.length)];
  }

  async #bindTo(given: Pod, chosen: string): Promise<void> {
    if (!this.#alive) return;
    this.counts.binds += 1;
    const binding = { namespace: "default", name: given.metadata.name ?? "", uid: podId(given), node: chosen };
    // One in four callers gives up long before the answer, and asks again while it is still worked on.
    const patience = this.#calm || this.#dice(4) > 0 ? HTTP_TIMEOUT_MS : this.#dice(DEADLINE_MS);
    const silence = new Promise<"silence">((resolve) => this.#later(patience, () => resolve("silence")));
    const asked = { life: this.#life, at: this.time.now() };
    const verdict = await Promise.race([this.#binder.bind(binding), silence]);
    if (verdict !== "silence") this.#judge(verdict, binding, asked);
    else if (patience === HTTP_TIMEOUT_MS && asked.life === this.#life) this.faults.push(`${binding.uid}: no answer`);
  }

  #judge(verdict: Verdict, { uid, node }: Binding, asked: { life: number; at: number }): void {
    if (asked.life !== this.#life) return;
    this.counts.answered += 1;
    const ms = this.time.now() - asked.at;
    if (ms > DEADLINE_MS) this.faults.push(`${uid}: answered after ${ms} ms`);
    const found = this.stored.get(uid)?.spec.nodeName;
    if (verdict.outcome === "allowed" && found !== node)
      this.faults.push(`${uid}: said ${node}, is on ${found ?? "none"}`);
  }

  #fault(): Fault {
    if (this.#calm || this.#dice(100) >= this.#faulty) return "ok";
    return FAULTS[this.#dice(FAULTS.length)] ?? "ok";
  }

  /** Settles only for the process that called. */
  async #answer<T>(life: number, ms: number, settle: () => T): Promise<T> {
    await new Promise<void>((resolve) => this.#later(ms, () => (life === this.#life ? resolve() : undefined)));
    return settle();
  }

  #bind(life: number, of: { uid: string }, to: string, timeoutMs: number): Promise<void> {
    const fault = this.#fault();
    if (fault !== "ok") this.counts.lost += 1;
    const took = 1 + this.#dice(80);
    let status = 0;
    const store = (): void => {
      status = this.#store(of.uid, to);
    };
    if (fault === "gone") this.#remove(of.uid);
    if (fault === "taken") this.#store(of.uid, to);
    const done = ["ok", "lost", "reset", "500 done", "gone", "taken"].includes(fault);
    // What comes late comes before anybody asks again: within twice the deadline.
    if (done || fault === "late") this.#later(fault === "late" ? timeoutMs + took : took, store);
    const silent = fault === "lost" || fault === "never" || fault === "late";
    return this.#answer(life, silent ? timeoutMs : took, () => {
      if (fault === "500" || fault === "500 done") throw failed(500);
      if (fault === "429") throw failed(429);
      if (silent || fault === "reset" || took > timeoutMs) throw failed(0);
      if (status !== 201) throw failed(status);
    });
  }

  /** What the API server does with a binding. */
  #store(uid: string, to: string): number {
    const given = this.stored.get(uid);
    if (given === undefined) return 404;
    if (isBound(given)) return 409;
    this.stored.set(uid, { ...given, spec: { ...given.spec, nodeName: to } });
    this.#check();
    return 201;
  }

  /** Somebody deletes the pod; its owner makes another, which waits for its scheduler in turn. */
  #remove(uid: string): void {
    const given = this.stored.get(uid);
    if (given === undefined || isBound(given)) return;
    this.stored.delete(uid);
    const next = { ...given, metadata: { ...given.metadata, uid: `${uid}+`, annotations: {} } };
    this.stored.set(podId(next), next);
    this.#later(this.#dice(300), () => this.#schedule(podId(next)));
  }

  #get(life: number, { name }: { name: string }): Promise<Pod | undefined> {
    const broken = this.#fault() !== "ok";
    return this.#answer(life, broken ? DEADLINE_MS : 1 + this.#dice(40), () => {
      if (broken) throw failed(0);
      return [...this.stored.values()].find(({ metadata }) => metadata.name === name);
    });
  }

  /** Devices of a node that are bound, being bound or reserved; a pod counts once on a node, and when bound only there. */
  used(on: string): number {
    let sum = 0;
    for (const [id, one] of this.stored) {
      const places = isBound(one) ? [one.spec.nodeName] : [this.#assumed(id), factsOf(one).reserved];
      if (places.includes(on)) sum += factsOf(one).devices;
    }
    return sum;
  }

  // Before the constructor has made the first one there is none.
  #assumed(id: string): string | undefined {
    return this.#memo?.holds.assumed(id)?.node;
  }

  #check(): void {
    for (const { metadata } of this.nodes) {
      const used = this.used(metadata.name ?? "");
      if (used > this.capacity) this.faults.push(`${used} of ${this.capacity} on ${metadata.name ?? ""}`);
    }
    for (const [id, one] of this.stored) {
      const [assumed, bound] = [this.#assumed(id), one.spec.nodeName];
      if (assumed !== undefined && bound !== undefined && assumed !== bound)
        this.faults.push(`${id} holds ${assumed} beside ${bound}`);
    }
  }

  /** One event of the world; what follows from it is done before the next. */
  async step(): Promise<void> {
    this.time.step();
    await turn();
    this.#check();
  }

  /** Runs for so much virtual time. */
  async run(ms: number): Promise<void> {
    const end = this.time.now() + ms;
    while (this.time.now() < end) await this.step();
  }

  /** Assumptions and bindings that the process still remembers. */
  leftovers(): number {
    return this.#binder.open() + [...this.stored.keys()].filter((id) => this.#assumed(id) !== undefined).length;
  }

  /** Nothing is under way, and whoever waits has no room. */
  settled(): boolean {
    return this.#alive && this.leftovers() === 0 && this.stranded().length === 0;
  }

  /** Pods that still wait although some node has room for them. */
  stranded(): readonly string[] {
    return [...this.stored].flatMap(([id, one]) => {
      if (isBound(one)) return [];
      const needs = factsOf(one).devices;
      const free = this.nodes.some(({ metadata: { name = "" } }) => this.capacity - this.used(name) >= needs);
      return free ? [id] : [];
    });
  }

  stop(): void {
    this.#binder.stop();
  }
}

interface PodFacts {
  readonly devices: number;
  /** No world lasts so long that a reservation lapses in it. */
  readonly reserved: string | undefined;
}

const known = new WeakMap<Pod, PodFacts>();

function factsOf(given: Pod): PodFacts {
  const found = known.get(given) ?? {
    devices: podDemand(given.spec).get(GPU) ?? 0,
    reserved: reservedNode(given, { now: 0, bindMs: BIND_MS }),
  };
  known.set(given, found);
  return found;
}

const failed = (status: number): KubeError =>
  new KubeError({ status, reason: String(status), message: `status ${status}` });
