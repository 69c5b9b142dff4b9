/**
 * The prefix index from routing history, over the shared table: the newest blocks of each endpoint.
 *
 * The blocks of an endpoint lie in six generations. What is sent goes into the youngest; when that holds a sixth of the
 * capacity the next one begins, and the oldest vanishes by one bit of the endpoint's mask: never more than the capacity is
 * remembered, least recently sent first to go. Each generation keeps the keys that it was given (8 bytes each, beside 16
 * for each block in the table, however many endpoints hold it): by them the blocks of one that vanished are given up a
 * few at a time, while others are recorded. The two marks left over are those of generations being given up.
 *
 * Where the memory is too small for what all engines hold, it never freezes: generations then end at an equal share of
 * it, larger ones only while there is room, and whoever holds most gives up its oldest before the table is full.
 */
import type { BlockKeys } from "./blocks.ts";
import { blockCount } from "./blocks.ts";
import { holderOf } from "./holders.ts";
import { KeyLog, KeyPieces } from "./key-log.ts";
import type { PrefixIndex, PrefixMatches } from "./index.ts";
import { bytesOf, HolderTable, type Geometry } from "./table.ts";

const EVERY_MARK = 0xff;
const GENERATIONS = 6;
/** Blocks given up for each one that is recorded: a generation is gone before the next one is half as large. */
const BURIED_PER_BLOCK = 2;
/** Of the slots, that live blocks may fill: those given up stay in theirs for a while, an eighth at most. */
const ROOM = 0.6;
/** Of the slots, given up at once: half a millisecond for a thousand endpoints is shared by so many blocks. */
const GIVEN = 1 / 32;

/** One endpoint's generations. */
interface Held {
  /** Its number in the table. */
  readonly id: number;
  capacity: number;
  /** Blocks by mark. */
  readonly counts: number[];
  /** Keys by mark: of its blocks, and of those that went on into younger generations. */
  readonly logs: KeyLog[];
  /** Live marks, the oldest first; the last one is written. */
  marks: number[];
  /** Marks that live or whose blocks are not all given up yet, as bits. */
  busy: number;
  /** Blocks that it may hold beyond its share of the memory: there was room when its generation began. */
  room: number;
}

/** No endpoint has it, and nothing is held under it. */
const NO_ID = 2 ** 32 - 1;

interface Listed {
  readonly version: number;
  readonly ids: Uint32Array;
  /** The answer, until the next question. */
  readonly blocks: Uint32Array;
}

/** What is hidden and to be given up: a mark, or, as `all`, a whole endpoint. */
interface Hidden {
  readonly id: number;
  readonly mark: number | "all";
  readonly logs: readonly KeyLog[];
}

/** Keys that generations keep for each slot, at most: of those that live, and of those being given up. */
const LOGGED = 0.8;
const KEY_BYTES = 8;

