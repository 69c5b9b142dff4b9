/**
 * Binds pods in the scheduler's place, and remembers what is under way, so that no device is given twice meanwhile.
 *
 * For each node one binding after another: look again whether there is room, hold it, ask the API server. A pod whose
 * binding is under way holds its room until the watch shows it bound (`Holds.come`) or the API server says that it is not.
 * An unknown outcome holds it as well: after twice the deadline of the call the pod is read, and only an empty nodeName
 * ends it. Nothing of this is stored; what a killed process had begun is read off the pods. It is a guard for one process:
 * kube-scheduler, of which one leads, calls one replica at a time and assumes pods itself.
 */
import type { Holds } from "../../gang/reservations.ts";
import type { KubeObject, ObjectRef, Pod } from "../../kinds/kube.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import type { Cancel, Clock, KubeReader, Log, PodBinder, Timers } from "../../ports.ts";
import type { ClusterView } from "../view.ts";
import * as outcome from "./outcome.ts";
import type { Binding } from "./outcome.ts";

export interface BinderOptions {
  readonly api: PodBinder & Pick<KubeReader, "get">;
  /** The cluster as it is known now. Brings the holds up to date. */
  readonly view: () => ClusterView;
  readonly holds: Holds;
  /** Deadline of a binding, in milliseconds. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

export interface Binder {
  /** The verdict on the binding, by the deadline: `PodBound`, or why not. Never rejects. */
  bind(binding: Binding): Promise<Verdict>;
  /** Bindings that are not known to have ended. */
  open(): number;
  stop(): void;
}

/** Calls of one node that wait; kube-scheduler binds 16 pods at once at most. */
const MOST_WAITING = 64;
/** Bindings that are not known to have ended, of all nodes: ten times what kube-scheduler binds in a second. */
const MOST_OPEN = 4096;
/** An unknown outcome is looked into after so many deadlines, and again as long as the API server does not tell. */
const SETTLE = 2;

interface Open {
  readonly binding: Binding;
  state: "calling" | "unknown" | "bound";
  /** An earlier call for the same pod and node was lost: what this one is told does not say what became of that. */
  readonly doubtful: boolean;
  /** Monotonic milliseconds since which the state is so. */
  since: number;
  cancel: Cancel;
}

const never: Cancel = () => undefined;

const refOf = ({ namespace, name }: Binding): ObjectRef => ({ apiVersion: "v1", plural: "pods", namespace, name });

export function createBinder(options: BinderOptions): Binder {
  return new SerialBinder(options);
}

class SerialBinder implements Binder {
  readonly #options: BinderOptions;
  readonly #open = new Map<string, Open>();
  readonly #queues = new Map<string, { tail: Promise<unknown>; waiting: number }>();
  #stopped = false;

  constructor(options: BinderOptions) {
    this.#options = options;
  }

  open(): number {
    return this.#open.size;
  }

