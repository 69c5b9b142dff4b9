/**
 * The prefix index from routing history, over the shared table: the newest blocks of each endpoint.
 *
 * The blocks of an endpoint lie in six generations. What is sent goes into the youngest; when that holds a sixth of the
 * capacity the next one begins, and the oldest vanishes by one bit of the endpoint's mask. So between 5/6 and all of the
 * capacity is remembered, least recently sent first to go, without a list of what was used when: 16 bytes for each block,
 * however many endpoints hold it. The two marks left over are those being swept out of the table.
 */
import type { BlockKeys } from "./blocks.ts";
import { blockCount } from "./blocks.ts";
import { holderOf } from "./holders.ts";
import type { PrefixIndex, PrefixMatches } from "./index.ts";
import { bytesOf, HolderTable, type Geometry } from "./table.ts";

const EVERY_MARK = 0xff;
const GENERATIONS = 6;
/** Slots swept for each block that is recorded: a round ends long before an endpoint has filled a generation anew. */
const SWEPT_PER_BLOCK = 8;

/** One endpoint's generations. */
interface Held {
  /** Its number in the table. */
  readonly id: number;
  capacity: number;
  /** Blocks by mark. */
  readonly counts: number[];
  /** Live marks, the oldest first; the last one is written. */
  marks: number[];
  /** Marks that live or are not swept yet, as bits. */
  busy: number;
}

/** No endpoint has it, and nothing is held under it. */
const NO_ID = 2 ** 32 - 1;

interface Listed {
  readonly version: number;
  readonly ids: Uint32Array;
  /** The answer, until the next question. */
  readonly blocks: Uint32Array;
}

/** A mark that is hidden and not yet swept, or, as `all`, a whole endpoint. */
interface Hidden {
  readonly id: number;
  readonly mark: number | "all";
  /** Rounds of sweeping that must end until it is clean: the one under way began before it was hidden. */
  rounds: number;
}

/** Half of the memory for slots would be too little: rows serve only blocks that more than four endpoints hold. */
export function geometryFor(maxBytes: number, endpoints: number): Geometry {
  const rows = Math.max(64, Math.floor(maxBytes / 8 / endpoints));
  let slots = 1024;
  while (bytesOf({ slots: slots * 2, endpoints, rows }) <= maxBytes) slots *= 2;
  return { slots, endpoints, rows };
}

export class HistoryIndex implements PrefixIndex {
  readonly #table: HolderTable;
  readonly #held = new Map<string, Held>();
  readonly #byId: (Held | undefined)[] = [];
  readonly #defaultBlocks: number;
  readonly #freeIds: number[] = [];
  readonly #lists = new WeakMap<readonly string[], Listed>();
  #version = 0;
  #freshId = 0;
  #hidden: Hidden[] = [];
  readonly #full: () => void;

  /** @param full told when a block found no place: the memory is too small for this fleet */
  constructor(geometry: Geometry, defaultBlocks: number, full: () => void = () => undefined) {
    this.#table = new HolderTable(geometry);
    this.#table.given(0);
    this.#defaultBlocks = defaultBlocks;
    this.#full = full;
  }