/** Half of the memory for slots would be too little: rows serve only blocks that more than four endpoints hold. */
export function geometryFor(maxBytes: number, endpoints: number): Geometry {
  const rows = Math.max(64, Math.floor(maxBytes / 8 / endpoints));
  let slots = 1024;
  const bytes = (slots: number): number => bytesOf({ slots, endpoints, rows }) + slots * LOGGED * KEY_BYTES;
  while (bytes(slots * 2) <= maxBytes) slots *= 2;
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
  /** The oldest first. */
  #hidden: Hidden[] = [];
  /** Keys of those. */
  #dead = 0;
  /** Keys of all generations that live. */
  #kept = 0;
  readonly #pieces = new KeyPieces();
  /** Blocks of one endpoint, were the memory shared equally. */
  #share = 0;
  readonly #full: (blocks: number) => void;

  /** @param full told of blocks that found no place or gave theirs: the memory is too small for this fleet */
  constructor(geometry: Geometry, defaultBlocks: number, full: (blocks: number) => void = () => undefined) {
    this.#table = new HolderTable(geometry);
    this.#table.given(0);
    this.#defaultBlocks = defaultBlocks;
    this.#full = full;
  }

  get blocks(): number {
    let sum = 0;
    for (const held of this.#held.values()) sum += sizeOf(held);
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
      this.#full(blockCount(keys));
      // Numbers come free by it.
      this.#bury(blockCount(keys) * BURIED_PER_BLOCK);
      return;
    }
    if (this.#isCrowded(blockCount(keys))) this.#relieve(blockCount(keys));
    // What no engine holds is not remembered of it: 16 MiB of prompt are 65536 blocks, of which most fit into none.
    const count = Math.min(blockCount(keys), held.capacity);
    // Last block first: the start of a prompt is then the youngest, and tails go before heads.
    for (let block = count - 1; block >= 0; block--) this.#put(held, keys, block);
    this.#bury(count * BURIED_PER_BLOCK);
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
    this.#changed();
    this.#byId[held.id] = undefined;
    this.#table.live[held.id] = 0;
    this.#hide({ id: held.id, mark: "all", logs: held.logs });
  }

  keep(endpoints: ReadonlySet<string>): void {
    for (const endpoint of this.#held.keys()) if (!endpoints.has(endpoint)) this.forget(endpoint);
    this.#bury(IDLE_BURIED);
  }

  #put(held: Held, keys: BlockKeys, block: number): void {
    const mark = held.marks.at(-1) ?? 0;
    const before = this.#table.put(keys, block, holderOf(held.id, mark));
    if (before === undefined) this.#full(1);
    else if (before !== mark) {
      held.logs[mark]?.add(keys, block);
      this.#kept += 1;
      this.#moved(held, before, mark);
    }
  }

  /** A block is in the youngest generation that was in another, or in none. */
  #moved(held: Held, before: number, mark: number): void {
    const { counts } = held;
    if (before >= 0) counts[before] = (counts[before] ?? 1) - 1;
    const count = (counts[mark] ?? 0) + 1;
    counts[mark] = count;
    const size = Math.min(held.capacity, Math.max(this.#share, held.room));
    if (count >= size / GENERATIONS && held.busy !== EVERY_MARK) this.#turn(held);
  }

  /** More is kept than there is room for; what waits to be given up is as good as gone. */
  #isCrowded(coming = 0): boolean {
    return this.#kept + coming > ROOM * this.#table.geometry.slots;
  }

  /** Those who hold most give up their oldest generations. */
  #relieve(coming: number): void {
    const wanted = Math.max(coming, GIVEN * this.#table.geometry.slots);
    const most = [...this.#held.values()].map((held) => ({ held, size: sizeOf(held) })).sort((a, b) => b.size - a.size);
    const before = this.#dead;
    for (const { held } of most) {
      if (this.#dead - before >= wanted) break;
      this.#give(held);
    }
    this.#full(this.#dead - before);
  }

  #give(held: Held): void {
    if (held.marks.length === 1 && held.busy !== EVERY_MARK) this.#turn(held);
    if (held.marks.length > 1) this.#hideOldest(held);
  }

  /** A new generation, where a clean mark is left for it; else the youngest goes on growing until one is. */
  #turn(held: Held): void {
    held.room = this.#isCrowded() ? 0 : ROOM_TO_GROW * sizeOf(held);
    const clean = EVERY_MARK & ~held.busy;
    const mark = 31 - Math.clz32(clean & -clean);
    held.busy |= 1 << mark;
    if (held.marks.length === GENERATIONS) this.#hideOldest(held);
    held.marks.push(mark);
    held.counts[mark] = 0;
    held.logs[mark] = this.#newLog();
    this.#table.live[held.id] = (this.#table.live[held.id] ?? 0) | (1 << mark);
  }

  #hideOldest(held: Held): void {
    const mark = held.marks.shift() ?? 0;
    this.#table.live[held.id] = (this.#table.live[held.id] ?? 0) & ~(1 << mark);
    this.#hide({ id: held.id, mark, logs: [held.logs[mark] ?? this.#newLog()] });
    held.counts[mark] = 0;
    // Whoever is forgotten now hides its logs: this one is hidden already.
    held.logs[mark] = this.#newLog();
  }

  #newLog(): KeyLog {
    return new KeyLog(this.#pieces);
  }

  #hide(hidden: Hidden): void {
    const keys = keysOf(hidden);
    this.#hidden.push(hidden);
    this.#dead += keys;
    this.#kept -= keys;
  }

  #of(endpoint: string): Held | undefined {
    const known = this.#held.get(endpoint);
    if (known !== undefined) return known;
    const id = this.#freeIds.pop() ?? this.#newId();
    if (id === undefined) return undefined;
    const held: Held = {
      id,
      capacity: this.#defaultBlocks,
      counts: [0],
      logs: [this.#newLog()],
      marks: [0],
      busy: 1,
      room: 0,
    };
    this.#held.set(endpoint, held);
    this.#changed();
    this.#byId[id] = held;
    this.#table.live[id] = 1;
    return held;
  }

  #newId(): number | undefined {
    if (this.#freshId >= this.#table.geometry.endpoints) return undefined;
    this.#table.given(this.#freshId + 1);
    return this.#freshId++;
  }

  /** Endpoints came or went. */
  #changed(): void {
    this.#version += 1;
    this.#share = Math.floor((ROOM * this.#table.geometry.slots) / Math.max(1, this.#held.size));
  }

  /** Gives up so many of the blocks that are hidden, those first that were hidden first. */
  #bury(most: number): void {
    let left = most;
    for (let first = this.#hidden[0]; first !== undefined && left > 0; first = this.#hidden[0]) {
      left -= this.#giveUp(first, left);
      if (keysOf(first) > 0) return;
      this.#hidden.shift();
      this.#clean(first);
    }
  }

  #giveUp({ id, mark, logs }: Hidden, most: number): number {
    const marks = mark === "all" ? EVERY_MARK : 1 << mark;
    let taken = 0;
    for (const log of logs) taken += log.take(most - taken, (keys, at) => this.#table.drop(keys, at, id, marks));
    this.#dead -= taken;
    return taken;
  }

  /** Its number or its mark may serve again. */
  #clean({ id, mark }: Hidden): void {
    const held = this.#byId[id];
    if (mark === "all") this.#freeIds.push(id);
    else if (held !== undefined) held.busy &= ~(1 << mark);
  }
}

/** Six generations that grow by half each: the oldest is then a twenty-fifth of all that is held. */
const ROOM_TO_GROW = 2;
/** Blocks given up at each tidying, once a second: 2 ms. */
const IDLE_BURIED = 8192;

const keysOf = ({ logs }: Hidden): number => logs.reduce((sum, { size }) => sum + size, 0);

const sizeOf = ({ marks, counts }: Held): number => marks.reduce((sum, mark) => sum + (counts[mark] ?? 0), 0);
