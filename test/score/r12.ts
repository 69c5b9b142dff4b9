/** R12: KV events lost, repeated, late, garbled, engines that begin anew, over libzmq's sockets into the real thread. */
import { setTimeout as sleep } from "node:timers/promises";
import { startFollowing, type Following } from "../../src/cli/roles/following.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { EngineModel, PROMPTS, ROUTER_BLOCK, type Sent } from "../support/events/engine-model.ts";
import { EventPublisher } from "../support/events/publisher.ts";
import { randomOf } from "../support/hostile.ts";
import { quantile, rounded } from "../support/usage.ts";
import { sizeOf } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const SECONDS = sizeOf("R12_SECONDS", 60);
const RESTARTS = 6;
const BLOCKS = 6;
const MOST_STALE_MS = 5000;
const FAULTS = 0.1;
const SEED = 20262;

/** The engine, and what lies between it and us. */
class Proxied {
  model = new EngineModel(ROUTER_BLOCK, 10_000);
  publisher!: EventPublisher;
  readonly counts = { sent: 0, lost: 0, repeated: 0, late: 0, garbled: 0, restarts: 0 };
  /** When a prompt's cached prefix last became shorter. */
  readonly shrunkAt = new Array<number>(PROMPTS).fill(0);
  #late: Sent[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  async start(): Promise<void> {
    this.publisher = await EventPublisher.start({ topic: true, source: (from) => this.model.since(from) });
  }

  /** Another process at the same ports. */
  async restart(): Promise<void> {
    const { port, replayPort = 0 } = this.publisher;
    this.publisher.stop();
    this.counts.restarts += 1;
    this.shrunkAt.fill(performance.now());
    this.model.restart();
    await sleep(200);
    this.publisher = await EventPublisher.start({
      topic: true,
      source: (from) => this.model.since(from),
      port,
      replayPort,
    });
  }

  async step(): Promise<void> {
    const before = this.depths();
    const sent = this.#happen();
    this.depths().forEach((depth, prompt) => {
      if (depth < (before[prompt] ?? 0)) this.shrunkAt[prompt] = performance.now();
    });
    if (sent !== undefined) await this.#travel(sent);
  }

  /** The engine gives up the start of a prompt, and nobody hears of it: no message behind it shows that one is missing. */
  loseLastWord(): void {
    const prompt = this.depths().findIndex((depth) => depth > 0);
    if (prompt < 0) return;
    while (this.model.depth(prompt, 1) > 0 && this.model.remove(prompt, 0) !== undefined) this.counts.lost += 1;
    this.depths().forEach((depth, at) => {
      if (depth === 0) this.shrunkAt[at] = performance.now();
    });
  }

  depths(): number[] {
    return Array.from({ length: PROMPTS }, (_, prompt) => this.model.depth(prompt, BLOCKS));
  }

  isUnlucky(): boolean {
    return this.#random() < 0.3;
  }

  #happen(): Sent | undefined {
    const [what, prompt] = [this.#random(), Math.floor(this.#random() * PROMPTS)];
    const block = Math.floor(this.#random() * BLOCKS);
    if (what < 0.6) return this.model.store(prompt, Math.min(block, 4), Math.min(BLOCKS, block + 2));
    return what < 0.99 ? this.model.remove(prompt, block) : this.model.clear();
  }

  async #travel({ sequence, payload }: Sent): Promise<void> {
    this.counts.sent += 1;
    const fault = this.#random();
    if (fault < FAULTS / 4) return void (this.counts.lost += 1);
    if (fault < FAULTS / 2) {
      this.counts.late += 1;
      return void this.#late.push({ sequence, payload });
    }
    const garbled = fault < 0.75 * FAULTS;
    const repeated = !garbled && fault < FAULTS;
    if (garbled) this.counts.garbled += 1;
    if (repeated) this.counts.repeated += 1;
    await this.publisher.raw(sequence, garbled ? this.#garbage() : payload);
    if (repeated) await this.publisher.raw(sequence, payload);
    for (const one of this.#late.splice(0)) await this.publisher.raw(one.sequence, one.payload);
  }

  #garbage(): Buffer {
    return Buffer.from(Array.from({ length: 40 }, () => Math.floor(this.#random() * 256)));
  }
}

interface Seen {
  /** Milliseconds between a prefix's becoming shorter and an answer that still claimed it. */
  readonly stale: number[];
  looks: number;
  live: number;
  exact: number;
}

function look({ index }: Following, proxied: Proxied, seen: Seen): void {
  const isLive = index.isLive("e");
  proxied.depths().forEach((truth, prompt) => {
    seen.looks += 1;
    if (!isLive) return;
    seen.live += 1;
    const tokens = Int32Array.from(proxied.model.tokens(prompt, BLOCKS));
    const keys = index.keys(tokens, { model: "m", adapter: undefined, salt: undefined, tenant: "" });
    const claimed = keys === undefined ? 0 : (index.match(keys).all(["e"]).device[0] ?? 0) / ROUTER_BLOCK;
    if (claimed === truth) seen.exact += 1;
    if (claimed > truth) seen.stale.push(performance.now() - (proxied.shrunkAt[prompt] ?? 0));
  });
}

/** The thread, told of one engine, when it knows all that this one holds. */
async function follow({
  publisher: { port, replayPort = 0 },
}: Proxied): Promise<Following & { page(): Promise<string> }> {
  const ports = createPorts(loadConfig({ flags: { "router.events.maxBytes": "4194304" } }), SILENT_LOG);
  const following = startFollowing(ports);
  if (following === undefined) throw new Error("events are on by default");
  const target = { id: "e", bootId: "1", host: "127.0.0.1", port, replayPort, ranks: 1, guessed: false };
  following.feed.follow([{ ...target, capacityTokens: 1_000_000 }]);
  while (!following.index.isLive("e")) await sleep(20);
  return { ...following, page: () => ports.metrics.page() };
}

const LOOK_MS = 25;
/** Every other restart comes after a silence, in which it is asked whether all had come. */
const SILENCE_MS = 4000;

async function disturb(proxied: Proxied, following: Following, progress: Progress): Promise<Seen> {
  const seen: Seen = { stale: [], looks: 0, live: 0, exact: 0 };
  const watch = async (ms: number): Promise<void> => {
    for (let waited = 0; waited < ms; waited += LOOK_MS) {
      await sleep(LOOK_MS);
      look(following, proxied, seen);
    }
  };
  for (let restart = 1; restart <= RESTARTS; restart++) {
    const until = performance.now() + (SECONDS * 1000) / RESTARTS - (restart % 2 === 0 ? SILENCE_MS : 0);
    do {
      for (let at = 0; at < 20; at++) await proxied.step();
      if (proxied.isUnlucky()) proxied.loseLastWord();
      await watch(restart % 2 === 0 ? 400 : 50);
    } while (performance.now() < until);
    if (restart % 2 === 0) {
      proxied.loseLastWord();
      await watch(SILENCE_MS);
    }
    await proxied.restart();
    progress(`${restart} restarts, ${proxied.counts.sent} messages`);
  }
  return seen;
}

async function run(progress: Progress): Promise<ScoreResult> {
  const proxied = new Proxied(randomOf(SEED));
  await proxied.start();
  const following = await follow(proxied);
  const seen = await disturb(proxied, following, progress);
  const page = await following.page();
  const crashes = Number(/thread_restarts_total\{thread="events",[^}]*\} (\d+)/.exec(page)?.[1] ?? 0);
  following.feed.stop();
  proxied.publisher.stop();
  const worst = rounded(Math.max(0, ...seen.stale), 0);
  const figures = {
    ...{ seconds: SECONDS, ...proxied.counts, answers: seen.looks },
    liveShare: rounded(seen.live / seen.looks, 3),
    exactShareOfLive: rounded(seen.exact / Math.max(1, seen.live), 4),
    ...{
      staleAnswers: seen.stale.length,
      staleP50Ms: rounded(quantile(seen.stale, 0.5), 0),
      staleWorstMs: worst,
      crashes,
    },
  };
  const tried = Object.values(proxied.counts).every((count) => count > 0);
  return { figures, met: tried && crashes === 0 && worst <= MOST_STALE_MS && seen.live > 0 };
}

export const row: ScoreRow = {
  id: "R12",
  fault: `KV events over ZeroMQ: ${100 * FAULTS} % lost, repeated, late or garbled, and ${RESTARTS} restarts of the engine, for ${SECONDS} s`,
  required: `no crash; no prefix is claimed later than ${MOST_STALE_MS} ms after the engine lost it`,
  run,
};
