import { readFileSync } from "node:fs";
import t from "tap";
import { blockCount, createBlockHasher } from "../../../src/router/kv/blocks.ts";
import { CHAIN_WASM } from "../../../src/router/kv/chain.wasm.ts";
import { STRINGS_WASM } from "../../../src/router/request/strings.wasm.ts";
import { assembledBase64 } from "../../support/wat.ts";
import { HistoryIndex } from "../../../src/router/kv/history.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { indexCapacity } from "../../../src/router/select.ts";

const text = (length: number, salt = ""): Buffer[] => [
  Buffer.from(salt + "abcdefghij".repeat(length)).subarray(0, length),
];

t.test("block keys chain: equal from the start, different from the first difference on", (t) => {
  const hasher = createBlockHasher();
  const a = hasher.keys(text(640), 64, "m");
  t.equal(blockCount(a), 10);
  t.same(hasher.keys([...text(320), text(640)[0]!.subarray(320)], 64, "m"), a, "parts do not matter");
  const changed = Buffer.from(text(640)[0]!);
  changed[200] = 0;
  const b = hasher.keys([changed], 64, "m");
  t.same(b.subarray(0, 6), a.subarray(0, 6), "three blocks before the change");
  for (let block = 3; block < 10; block++)
    t.notSame(b.subarray(block * 2, block * 2 + 2), a.subarray(block * 2, block * 2 + 2));
  t.notSame(hasher.keys(text(640), 64, "other"), a, "the seed separates models");
  t.equal(blockCount(hasher.keys(text(63), 64, "m")), 0, "an incomplete block has no key");
  t.end();
});

t.test("the index answers with the leading run, per endpoint", (t) => {
  const hasher = createBlockHasher();
  const index = new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 100);
  const long = hasher.keys(text(640), 64, "m");
  index.record("a", long.subarray(0, 8));
  t.equal(index.match(long).of("a"), 4);
  t.equal(index.match(long).of("b"), 0);
  index.forget("a");
  t.equal(index.match(long).of("a"), 0);
  t.end();
});

t.test("of a prompt that is longer than an engine's cache its start is remembered, and no more than fits", (t) => {
  // So many slots that none of the generations it fills is swept on the way.
  const index = new HistoryIndex({ slots: 65_536, endpoints: 4, rows: 64 }, 60);
  const keys = Int32Array.from({ length: 2 * 5000 }, (_, word) => word + 1);
  index.record("a", keys);
  t.ok(index.blocks <= 60, `${index.blocks} blocks`);
  const known = index.match(keys).of("a");
  t.ok(known >= 50 && known <= 60, `${known} blocks from the start`);
  t.end();
});

t.test("an endpoint that goes while it gives up blocks is counted once", (t) => {
  const hasher = createBlockHasher();
  const index = new HistoryIndex({ slots: 4096, endpoints: 64, rows: 64 }, 1000);
  const prompt = (salt: string): Int32Array => hasher.keys(text(100 * 64, salt), 64, "m");
  for (let count = 0; count < 9; count++) index.record("gone", prompt(`gone ${count} `));
  index.resize("gone", 1);
  index.forget("gone");
  // More than the table has room for: whoever holds most gives way, if what is there is counted as it is.
  for (let count = 0; count < 80; count++) {
    const keys = prompt(`stays ${count} `);
    index.record(`stays ${count % 8}`, keys);
    t.equal(index.match(keys).of(`stays ${count % 8}`), 100, "the newest prompt always finds room");
  }
  t.end();
});

t.test("capacity evicts the oldest prompt and tails before heads", (t) => {
  const hasher = createBlockHasher();
  const index = new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 10);
  const [first, second] = [hasher.keys(text(384), 64, "m"), hasher.keys(text(512, "x"), 64, "m")];
  index.record("a", first);
  index.record("a", second);
  t.equal(index.blocks, 10);
  t.equal(index.match(second).of("a"), 8);
  t.equal(index.match(first).of("a"), 2, "its first blocks are still there");
  index.resize("a", 4);
  t.equal(index.match(second).of("a"), 4, "a smaller engine keeps the newest heads");
  t.end();
});

t.test("an engine cannot make its index as large as it likes", (t) => {
  const { index } = loadConfig().router;
  const stats = (blocks: number) => ({ stats: { at: 0, running: 0, waiting: 0, kvUsage: 0, blockSize: 16, blocks } });
  t.equal(indexCapacity(stats(10_000), index), (10_000 * 16 * index.bytesPerToken) / index.blockBytes);
  for (const blocks of [1e9, 1e15, Number.MAX_SAFE_INTEGER])
    t.equal(indexCapacity(stats(blocks), index), 2 ** 20, String(blocks));
  t.equal(indexCapacity(stats(0.001), index), 1);
  t.end();
});

t.test("gone endpoints are forgotten, whenever something was recorded on them", (t) => {
  const hasher = createBlockHasher();
  const index = new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 100);
  const keys = hasher.keys(text(640), 64, "m");
  for (const id of ["a", "b"]) index.record(id, keys);
  index.keep(new Set(["b"]));
  t.same([index.match(keys).of("a"), index.match(keys).of("b"), index.blocks], [0, 10, 10]);
  t.end();
});

t.test("the modules in use are those that the .wat files describe", async (t) => {
  for (const [path, module] of [
    ["kv/chain.wat", CHAIN_WASM],
    ["request/strings.wat", STRINGS_WASM],
  ] as const) {
    const source = readFileSync(new URL(`../../../src/router/${path}`, import.meta.url), "utf8");
    t.equal(module, await assembledBase64(source), path);
  }
});
