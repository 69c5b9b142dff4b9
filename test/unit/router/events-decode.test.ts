/** The decoder of KV events: golden payloads of every version, and whatever is none. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { Packr, Unpackr } from "msgpackr";
import t from "tap";
import { EventBatch, TIER } from "../../../src/router/kv/events/batch.ts";
import { EventDecoder, timeOf } from "../../../src/router/kv/events/decode.ts";

interface Expected {
  readonly kind: string;
  readonly hashes?: readonly string[];
  readonly parent?: string | null;
  readonly tokens?: readonly number[];
  readonly [key: string]: unknown;
}

interface Golden {
  readonly name: string;
  readonly payload: string;
  readonly time: number;
  readonly rank: number | null;
  readonly events: readonly Expected[];
}

const goldens = JSON.parse(
  readFileSync(new URL("../../golden/events/payloads.json", import.meta.url), "utf8"),
) as Golden[];

const wide = (low: number, high: number): string => String((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0));
const TIERS = new Map<number, string>(Object.entries(TIER).map(([name, tier]) => [tier, name]));

/** A batch in the form of the goldens. */
function shown(batch: EventBatch): Expected[] {
  return Array.from({ length: batch.count }, (_, at) => {
    const event = batch.event(at);
    if (event.kind === "cleared") return { kind: "cleared" };
    const hashes = Array.from({ length: event.hashCount }, (_, hash) => {
      const index = 2 * (event.hashAt + hash);
      return wide(batch.hashes[index]!, batch.hashes[index + 1]!);
    });
    const common = { kind: event.kind, hashes, tier: TIERS.get(event.tier), group: event.group };
    if (event.kind === "removed") return common;
    return {
      ...common,
      parent: event.hasParent ? wide(event.parentLow, event.parentHigh) : null,
      tokens: [...batch.tokens.subarray(event.tokenAt, event.tokenAt + event.tokenCount)],
      blockSize: event.blockSize,
      lora: event.lora ?? null,
      salt: event.salt ?? null,
      isFull: event.isFull,
      extra: event.extraAt >= 0,
    };
  });
}

const decoder = new EventDecoder();

for (const { name, payload, time, rank, events } of goldens)
  t.test(`golden: ${name}`, (t) => {
    const batch = new EventBatch();
    const bytes = Buffer.from(payload, "hex");
    t.equal(decoder.decode(batch, bytes), undefined);
    t.equal(batch.time, time);
    t.equal(timeOf(bytes), time);
    t.equal(batch.rank ?? null, rank);
    t.same(shown(batch), events);
    t.end();
  });

t.test("each golden, cut anywhere or with a byte changed, never throws and never reads beyond", (t) => {
  const batch = new EventBatch();
  const bytes = fc.constantFrom(...goldens.map(({ payload }) => Buffer.from(payload, "hex")));
  fc.assert(
    fc.property(bytes, fc.nat(), fc.nat(255), fc.boolean(), (whole, where, value, cut) => {
      const at = where % whole.length;
      const broken = cut ? whole.subarray(0, at) : Buffer.from(whole);
      if (!cut) broken[at] = value;
      const why = decoder.decode(batch, broken);
      return why === undefined ? batch.count <= 4 : batch.count === 0 && batch.tokenCount === 0;
    }),
    { numRuns: 3000 },
  );
  for (const { payload } of goldens) {
    const whole = Buffer.from(payload, "hex");
    for (let at = 0; at < whole.length; at++) t.type(decoder.decode(batch, whole.subarray(0, at)), "string");
  }
  t.end();
});

const packer = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: "bigint" });
const oracle = new Unpackr({ mapsAsObjects: true, int64AsType: "bigint" });

const hash = fc.oneof(fc.nat(200), fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(-(2n ** 63n), -1n));
const tokens = fc.array(fc.oneof(fc.nat(300), fc.nat(2 ** 31 - 1)), { maxLength: 40 });
const text = (...values: string[]) => fc.option(fc.constantFrom(...values));
const stored = fc.record({
  type: fc.constant("BlockStored"),
  block_hashes: fc.array(hash, { minLength: 1, maxLength: 6 }),
  parent_block_hash: fc.option(hash),
  token_ids: tokens,
  block_size: fc.integer({ min: 1, max: 2000 }),
  lora_id: fc.option(fc.nat(9)),
  medium: text("GPU", "gpu", "CPU", "CPU_PINNED", "DISK"),
  lora_name: text("a", "b"),
});
const removed = fc.record({
  type: fc.constant("BlockRemoved"),
  block_hashes: fc.array(hash, { maxLength: 6 }),
  medium: text("GPU", "CPU"),
});
const other = fc.record({ type: fc.constantFrom("AllBlocksCleared", "SomethingNew"), more: fc.jsonValue() });
const anyEvent = fc.oneof(stored, removed, other) as fc.Arbitrary<Record<string, unknown>>;

/** 64 bits of a hash, however it was written. */
const bits = (value: number | bigint): string => String(BigInt.asUintN(64, BigInt(value)));

t.test("what msgpackr reads is what is read here, in all four shapes", (t) => {
  const batch = new EventBatch();
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 5 }), fc.boolean(), fc.boolean(), (events, outer, inner) => {
      const each = events.map((event) => (inner ? event : Object.values(event)));
      const payload = packer.pack(outer ? { ts: 1.5, events: each, data_parallel_rank: 3 } : [1.5, each, 3]);
      t.equal(decoder.decode(batch, payload), undefined);
      const read = oracle.unpack(payload) as unknown;
      const list = (outer ? (read as { events: unknown[] }).events : (read as unknown[])[1]) as unknown[];
      const known = list
        .map((one) => (inner ? (one as Record<string, unknown>) : named(one as unknown[])))
        .filter(({ type }) => type !== "SomethingNew");
      t.equal(batch.unknown, list.length - known.length);
      const seen = shown(batch);
      t.equal(seen.length, known.length);
      known.forEach((one, at) => {
        if (one["type"] === "AllBlocksCleared") return;
        t.same(seen[at]!.hashes, (one["block_hashes"] as bigint[]).map(bits));
        if (one["type"] !== "BlockStored") return;
        const parent = one["parent_block_hash"] as bigint | null;
        t.equal(seen[at]!.parent, parent === null ? null : bits(parent));
        t.same(seen[at]!.tokens, (one["token_ids"] as (number | bigint)[]).map(Number));
      });
    }),
    { numRuns: 300 },
  );
  t.end();
});

/** Fields by position. */
function named([type, ...fields]: unknown[]): Record<string, unknown> {
  if (type === "BlockStored")
    return { type, block_hashes: fields[0], parent_block_hash: fields[1], token_ids: fields[2] };
  return type === "BlockRemoved" ? { type, block_hashes: fields[0] } : { type };
}

t.test("lies about lengths cost nothing", (t) => {
  const batch = new EventBatch();
  const before = process.memoryUsage().rss;
  for (const lie of ["dd7fffffff", "93cb3ff8000000000000dd7fffffffc0", "c67fffffff", `${"91".repeat(5000)}c0`])
    t.type(decoder.decode(batch, Buffer.from(lie, "hex")), "string");
  t.ok(process.memoryUsage().rss - before < 64 * 2 ** 20);
  t.end();
});
