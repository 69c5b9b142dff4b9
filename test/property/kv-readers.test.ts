/**
 * A thread reads the shared table while another puts, drops, hides and sweeps: it never hangs or fails, sees blocks that
 * nobody touches but for those caught on the move, and hardly ever a holder that a block never had.
 */
import { Worker } from "node:worker_threads";
import t from "tap";
import { holderOf } from "../../src/router/kv/holders.ts";
import { bytesOf, HolderTable } from "../../src/router/kv/table.ts";
import { randomOf } from "../support/hostile.ts";

const GEOMETRY = { slots: 1024, endpoints: 12, rows: 64 };
const WRITES = 3_000_000;
const BLOCKS = 4;
const PROMPTS = 150;

interface Prompt {
  readonly keys: Int32Array;
  readonly endpoint: number;
  /** Never dropped. */
  readonly stays: boolean;
}

const random = randomOf(5);
const prompts = Array.from({ length: PROMPTS }, (_, at): Prompt => ({
  keys: Int32Array.from({ length: 2 * BLOCKS }, () => (random() * 2 ** 32) | 0),
  endpoint: at % GEOMETRY.endpoints,
  stays: at % 10 === 0,
}));

/** All blocks of a prompt, in or out. */
function write(table: HolderTable, { keys, endpoint }: Prompt, out: boolean): void {
  for (let block = 0; block < BLOCKS; block++)
    if (out) table.drop(keys, block, endpoint);
    else table.put(keys, block, holderOf(endpoint, 0));
}

function churn(table: HolderTable): void {
  const others = prompts.filter(({ stays }) => !stays);
  for (let writes = 0; writes < WRITES; writes += BLOCKS) {
    const prompt = others[Math.floor(random() * others.length)];
    if (prompt !== undefined) write(table, prompt, random() < 0.5);
    table.sweep(2);
  }
}

t.test("a reader on another thread, while the table is full and its blocks come, go and move", async (t) => {
  const buffer = new SharedArrayBuffer(bytesOf(GEOMETRY));
  const table = new HolderTable(GEOMETRY, buffer);
  table.live.fill(0xff);
  // Those that stay come last: they stand behind others, which then go.
  const order = [...prompts].sort((a, b) => Number(a.stays) - Number(b.stays));
  for (const prompt of order) write(table, prompt, false);
  const counts = new Int32Array(new SharedArrayBuffer(20));
  const reader = new Worker(new URL("./kv-reader.ts", import.meta.url), {
    workerData: { geometry: GEOMETRY, buffer, counts, prompts },
  });
  const ended = new Promise<number>((resolve, reject) => {
    reader.on("exit", resolve);
    reader.on("error", reject);
  });
  while (Atomics.load(counts, 1) === 0) await new Promise((resolve) => setImmediate(resolve));
  churn(table);
  Atomics.store(counts, 0, 1);
  t.equal(await ended, 0, "the reader neither failed nor hung");
  const [, asked = 0, wrong = 0, hits = 0, missed = 0] = counts;
  t.ok(asked > 1000 && hits > 100, `${asked} questions, ${hits} hits`);
  t.ok(wrong <= asked / 1000, `${wrong} answers named a holder too many`);
  t.ok(missed <= asked / 100, `${missed} answers missed a block that stood there, on the move`);
  const kept = prompts.filter(({ stays }) => stays);
  const found = kept.filter(({ keys, endpoint }) => table.match(keys).of(endpoint) === BLOCKS);
  t.equal(found.length, kept.length, "once all is quiet, nothing was lost on the move");
  t.end();
});
