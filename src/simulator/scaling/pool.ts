/**
 * Engines as fluids: a prefill pod works through its queue at so many tokens a second; a decode pod gives each of its
 * sequences a token every `ITL = a + b * batch + c * resident KV`. No blocks, no chunks: what a policy that sizes pods
 * can see of them is right, and four hours of half a million requests take a second.
 */
import type { Arrival } from "./arrivals.ts";

/** The truth behind a run; no policy is told. Reference autoscaling.md 6.3. */
export interface Truth {
  readonly promptTokensPerSecond: number;
  readonly itlMs: { readonly base: number; readonly each: number; readonly kvToken: number };
  readonly kvTokens: number;
  readonly maxSequences: number;
}

export const TRUTH: Truth = {
  promptTokensPerSecond: 12_000,
  itlMs: { base: 12, each: 0.12, kvToken: 6e-5 },
  kvTokens: 250_000,
  maxSequences: 256,
};

export interface Request extends Arrival {
  /** When its prefill was done; with the first token it is decode's. */
  prefilledAt: number;
  firstTokenAt: number;
  doneAt: number;
}

interface Queued {
  readonly request: Request;
  readonly startAt: number;
  readonly doneAt: number;
}

export class PrefillPod {
  #freeAt = 0;
  readonly #queue: Queued[] = [];
  #doneTokens = 0;

  /** Milliseconds until it would begin with another prompt. */
  queueMs(now: number): number {
    return Math.max(0, this.#freeAt - now);
  }

  give(request: Request, now: number, { promptTokensPerSecond }: Truth): void {
    const startAt = Math.max(now, this.#freeAt);
    this.#freeAt = startAt + (1000 * request.promptTokens) / promptTokensPerSecond;
    this.#queue.push({ request, startAt, doneAt: this.#freeAt });
  }

  /** What is done by now, in order. */
  take(now: number): readonly Request[] {
    let count = 0;
    while ((this.#queue[count]?.doneAt ?? Infinity) <= now) count += 1;
    if (count === 0) return [];
    return this.#queue.splice(0, count).map(({ request, doneAt }) => {
      request.prefilledAt = doneAt;
      this.#doneTokens += request.promptTokens;
      return request;
    });
  }

  get isIdle(): boolean {
    return this.#queue.length === 0;
  }

  running(now: number): number {
    return this.#queue[0] !== undefined && this.#queue[0].startAt <= now ? 1 : 0;
  }

  waiting(now: number): number {
    return this.#queue.length - this.running(now);
  }

  waitingTokens(now: number): number {
    return this.#queue.reduce((sum, { request, startAt }) => sum + (startAt > now ? request.promptTokens : 0), 0);
  }

  /** Of prompts that are done, and of the one that is being read. */
  promptTokens(now: number): number {
    const first = this.#queue[0];
    if (first === undefined || first.startAt > now) return this.#doneTokens;
    const share = (now - first.startAt) / Math.max(1e-9, first.doneAt - first.startAt);
    return this.#doneTokens + Math.round(share * first.request.promptTokens);
  }
}

interface Sequence {
  readonly request: Request;
  /** Of the pod's count of steps, at which it began and ends. */
  readonly beganAt: number;
  readonly endsAt: number;
}

export class DecodePod {
  /** Tokens that every sequence got since the pod began. */
  #steps = 0;
  #kv = 0;
  #generated = 0;
  /** A heap by the end. */
  readonly #running: Sequence[] = [];
  readonly #waiting: Request[] = [];
  #waitingTokens = 0;

  get isIdle(): boolean {
    return this.#running.length + this.#waiting.length === 0;
  }

  get running(): number {
    return this.#running.length;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get kvTokens(): number {
    return this.#kv;
  }

  get generatedTokens(): number {
    return Math.round(this.#generated);
  }

  /** What decides between pods: KV that is there or will be. */
  get load(): number {
    return this.#kv + this.#waitingTokens;
  }

  give(request: Request): void {
    this.#waiting.push(request);
    this.#waitingTokens += request.promptTokens;
  }

  /** One step of time, in milliseconds: answers that ended in it. */
  advance(now: number, ms: number, truth: Truth): readonly Request[] {
    this.#admit(now, truth);
    const batch = this.#running.length;
    if (batch === 0) return [];
    const { base, each, kvToken } = truth.itlMs;
    const steps = ms / (base + each * batch + kvToken * this.#kv);
    this.#steps += steps;
    this.#kv += steps * batch;
    this.#generated += steps * batch;
    const done: Request[] = [];
    while ((this.#running[0]?.endsAt ?? Infinity) <= this.#steps) done.push(this.#end(now));
    return done;
  }

  #admit(now: number, { kvTokens, maxSequences }: Truth): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const fits = this.#running.length < maxSequences && this.#kv + next.promptTokens + next.answerTokens <= kvTokens;
      if (!fits && this.#running.length > 0) return;
      this.#waiting.shift();
      this.#waitingTokens -= next.promptTokens;
      next.firstTokenAt = now;
      this.#kv += next.promptTokens;
      push(this.#running, { request: next, beganAt: this.#steps, endsAt: this.#steps + next.answerTokens });
    }
  }

  #end(now: number): Request {
    const { request, beganAt } = pop(this.#running);
    this.#kv = this.#running.length === 0 ? 0 : this.#kv - request.promptTokens - (this.#steps - beganAt);
    request.doneAt = now;
    return request;
  }
}

function push(heap: Sequence[], sequence: Sequence): void {
  let at = heap.push(sequence) - 1;
  for (let up = (at - 1) >> 1; at > 0 && at_(heap, up).endsAt > sequence.endsAt; up = (at - 1) >> 1) {
    heap[at] = at_(heap, up);
    at = up;
  }
  heap[at] = sequence;
}

function pop(heap: Sequence[]): Sequence {
  const top = at_(heap, 0);
  const last = heap.pop() as Sequence;
  if (heap.length === 0) return top;
  let at = 0;
  for (
    let next = smaller(heap, at);
    next < heap.length && at_(heap, next).endsAt < last.endsAt;
    next = smaller(heap, at)
  ) {
    heap[at] = at_(heap, next);
    at = next;
  }
  heap[at] = last;
  return top;
}

const smaller = (heap: Sequence[], at: number): number => {
  const [left, right] = [2 * at + 1, 2 * at + 2];
  return right < heap.length && at_(heap, right).endsAt < at_(heap, left).endsAt ? right : left;
};

const at_ = (heap: Sequence[], at: number): Sequence => heap[at] as Sequence;
