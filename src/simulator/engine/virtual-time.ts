/**
 * Time that passes only when told to: Clock and Timers for offline simulation and for tests.
 *
 * Tasks run in the order of their times, and of their making where times are equal; the clock stands at the time of
 * the task that runs. Nothing here waits.
 */
import type { Cancel, Clock, Timers } from "../../ports.ts";

interface Task {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

const isBefore = (a: Task, b: Task): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

export class VirtualTime implements Clock, Timers {
  /** Binary heap, the next task at index 0. */
  readonly #heap: Task[] = [];
  #now: number;
  #order = 0;

  constructor(start = 0) {
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): Cancel {
    this.#order += 1;
    const task: Task = { at: this.#now + Math.max(0, ms), order: this.#order, run, cancelled: false };
    this.#push(task);
    return () => (task.cancelled = true);
  }

  every(ms: number, run: () => void): Cancel {
    let cancel: Cancel = () => undefined;
    const again = (): void => {
      cancel = this.after(ms, again);
      run();
    };
    cancel = this.after(ms, again);
    return () => cancel();
  }

  /** Runs the next task; false where there is none. */
  step(): boolean {
    let task = this.#pop();
    while (task?.cancelled === true) task = this.#pop();
    if (task === undefined) return false;
    this.#now = task.at;
    task.run();
    return true;
  }

  /** Runs every task due within `ms`, then stands there. */
  advance(ms: number): void {
    const end = this.#now + ms;
    while ((this.#nextAt() ?? Infinity) <= end) this.step();
    this.#now = Math.max(this.#now, end);
  }

  /** Runs until nothing is left to run; throws after `limit` tasks, because a timer that renews itself never ends. */
  drain(limit = 10_000_000): void {
    for (let count = 0; this.step(); count += 1) if (count >= limit) throw new Error(`still busy after ${limit} tasks`);
  }

  /** Time of the next task that was not cancelled. */
  #nextAt(): number | undefined {
    while (this.#heap[0]?.cancelled === true) this.#pop();
    return this.#heap[0]?.at;
  }

  #push(task: Task): void {
    let at = this.#heap.push(task) - 1;
    for (let up = (at - 1) >> 1; at > 0 && isBefore(task, this.#at(up)); up = (at - 1) >> 1) {
      this.#heap[at] = this.#at(up);
      at = up;
    }
    this.#heap[at] = task;
  }

  #pop(): Task | undefined {
    const [first] = this.#heap;
    const last = this.#heap.pop();
    if (first === undefined || last === undefined || first === last) return first;
    this.#sink(last);
    return first;
  }

  #sink(task: Task): void {
    let at = 0;
    for (let down = this.#smaller(at); down !== undefined && isBefore(this.#at(down), task); down = this.#smaller(at)) {
      this.#heap[at] = this.#at(down);
      at = down;
    }
    this.#heap[at] = task;
  }

  #smaller(at: number): number | undefined {
    const [left, right] = [2 * at + 1, 2 * at + 2];
    if (left >= this.#heap.length) return undefined;
    return right < this.#heap.length && isBefore(this.#at(right), this.#at(left)) ? right : left;
  }

  #at(index: number): Task {
    const task = this.#heap[index];
    if (task === undefined) throw new Error("heap index out of range");
    return task;
  }
}
