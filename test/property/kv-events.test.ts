/** A stream of KV events against a plain map of what the engine holds, whatever happens to the messages on their way. */
import fc from "fast-check";
import t from "tap";
import { EventBatch } from "../../src/router/kv/events/batch.ts";
import { newCounts } from "../../src/router/kv/events/cache.ts";
import { TokenChain } from "../../src/router/kv/events/chain.ts";
import { EventDecoder } from "../../src/router/kv/events/decode.ts";
import { Numbers } from "../../src/router/kv/events/numbers.ts";
import { Roots } from "../../src/router/kv/events/roots.ts";
import { EventStream } from "../../src/router/kv/events/stream.ts";
import { HolderTable } from "../../src/router/kv/table.ts";
import { EngineModel, framesOf, numbered, PROMPTS, ROUTER_BLOCK, type Sent } from "../support/events/engine-model.ts";

const BLOCKS = 6;
const LIMITS = { keys: 10_000, blocks: 10_000, words: 100_000 };

type Fate = "arrives" | "lost" | "twice" | "garbled" | "late";
type Step =
  | { do: "store"; prompt: number; from: number; count: number; fate: Fate }
  | { do: "remove"; prompt: number; block: number; fate: Fate }
  | { do: "clear"; fate: Fate }
  | { do: "restart" | "reconnect" | "replay" };

const fates = (kinds: readonly Fate[]) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constant("arrives" as const) },
    { weight: 2, arbitrary: fc.constantFrom(...kinds) },
  );

const steps = (kinds: readonly Fate[]): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.oneof(
      {
        weight: 12,
        arbitrary: fc.record({
          do: fc.constant("store" as const),
          prompt: fc.nat(PROMPTS - 1),
          from: fc.nat(BLOCKS - 2),
          count: fc.integer({ min: 1, max: 3 }),
          fate: fates(kinds),
        }),
      },
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constant("remove" as const),
          prompt: fc.nat(PROMPTS - 1),
          block: fc.nat(BLOCKS - 1),
          fate: fates(kinds),
        }),
      },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("clear" as const), fate: fates(kinds) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("restart" as const, "reconnect" as const) }) },
      { weight: 4, arbitrary: fc.constant({ do: "replay" as const }) },
    ),
    { maxLength: 60 },
  );

/** An engine, its stream, and the network between them. */
class World {
  readonly engine: EngineModel;
  readonly stream: EventStream;
  readonly #table = new HolderTable({ slots: 1024, endpoints: 16, rows: 64 });
  readonly #chain = new TokenChain(ROUTER_BLOCK);
  /** What was asked for and is still to be sent. */
  #asked: number | undefined;
  #late: Sent[] = [];
  #connected = false;