  get blocks(): number {
    let sum = 0;
    for (const { marks, counts } of this.#held.values()) for (const mark of marks) sum += counts[mark] ?? 0;
    return sum;
  }

  match(keys: BlockKeys): PrefixMatches {
    const matches = this.#table.match(keys);
    return {
      of: (endpoint) => {
        const held = this.#held.get(endpoint);
        return held === undefined ? 0 : matches.of(held.id);
      },
      all: (endpoints) => {
        const { ids, blocks } = this.#listOf(endpoints);
        for (let at = 0; at < ids.length; at++) blocks[at] = matches.of(ids[at] ?? NO_ID);
        return blocks;
      },
    };
  }

  /** Numbers of the endpoints of a list, until numbers are given or taken. */
  #listOf(endpoints: readonly string[]): Listed {
    const known = this.#lists.get(endpoints);
    if (known?.version === this.#version) return known;
    const ids = Uint32Array.from(endpoints, (endpoint) => this.#held.get(endpoint)?.id ?? NO_ID);
    const listed = { version: this.#version, ids, blocks: new Uint32Array(ids.length) };
    this.#lists.set(endpoints, listed);
    return listed;
  }

  record(endpoint: string, keys: BlockKeys): void {
    const held = this.#of(endpoint);
    if (held === undefined) {
      this.#full();
      return;
    }
    // Last block first: the start of a prompt is then the youngest, and tails go before heads.
    for (let block = blockCount(keys) - 1; block >= 0; block--) this.#put(held, keys, block);
    this.#sweep(blockCount(keys) * SWEPT_PER_BLOCK);
  }

  resize(endpoint: string, blocks: number): void {
    const held = this.#of(endpoint);
    if (held === undefined || held.capacity === blocks) return;
    held.capacity = blocks;
    while (held.marks.length > 1 && sizeOf(held) > blocks) this.#hideOldest(held);
  }

  forget(endpoint: string): void {
    const held = this.#held.get(endpoint);
    if (held === undefined) return;
    this.#held.delete(endpoint);
    this.#version += 1;
    this.#byId[held.id] = undefined;
    this.#table.live[held.id] = 0;
    this.#hidden.push({ id: held.id, mark: "all", rounds: 2 });
  }

  keep(endpoints: ReadonlySet<string>): void {
    for (const endpoint of this.#held.keys()) if (!endpoints.has(endpoint)) this.forget(endpoint);
    this.#sweep(IDLE_SWEEP);
  }

  #put(held: Held, keys: BlockKeys, block: number): void {
    const mark = held.marks.at(-1) ?? 0;
    const before = this.#table.put(keys, block, holderOf(held.id, mark));
    if (before === undefined) this.#full();
    else if (before !== mark) this.#moved(held, before, mark);
  }

  /** A block is in the youngest generation that was in another, or in none. */
  #moved(held: Held, before: number, mark: number): void {
    const { counts } = held;
    if (before >= 0) counts[before] = (counts[before] ?? 1) - 1;
    const count = (counts[mark] ?? 0) + 1;
    counts[mark] = count;
    if (count >= held.capacity / GENERATIONS && held.busy !== EVERY_MARK) this.#turn(held);
  }

  /** A new generation, where a clean mark is left for it; else the youngest goes on growing until one is. */
  #turn(held: Held): void {
    const clean = EVERY_MARK & ~held.busy;
    const mark = 31 - Math.clz32(clean & -clean);
    held.busy |= 1 << mark;
    if (held.marks.length === GENERATIONS) this.#hideOldest(held);
    held.marks.push(mark);
    held.counts[mark] = 0;
    this.#table.live[held.id] = (this.#table.live[held.id] ?? 0) | (1 << mark);
  }

  #hideOldest(held: Held): void {
    const mark = held.marks.shift() ?? 0;
    held.counts[mark] = 0;
    this.#table.live[held.id] = (this.#table.live[held.id] ?? 0) & ~(1 << mark);
    this.#hidden.push({ id: held.id, mark, rounds: 2 });
  }

  #of(endpoint: string): Held | undefined {
    const known = this.#held.get(endpoint);
    if (known !== undefined) return known;
    const id = this.#freeIds.pop() ?? this.#newId();
    if (id === undefined) return undefined;
    const held: Held = { id, capacity: this.#defaultBlocks, counts: [0], marks: [0], busy: 1 };
    this.#held.set(endpoint, held);
    this.#version += 1;
    this.#byId[id] = held;
    this.#table.live[id] = 1;
    return held;
  }

  #newId(): number | undefined {
    if (this.#freshId >= this.#table.geometry.endpoints) return undefined;
    this.#table.given(this.#freshId + 1);
    return this.#freshId++;
  }

  #sweep(slots: number): void {
    if (this.#hidden.length === 0 || !this.#table.sweep(slots)) return;
    for (const each of this.#hidden) each.rounds -= 1;
    for (const hidden of this.#hidden) if (hidden.rounds === 0) this.#clean(hidden);
    this.#hidden = this.#hidden.filter(({ rounds }) => rounds > 0);
  }

  #clean({ id, mark }: Hidden): void {
    const held = this.#byId[id];
    if (mark === "all") this.#freeIds.push(id);
    else if (held !== undefined) held.busy &= ~(1 << mark);
  }
}

/** Slots swept at each tidying, once a second: 0.3 ms, and 2^22 slots within a minute. */
const IDLE_SWEEP = 65_536;

const sizeOf = ({ marks, counts }: Held): number => marks.reduce((sum, mark) => sum + (counts[mark] ?? 0), 0);
