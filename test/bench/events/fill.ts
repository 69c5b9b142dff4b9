/** Memory and lookups when very many blocks are known, of 64 engines that share nothing. */
import { EventBatch } from "../../../src/router/kv/events/batch.ts";
import { EngineCache, newCounts } from "../../../src/router/kv/events/cache.ts";
import { TokenChain } from "../../../src/router/kv/events/chain.ts";
import { Numbers } from "../../../src/router/kv/events/numbers.ts";
import { Roots } from "../../../src/router/kv/events/roots.ts";
import { marksWith } from "../../../src/router/kv/events/presence.ts";
import { bytesOf, HolderTable } from "../../../src/router/kv/table.ts";
import { memoryOf, quantile, rounded } from "../../support/usage.ts";
import type { Row } from "../events.ts";

const ENGINES = 64;
const CHAIN = 256;
const LOOKUPS = 4000;
/** Any, as the router takes one. */
const SECRET = [0x9e3779b1 | 0, 0x85ebca77 | 0] as const;
const MIB = 2 ** 20;

export function fill(blocks: number): Row[] {
  const before = memoryOf(process.pid).rssMb;
  const slots = 2 ** Math.ceil(Math.log2(blocks / 0.7));
  const geometry = { slots, endpoints: 2 * ENGINES, rows: 4096, secret: SECRET };
  const table = new HolderTable(geometry);
  const numbers = new Numbers(table, () => 0x5eed);
  const chain = new TokenChain(16);
  const chains = Math.floor(blocks / ENGINES / CHAIN);
  const limits = { keys: chains * CHAIN, blocks: chains * CHAIN, words: 0 };
  const options = {
    chain,
    roots: new Roots(chain),
    renew: (held: EngineCache["held"] | undefined) => numbers.renew(held, limits),
  };
  const caches = Array.from({ length: ENGINES }, () => new EngineCache(options, newCounts()));
  const batch = new EventBatch();
  for (let at = 0; at < chains; at++)
    caches.forEach((cache, engine) => {
      prompt(batch, engine * chains + at);
      cache.apply(batch);
    });
  const beside = caches.reduce((sum, { held }) => sum + held.bytes, 0);
  const grown = memoryOf(process.pid).rssMb - before;
  const took = lookups(new HolderTable(geometry, table.buffer), chain, ENGINES * chains);
  const known = caches.reduce((sum, { held }) => sum + held.keys, 0);
  return [
    { measure: "blocks known", value: known, unit: "blocks", target: "" },
    { measure: "shared table", value: rounded(bytesOf(geometry) / MIB), unit: "MiB", target: "< 300" },
    { measure: "engines' names of blocks", value: rounded(beside / MIB), unit: "MiB", target: "" },
    { measure: "growth of the process", value: grown, unit: "MiB", target: "< 700" },
    { measure: `lookup of ${CHAIN} blocks, p50`, value: rounded(quantile(took.each, 0.5)), unit: "us", target: "< 25" },
    { measure: `lookup of ${CHAIN} blocks, p99`, value: rounded(quantile(took.each, 0.99)), unit: "us", target: "" },
    { measure: `lookup of ${CHAIN} blocks, processor time`, value: rounded(took.cpu), unit: "us", target: "" },
  ];
}

/** The blocks of one prompt, in a batch as the decoder leaves it. */
function prompt(batch: EventBatch, number: number): void {
  batch.reset();
  batch.reserveHashes(CHAIN);
  batch.reserveTokens(16 * CHAIN);
  const event = batch.next();
  Object.assign(event, { kind: "stored", hashCount: CHAIN, tokenCount: 16 * CHAIN, blockSize: 16 });
  for (let at = 0; at < CHAIN; at++) {
    batch.hashes[2 * at] = Math.imul(number * CHAIN + at + 1, 0x9e3779b1);
    batch.hashes[2 * at + 1] = Math.imul(number * CHAIN + at + 1, 0x85ebca77) ^ number;
  }
  for (let at = 0; at < 16 * CHAIN; at++) batch.tokens[at] = tokenOf(number, at);
}

const tokenOf = (prompt: number, at: number): number =>
  (Math.imul(prompt + 1, 0x9e3779b1) ^ Math.imul(at, 0x85ebca77)) >>> 15;

interface Took {
  /** Of each, microseconds. */
  readonly each: readonly number[];
  /** Processor time, mean. */
  readonly cpu: number;
}

/** Each of another prompt, at random: nothing of it is in the processor's cache. */
function lookups(table: HolderTable, chain: TokenChain, prompts: number): Took {
  const device = marksWith(1);
  const asked = Array.from({ length: LOOKUPS }, (_, round) =>
    keysOf(chain, (Math.imul(round + 1, 0x9e3779b1) >>> 0) % prompts),
  );
  const each = new Float64Array(LOOKUPS);
  const before = process.threadCpuUsage();
  for (let round = 0; round < LOOKUPS; round++) {
    const begun = performance.now();
    const matches = table.match(asked[round] as Int32Array, device);
    each[round] = (performance.now() - begun) * 1000;
    if (round < 10 && !Array.from({ length: ENGINES }, (_, id) => matches.of(id)).includes(CHAIN))
      throw new Error("a prompt is not found");
  }
  const { user, system } = process.threadCpuUsage(before);
  return { each: [...each], cpu: (user + system) / LOOKUPS };
}

function keysOf(chain: TokenChain, prompt: number): Int32Array {
  const tokens = Int32Array.from({ length: 16 * CHAIN }, (_, at) => tokenOf(prompt, at));
  const keys = new Int32Array(2 * CHAIN);
  chain.extend(chain.root(""), tokens, [0, tokens.length], keys);
  return keys;
}
