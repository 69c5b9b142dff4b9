/**
 * What the next step computes, by vLLM's rules, from the queues and the free blocks.
 *
 * Running sequences first and in order: one token for each that decodes, chunks of a shared token budget for the
 * others. Then waiting ones, first come first served, while there are blocks for their whole known length. When a
 * block is missing, the youngest running sequence is preempted and computed again later. It knows no time.
 */
import { StepBuilder, type EngineSettings, type Step } from "./batch.ts";
import { BlockCache, type BlockListener } from "./blocks.ts";
import { knownTokens, type Sequence } from "./sequence.ts";

export interface Plan {
  /** Undefined where nothing can be computed. */
  readonly step: Step | undefined;
  /** Sequences that now have blocks and wait for their KV from another engine. */
  readonly pulls: readonly Sequence[];
  /** Sequences that got their first blocks. */
  readonly admitted: readonly Sequence[];
  readonly preempted: number;
}

/** A plan in the making. */
interface Draft {
  readonly builder: StepBuilder;
  readonly pulls: Sequence[];
  readonly admitted: Sequence[];
  preempted: number;
}

export class Scheduler {
  readonly cache: BlockCache;
  readonly #settings: EngineSettings;
  /** Their KV has arrived: they have their blocks and go first. */
  #ready: Sequence[] = [];
  #waiting: Sequence[] = [];
  #running: Sequence[] = [];
  #pulling = 0;

  constructor(settings: EngineSettings, listener?: BlockListener) {
    this.#settings = settings;
    this.cache = new BlockCache(settings.capacityBlocks, listener);
  }

  get running(): number {
    return this.#running.length;
  }

  /** Waiting for blocks or for a place in the batch. */
  get waiting(): number {
    return this.#waiting.length + this.#ready.length;
  }

  /** Waiting for KV from another engine. */
  get pulling(): number {
    return this.#pulling;
  }

  enqueue(sequence: Sequence): void {
    sequence.phase = "waiting";
    this.#waiting.push(sequence);
  }

  /** Whether a sequence of `tokens` tokens could ever run. */
  fits(tokens: number): boolean {
    return this.#blocksFor(tokens) <= this.#settings.capacityBlocks;
  }

  plan(startsAt: number): Plan {
    const draft: Draft = { builder: new StepBuilder(this.#settings), pulls: [], admitted: [], preempted: 0 };
    for (const sequence of [...this.#running]) this.#continue(draft, sequence);
    if (draft.preempted === 0) this.#admit(draft);
    return { ...draft, step: draft.builder.build(startsAt) };
  }

  /** The KV of the prompt is here; its last token is computed again to get the first of the answer. */
  pulled(sequence: Sequence): void {
    const { promptTokens } = sequence.spec;
    this.#leave(sequence);
    this.#seal(sequence, promptTokens);
    sequence.computed = promptTokens - 1;
    sequence.phase = "ready";
    this.#ready.push(sequence);
  }

  /** Back to the head of the queue without blocks, to be computed from the start. */
  restart(sequence: Sequence): void {
    this.#leave(sequence);
    this.#dropBlocks(sequence);
    sequence.phase = "waiting";
    this.#waiting.unshift(sequence);
  }

  /** Takes a sequence out, wherever it stands; hands over its first `keep` blocks and frees the others. */
  remove(sequence: Sequence, keep = 0): readonly number[] {
    this.#leave(sequence);
    const kept = sequence.blocks.splice(0, keep);
    this.#dropBlocks(sequence);
    sequence.phase = "done";
    return kept;
  }

  /** Blocks that hold what has been computed. */
  coveredBlocks(sequence: Sequence): number {
    return this.#blocksFor(sequence.computed);
  }

  #continue(draft: Draft, sequence: Sequence): void {
    if (sequence.phase !== "running" || draft.builder.budget === 0) return;
    const missing = this.#blocksFor(sequence.computed + draft.builder.share(sequence)) - sequence.blocks.length;
    if (missing <= 0 || this.#grow(draft, sequence, missing)) this.#schedule(draft, sequence);
  }

  /** False where the sequence itself had to give way. */
  #grow(draft: Draft, sequence: Sequence, missing: number): boolean {
    for (;;) {
      const fresh = this.cache.take([], 0, missing);
      if (fresh !== undefined) return sequence.blocks.push(...fresh) > 0;
      const youngest = this.#running.at(-1) ?? sequence;
      this.restart(youngest);
      draft.preempted += 1;
      if (youngest === sequence) return false;
    }
  }

  /** The first that does not fit holds back those behind it. */
  #admit(draft: Draft): void {
    while (this.#running.length < this.#settings.maxSequences && draft.builder.budget > 0) {
      const sequence = this.#ready.shift() ?? this.#reserveNext(draft);
      if (sequence === undefined) return;
      if (sequence.remote === undefined) this.#run(draft, sequence);
      else this.#defer(draft, sequence);
    }
  }

  #run(draft: Draft, sequence: Sequence): void {
    sequence.phase = "running";
    this.#running.push(sequence);
    this.#schedule(draft, sequence);
  }

  #defer(draft: Draft, sequence: Sequence): void {
    sequence.phase = "pulling";
    this.#pulling += 1;
    draft.pulls.push(sequence);
  }

  /** As in vLLM, blocks can be hit as soon as the step that fills them is decided. */
  #schedule(draft: Draft, sequence: Sequence): void {
    const tokens = draft.builder.add(sequence);
    this.#seal(sequence, sequence.computed + tokens);
  }

  #reserveNext(draft: Draft): Sequence | undefined {
    const [sequence] = this.#waiting;
    if (sequence === undefined || !this.#reserve(sequence)) return undefined;
    this.#waiting.shift();
    if (sequence.cachedTokens === undefined) draft.admitted.push(sequence);
    sequence.cachedTokens ??= sequence.computed;
    return sequence;
  }

  /** Blocks for all known tokens. The last token is always computed, so at most the blocks before it are hits. */
  #reserve(sequence: Sequence): boolean {
    const tokens = knownTokens(sequence);
    const hits = this.cache.hits(sequence.spec.keys, Math.floor((tokens - 1) / this.#settings.blockSize));
    const blocks = this.cache.take(sequence.spec.keys, hits, this.#blocksFor(tokens) - hits);
    if (blocks === undefined) return false;
    sequence.blocks = blocks;
    sequence.computed = hits * this.#settings.blockSize;
    sequence.sealed = hits;
    return true;
  }

  #seal(sequence: Sequence, tokens: number): void {
    if (this.#settings.caching === false) return;
    for (; (sequence.sealed + 1) * this.#settings.blockSize <= tokens; sequence.sealed += 1) {
      const [block, key] = [sequence.blocks[sequence.sealed], sequence.spec.keys[sequence.sealed]];
      if (block !== undefined && key !== undefined) this.cache.seal(block, key);
    }
  }

  #leave(sequence: Sequence): void {
    const others = (list: Sequence[]): Sequence[] => list.filter((other) => other !== sequence);
    if (sequence.phase === "running") this.#running = others(this.#running);
    if (sequence.phase === "waiting") this.#waiting = others(this.#waiting);
    if (sequence.phase === "ready") this.#ready = others(this.#ready);
    if (sequence.phase === "pulling") this.#pulling -= 1;
  }

  #dropBlocks(sequence: Sequence): void {
    this.cache.release(sequence.blocks);
    sequence.blocks = [];
    sequence.computed = 0;
    sequence.sealed = 0;
  }

  #blocksFor(tokens: number): number {
    return Math.ceil(tokens / this.#settings.blockSize);
  }
}
