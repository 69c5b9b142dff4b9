/**
 * What faults of KV events cost: the real thread over real sockets, four engines whose caches are known, and the router's own
 * selection asked some hundred times a second. One row a fault: before it, while it lasts, and until all is known again.
 */
import { fork, type ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { randomOf } from "../../support/hostile.ts";
import { memoryOf, quantile, rounded } from "../../support/usage.ts";
import { endpointOf, Fleet, OTHER_MODEL } from "./fault-fleet.ts";
import type { Network } from "./fault-rank.ts";
import { promptOf, World, type PromptOf, type Seen } from "./fault-world.ts";
import type { FloodOrder } from "./flood.ts";

export interface FaultRow {
  readonly fault: string;
  readonly picks: number;
  /** Share of what was known of candidates that events told. */
  readonly byEvents: number;
  /** Endpoints picked or offered that were removed, of another model, or not allowed. */
  readonly wrongEndpoints: number;
  readonly staleClaims: number;
  readonly longestStaleMs: number;
  /** Claims of what the engine never held. */
  readonly neverHeld: number;
  /** From the end of the fault until all is live and known exactly; null: not within 30 s. */
  readonly recoveredMs: number | null;
  /** Mean over picks, at the endpoint that was picked; a prompt has 512. */
  readonly wrongTokens: number;
  readonly pickP99Us: number;
  readonly grownMiB: number;
  readonly note: string;
}

interface Fault {
  readonly name: string;
  readonly ranks?: number;
  readonly replays?: boolean;
  /** Begins; may last, while picks go on. */
  readonly begin?: (stage: Stage) => Promise<void> | void;
  readonly end?: (stage: Stage) => Promise<void> | void;
  readonly note?: (stage: Stage) => Promise<string> | string;
}

interface Stage {
  readonly fleet: Fleet;
  readonly world: World;
  readonly prompts: Prompts;
  flooder?: ChildProcess;
}

const SEED = 20266;
const ENGINES = 4;
/** Of each rank: blocks go some seconds after they were last used. */
const CAPACITY = 4000;
const GROUPS = 24;
/** Blocks of a group's system prompt, and of a question. */
const SYSTEM = 24;
const OWN = 8;
/** Questions that come again and again, and that are looked at when it is asked whether all is known. */
const FAMILIAR = 120;
const FAMILIAR_SHARE = 0.25;
/** Others come once more, a while after: of some the engines have given up the question by then. */
const AGAIN_SHARE = 0.25;
const AGAIN = 3000;
/** Picks of one turn, and the turns of a second. */
const PICKS = 6;
const TURN_MS = 10;
const WARM_MS = 2000;
const RECOVERED_MS = 30_000;
/** Between two looks the engines rest, until what is on its way has come. */
const REST_MS = 40;
const DOWN_MS = 1000;

const network = (kind: Network): Pick<Fault, "begin" | "end"> => ({
  begin: ({ fleet }) => ranksOf(fleet).forEach((rank) => (rank.network = kind)),
  end: ({ fleet }) => ranksOf(fleet).forEach((rank) => rank.calm()),
});

const ranksOf = (fleet: Fleet) => fleet.engines.flatMap(({ ranks }) => ranks);

const lost = ({ fleet }: Stage): string => `${ranksOf(fleet).reduce((sum, rank) => sum + rank.lost, 0)} messages lost`;

async function restart({ fleet }: Stage): Promise<void> {
  const engine = fleet.engines[1];
  engine?.stop();
  await sleep(DOWN_MS);
  await engine?.start();
}

/** One more engine, of another model, that tells of new blocks as fast as it is read. */
async function flood(stage: Stage): Promise<void> {
  const child = fork(new URL("./flood.ts", import.meta.url), { serialization: "advanced" });
  stage.flooder = child;
  const { ports } = await new Promise<{ ports: number[] }>((resolve) => {
    child.once("message", (message) => resolve(message as { ports: number[] }));
    child.send({ engines: 1 } satisfies FloodOrder);
  });
  stage.fleet.add(endpointOf("127.0.0.1:9900", OTHER_MODEL, { port: ports[0] ?? 0 }));
  stage.world.tidy();
}

async function flooded({ world }: Stage): Promise<string> {
  const stored = /event_blocks_total\{kind="stored"\} (\d+)/.exec(await world.page())?.[1] ?? "0";
  return `${rounded(Number(stored) / 1e6, 2)} M blocks stored, ${world.blocksOf("static:127.0.0.1:9900")} kept of the flood`;
}

const collide = (bits: number) => (stage: Stage) => {
  for (const rank of ranksOf(stage.fleet)) {
    rank.hashBits = bits;
    rank.clear();
  }
};

const FAULTS: readonly Fault[] = [
  { name: "none" },
  { name: `engine restarts at the same ports, down ${DOWN_MS} ms`, begin: restart, end: restart },
  { name: "10 % of messages lost", ...network("lost"), note: lost },
  { name: "10 % lost, no replay port", replays: false, ...network("lost"), note: lost },
  { name: "publisher 2 s behind", ...network("late") },
  { name: "3 ranks, messages reordered", ranks: 3, ...network("shuffled") },
  { name: "flood from one engine", begin: flood, end: ({ flooder }) => void flooder?.kill(), note: flooded },
  { name: "engine hashes of 9 bits collide", begin: collide(9), end: collide(64) },
];

/** Prompts of a few groups with a long system prompt each: some come again, most are new. */
class Prompts {
  readonly familiar: readonly PromptOf[];
  readonly #random: () => number;
  #fresh = FAMILIAR;

  constructor(random: () => number) {
    this.#random = random;
    this.familiar = Array.from({ length: FAMILIAR }, (_, at) => promptOf(this.#blocks(at)));
  }

  next(): PromptOf {
    const at = Math.floor(this.#random() * FAMILIAR);
    const kind = this.#random();
    if (kind < FAMILIAR_SHARE) return this.familiar[at] as PromptOf;
    if (kind < FAMILIAR_SHARE + AGAIN_SHARE)
      return promptOf(this.#blocks(this.#fresh - 1 - Math.floor(this.#random() * AGAIN)));
    return promptOf(this.blocks());
  }

  /** Of a prompt that was never asked. */
  blocks(): number[] {
    return this.#blocks(this.#fresh++);
  }

  #blocks(question: number): number[] {
    const group = question % GROUPS;
    const system = Array.from({ length: SYSTEM }, (_, at) => group * 100 + at);
    return [...system, ...Array.from({ length: OWN }, (_, at) => 100_000 + question * OWN + at)];
  }
}

/** Requests come and are served until a time, or until something has happened. */
async function requests({ world, prompts }: Stage, ms: number, until?: Promise<void> | void): Promise<void> {
  let isOver = until === undefined;
  void until?.then(() => (isOver = true));
  const end = performance.now() + ms;
  while (performance.now() < end || !isOver) {
    for (let at = 0; at < PICKS; at++) world.pick(prompts.next());
    await sleep(TURN_MS);
  }
}

/** An endpoint is removed while its engine goes on publishing, and another comes at its address and ports. */
async function change(stage: Stage, ms: number): Promise<void> {
  const { fleet, world } = stage;
  const gone = fleet.engines[2];
  if (gone === undefined) return;
  fleet.leave(gone);
  world.tidy();
  await requests(stage, ms);
  gone.stop();
  // Its ports are free then.
  await sleep(DOWN_MS / 4);
  await fleet.replace(gone);
  world.tidy();
}

/** Milliseconds until everything is live and known exactly; requests go on, with a rest before each look. */
async function recovered(stage: Stage): Promise<number | null> {
  const begun = performance.now();
  for (;;) {
    await sleep(REST_MS);
    const waited = performance.now() - begun;
    if (stage.world.isExact(stage.prompts.familiar)) return rounded(waited, 0);
    if (waited > RECOVERED_MS) return null;
    await requests(stage, 4 * TURN_MS);
  }
}

async function live({ world }: Stage): Promise<void> {
  for (let waited = 0; !world.isLive(); waited += 20) {
    if (waited > RECOVERED_MS) throw new Error("the engines' events are never live");
    await sleep(20);
  }
}

async function run(fault: Fault, seconds: number): Promise<FaultRow> {
  const random = randomOf(SEED);
  const { ranks = 1, replays = true } = fault;
  const fleet = new Fleet({ engines: ENGINES, capacity: CAPACITY, ranks, replays, random });
  await fleet.start();
  const world = new World(fleet, random);
  const stage: Stage = { fleet, world, prompts: new Prompts(random) };
  try {
    // Caches are full from the first request on.
    for (const rank of ranksOf(fleet)) for (let own = 0; own < CAPACITY; own += OWN) rank.serve(stage.prompts.blocks());
    world.tidy();
    // Without a replay an engine is believed from its first message on.
    if (replays) await live(stage);
    else await sleep(500);
    await requests(stage, WARM_MS);
    return await disturbed(fault, stage, seconds);
  } finally {
    stage.flooder?.kill();
    world.stop();
    fleet.stop();
  }
}

async function disturbed(fault: Fault, stage: Stage, seconds: number): Promise<FaultRow> {
  const { world } = stage;
  const before = memoryOf(process.pid).rssMb;
  world.begin();
  const begun = fault.begin?.(stage);
  await requests(stage, (seconds * 1000) / 3, begun);
  await change(stage, (seconds * 1000) / 3);
  await requests(stage, (seconds * 1000) / 3);
  const grownMiB = memoryOf(process.pid).rssMb - before;
  await requests(stage, 0, fault.end?.(stage));
  const recoveredMs = await recovered(stage);
  const note = (await fault.note?.(stage)) ?? "";
  return { fault: fault.name, ...figures(world.seen), recoveredMs, grownMiB, note };
}

function figures({ picks, wrong, stale, errors, tookUs, byEvents, candidates }: Seen) {
  const ages = stale.filter((age) => !Number.isNaN(age));
  return {
    picks,
    byEvents: rounded(byEvents / candidates, 3),
    wrongEndpoints: wrong,
    staleClaims: stale.length,
    longestStaleMs: rounded(Math.max(0, ...ages), 0),
    neverHeld: stale.length - ages.length,
    wrongTokens: rounded(errors.reduce((sum, error) => sum + error, 0) / Math.max(1, errors.length), 2),
    pickP99Us: rounded(quantile(tookUs, 0.99), 0),
  };
}

/** @param progress told after each row */
export async function faults(seconds: number, only: string, progress: (text: string) => void): Promise<FaultRow[]> {
  const rows: FaultRow[] = [];
  const chosen = FAULTS.filter(({ name }) => name.includes(only));
  for (const [at, fault] of chosen.entries()) {
    progress(`${at + 1} of ${chosen.length}: ${fault.name}`);
    rows.push(await run(fault, seconds));
  }
  return rows;
}
