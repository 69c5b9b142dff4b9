/** The thread that reads in kv-readers.test.ts: it asks without end for prompts of which it knows what may be answered. */
import { workerData } from "node:worker_threads";
import { HolderTable, type Geometry } from "../../src/router/kv/table.ts";

interface Shared {
  readonly geometry: Geometry;
  readonly buffer: SharedArrayBuffer;
  /** Stop, questions asked, wrong answers, hits, misses of what always stands. */
  readonly counts: Int32Array;
  readonly prompts: readonly { readonly keys: Int32Array; readonly endpoint: number; readonly stays: boolean }[];
}

const { geometry, buffer, counts, prompts } = workerData as Shared;
const table = new HolderTable(geometry, buffer);
for (let asked = 0; Atomics.load(counts, 0) === 0; asked++) {
  const { keys, endpoint, stays } = prompts[asked % prompts.length] ?? {
    keys: new Int32Array(),
    endpoint: 0,
    stays: false,
  };
  const matches = table.match(keys);
  for (let other = 0; other < geometry.endpoints; other++) {
    const blocks = matches.of(other);
    if (blocks > keys.length / 2 || (blocks > 0 && other !== endpoint)) Atomics.add(counts, 2, 1);
  }
  if (matches.of(endpoint) > 0) Atomics.add(counts, 3, 1);
  if (stays && matches.of(endpoint) < keys.length / 2) Atomics.add(counts, 4, 1);
  Atomics.store(counts, 1, asked + 1);
}