  constructor(blockSize: number, keeps: number, replays: boolean) {
    this.engine = new EngineModel(blockSize, keeps);
    const numbers = new Numbers(this.#table, () => 0x5eed);
    const room = { numbers, chain: this.#chain, roots: new Roots(this.#chain), batch: new EventBatch() };
    const ask = (from: number): void => void (this.#asked = from);
    this.stream = new EventStream(
      { ...room, decoder: new EventDecoder(), counts: newCounts() },
      { limits: LIMITS, turnover: 10_000, replays, ask },
    );
  }

  connect(): void {
    this.#late = [];
    this.#asked = undefined;
    if (this.#connected) this.stream.sequence.disconnected();
    this.#connected = true;
    this.stream.sequence.connected();
  }

  step(step: Step): void {
    if (!("fate" in step)) {
      this.#event(step.do);
      return;
    }
    const sent = this.#happen(step);
    if (sent !== undefined) this.#travel(sent, step.fate);
  }

  #event(what: "restart" | "reconnect" | "replay"): void {
    if (what === "replay") {
      this.answer();
      return;
    }
    if (what === "restart") this.engine.restart();
    this.connect();
  }

  /** The engine sends again what it was asked for, with a topic or without. */
  answer(): void {
    while (this.#asked !== undefined) {
      const from = this.#asked;
      this.#asked = undefined;
      for (const { sequence, payload } of this.engine.since(from))
        if (!this.#isAsked()) this.stream.replayed(...framesOf(Buffer.alloc(0), numbered(sequence), payload));
      if (this.#isAsked()) continue;
      this.stream.replayed(...framesOf(Buffer.alloc(0), Buffer.alloc(0), numbered(-1), Buffer.alloc(0)));
    }
  }

  /** Asked anew while it answered. */
  #isAsked(): boolean {
    return this.#asked !== undefined;
  }

  depth(prompt: number): number {
    const tokens = Int32Array.from(this.engine.tokens(prompt, BLOCKS));
    const keys = new Int32Array(2 * tokens.length);
    const count = this.#chain.extend(this.#chain.root(""), tokens, [0, tokens.length], keys);
    return this.#table.match(keys.subarray(0, 2 * count)).of(this.stream.number);
  }

  #happen(step: Extract<Step, { fate: Fate }>): Sent | undefined {
    const { engine } = this;
    if (step.do === "clear") return engine.clear();
    if (step.do === "remove") return engine.remove(step.prompt, step.block);
    return engine.store(step.prompt, step.from, Math.min(BLOCKS, step.from + step.count));
  }

  #travel(sent: Sent, fate: Fate): void {
    if (fate === "lost") return;
    if (fate === "late") return void this.#late.push(sent);
    const payload =
      fate === "garbled" ? Buffer.concat([sent.payload.subarray(0, 12), Buffer.alloc(9, 0xc1)]) : sent.payload;
    this.#arrive({ ...sent, payload });
    if (fate === "twice") this.#arrive(sent);
    const late = this.#late;
    this.#late = [];
    for (const one of late) this.#arrive(one);
  }

  #arrive({ sequence, payload }: Sent): void {
    this.stream.live(...framesOf(Buffer.from("topic"), numbered(sequence), payload));
  }
}

/** Router's blocks that end within so many tokens. */
const keysIn = (tokens: number): number => Math.floor(tokens / ROUTER_BLOCK);

function agrees(world: World): boolean {
  const { blockSize } = world.engine;
  for (let prompt = 0; prompt < PROMPTS; prompt++) {
    const truth = keysIn(world.engine.depth(prompt, BLOCKS) * blockSize);
    if (world.depth(prompt) !== truth) return false;
  }
  return true;
}

const sizes = fc.constantFrom(1, 4, 8, 16, 24, 32, 128);

t.test("without faults every prefix is known exactly, at any size of the engine's blocks", (t) => {
  fc.assert(
    fc.property(sizes, steps(["arrives"]), (size, all) => {
      const world = new World(size, 10_000, true);
      world.connect();
      world.answer();
      for (const step of all) {
        world.step(step);
        if (step.do !== "replay") world.answer();
        if (world.stream.sequence.state !== "live" || !agrees(world)) return false;
      }
      return true;
    }),
    { numRuns: 300 },
  );
  t.end();
});

t.test("lost, repeated, late and garbled messages, restarts: what is said to be live is true, and it recovers", (t) => {
  fc.assert(
    fc.property(sizes, fc.constantFrom(3, 10_000), steps(["lost", "twice", "late", "garbled"]), (size, keeps, all) => {
      const world = new World(size, keeps, true);
      world.connect();
      for (const step of all) world.step(step);
      // The next message shows every gap; a cleared cache makes it whole again, whatever was lost.
      for (const step of [{ do: "clear", fate: "arrives" }, { do: "replay" }] as const) world.step(step);
      world.step({ do: "store", prompt: 1, from: 0, count: 3, fate: "arrives" });
      world.answer();
      return world.stream.sequence.state === "live" && agrees(world);
    }),
    { numRuns: 500 },
  );
  t.end();
});

t.test("of an engine that sends nothing again, nothing is claimed that it does not hold", (t) => {
  fc.assert(
    fc.property(sizes, steps(["lost", "twice", "garbled"]), (size, all) => {
      const world = new World(size, 0, false);
      world.connect();
      for (const step of all) world.step(step);
      // Whatever was missed before, one more message shows it.
      world.step({ do: "store", prompt: 2, from: 0, count: 1, fate: "arrives" });
      if (world.stream.sequence.state === "live") return agrees(world);
      for (let prompt = 0; prompt < PROMPTS; prompt++)
        if (world.depth(prompt) > keysIn(world.engine.depth(prompt, BLOCKS) * size)) return false;
      return true;
    }),
    { numRuns: 500 },
  );
  t.end();
});