  stop(): void {
    this.#stopped = true;
    for (const { cancel } of this.#open.values()) cancel();
  }

  bind(binding: Binding): Promise<Verdict> {
    const { timers, timeoutMs } = this.#options;
    const deadline = this.#now() + timeoutMs;
    const queue = this.#queues.get(binding.node) ?? { tail: Promise.resolve(), waiting: 0 };
    if (queue.waiting >= MOST_WAITING || this.#open.size >= MOST_OPEN) return Promise.resolve(outcome.busy(binding));
    this.#queues.set(binding.node, queue);
    queue.waiting += 1;
    const turn = queue.tail.then(() => this.#turn(binding, deadline));
    queue.tail = turn.then(() => {
      queue.waiting -= 1;
      if (queue.waiting === 0) this.#queues.delete(binding.node);
    });
    return new Promise((resolve) => {
      const cancel = timers.after(timeoutMs, () => resolve(outcome.late(binding)));
      void turn.then((verdict) => {
        cancel();
        resolve(verdict);
      });
    });
  }

  /** Never rejects: the queue goes on. A call whose caller was already told that it failed does nothing any more. */
  async #turn(binding: Binding, deadline: number): Promise<Verdict> {
    if (this.#now() >= deadline) return outcome.late(binding);
    try {
      return await this.#attempt(binding, deadline);
    } catch (error) {
      return outcome.refused(binding, error);
    }
  }

  async #attempt(binding: Binding, deadline: number): Promise<Verdict> {
    const earlier = await this.#earlier(binding);
    if (earlier !== undefined) return earlier;
    const view = this.#options.view();
    const pod = view.cells.byUid(binding.uid) ?? (await this.#options.api.get(refOf(binding)));
    if (this.#now() >= deadline) return outcome.late(binding);
    return this.#judged(binding, pod) ?? this.#call(binding, pod as Pod, deadline);
  }

  /** What an earlier call for the same pod leaves to be said; undefined where this one may go on. */
  async #earlier(binding: Binding): Promise<Verdict | undefined> {
    const open = this.#open.get(binding.uid);
    if (open === undefined) return undefined;
    const { node } = open.binding;
    if (node === binding.node) return open.state === "bound" ? outcome.bound(binding) : undefined;
    await this.#settle(open);
    const still = this.#open.get(binding.uid);
    if (still === undefined) return undefined;
    return still.state === "bound" ? outcome.boundElsewhere(binding, node) : outcome.unknown(binding, node);
  }

  /** Asked once more after every await before the call: the room may have gone meanwhile. */
  #judged(binding: Binding, pod: KubeObject | undefined): Verdict | undefined {
    const standing = outcome.standingOf(pod, binding.uid);
    if (standing.kind === "gone") return outcome.gone(binding);
    if (standing.kind === "bound")
      return standing.node === binding.node ? outcome.bound(binding) : outcome.boundElsewhere(binding, standing.node);
    const open = this.#open.get(binding.uid);
    if (open !== undefined && open.binding.node !== binding.node) return outcome.unknown(binding, open.binding.node);
    return outcome.roomRefusal(pod as Pod, binding.node, this.#options.view());
  }

  async #call(binding: Binding, pod: Pod, deadline: number): Promise<Verdict> {
    const { api, holds } = this.#options;
    const earlier = this.#open.get(binding.uid);
    earlier?.cancel();
    const doubtful = earlier !== undefined;
    const open: Open = { binding, state: "calling", doubtful, since: this.#now(), cancel: never };
    this.#open.set(binding.uid, open);
    holds.assume(pod, binding.node);
    try {
      await api.bind(binding, binding.node, deadline - this.#now());
      return this.#become(open, "bound");
    } catch (error) {
      return this.#failed(open, error);
    }
  }

  async #failed(open: Open, error: unknown): Promise<Verdict> {
    const { binding } = open;
    switch (outcome.failureOf(error)) {
      case "gone":
        this.#release(open);
        return outcome.gone(binding);
      case "refused":
        return this.#undone(open, outcome.refused(binding, error));
      case "unknown":
        this.#options.log.warn("outcome of a binding unknown", { ...binding, error: (error as Error).message });
        return this.#become(open, "unknown");
      case "conflict":
        return this.#conflict(open);
    }
  }

  /** Somebody has bound it, perhaps an earlier call of ours whose answer was lost. */
  async #conflict(open: Open): Promise<Verdict> {
    const { binding } = open;
    const standing = await this.#read(binding);
    if (standing === undefined) return this.#become(open, "unknown");
    if (standing.kind === "bound" && standing.node === binding.node) return this.#become(open, "bound");
    if (standing.kind === "unbound") return this.#undone(open, outcome.leaving(binding));
    this.#release(open);
    return standing.kind === "bound" ? outcome.boundElsewhere(binding, standing.node) : outcome.gone(binding);
  }

  /** This call has done nothing; the room is held on where an earlier one may have. */
  #undone(open: Open, verdict: Verdict): Verdict {
    if (open.doubtful) this.#become(open, "unknown");
    else this.#release(open);
    return verdict;
  }

  #become(open: Open, state: "bound" | "unknown"): Verdict {
    open.state = state;
    open.since = this.#now();
    this.#later(open);
    return state === "bound" ? outcome.bound(open.binding) : outcome.unknown(open.binding, open.binding.node);
  }

  #later(open: Open): void {
    if (this.#stopped) return;
    const { timers, timeoutMs } = this.#options;
    open.cancel();
    open.cancel = timers.after(SETTLE * timeoutMs, () => void this.#settle(open).then(() => this.#again(open)));
  }

  #again(open: Open): void {
    if (this.#open.get(open.binding.uid) === open && open.state !== "calling") this.#later(open);
  }

  /** Ends what is known to have ended: the watch has shown it, or the API server says so. */
  async #settle(open: Open): Promise<void> {
    const { binding } = open;
    this.#options.view();
    if (this.#options.holds.assumed(binding.uid) === undefined) {
      this.#release(open);
      return;
    }
    const aged = open.state !== "calling" && this.#now() - open.since >= SETTLE * this.#options.timeoutMs;
    const standing = await this.#read(binding);
    if (standing === undefined || this.#open.get(binding.uid) !== open) return;
    if (standing.kind === "gone" || (standing.kind === "unbound" && aged)) this.#release(open);
    else if (standing.kind === "bound") this.#confirm(open, standing.node);
  }

  /** Bound, and the watch is behind: the room is held where the pod is. */
  #confirm(open: Open, node: string): void {
    const { holds } = this.#options;
    const hold = holds.assumed(open.binding.uid);
    if (hold !== undefined && hold.node !== node) holds.assume(hold.pod, node);
    if (open.state === "unknown") open.state = "bound";
  }

  #release(open: Open): void {
    open.cancel();
    if (this.#open.get(open.binding.uid) !== open) return;
    this.#open.delete(open.binding.uid);
    this.#options.holds.release(open.binding.uid);
  }

  /** Undefined where the API server does not tell. */
  async #read(binding: Binding): Promise<outcome.Standing | undefined> {
    try {
      return outcome.standingOf(await this.#options.api.get(refOf(binding)), binding.uid);
    } catch {
      return undefined;
    }
  }

  #now(): number {
    return this.#options.clock.monotonic();
  }
}
