/** An engine that sends nothing again: when what is known of its cache is all of it. */
import t from "tap";
import { EventBatch } from "../../../src/router/kv/events/batch.ts";
import { newCounts } from "../../../src/router/kv/events/cache.ts";
import { TokenChain } from "../../../src/router/kv/events/chain.ts";
import { EventDecoder } from "../../../src/router/kv/events/decode.ts";
import { Numbers } from "../../../src/router/kv/events/numbers.ts";
import { Roots } from "../../../src/router/kv/events/roots.ts";
import { EventStream } from "../../../src/router/kv/events/stream.ts";
import { HolderTable } from "../../../src/router/kv/table.ts";
import { framesOf, numbered } from "../../support/events/engine-model.ts";
import { batch, stored } from "../../support/events/publisher.ts";

const TURNOVER = 20;

function rig() {
  const numbers = new Numbers(new HolderTable({ slots: 1024, endpoints: 8, rows: 64 }), () => 5);
  const chain = new TokenChain(16);
  const room = { numbers, chain, roots: new Roots(chain), batch: new EventBatch(), decoder: new EventDecoder() };
  const limits = { keys: 1000, blocks: 1000, words: 100 };
  const options = { limits, turnover: TURNOVER, replays: false, ask: () => undefined };
  const stream = new EventStream({ ...room, counts: newCounts() }, options);
  stream.sequence.connected();
  let sequence = 1000;
  let hash = 1n;
  return {
    stream,
    /** Blocks of a new prompt, or behind one that was there before anybody listened. */
    store: (count: number, parent: bigint | null = null): void => {
      const hashes = Array.from({ length: count }, () => hash++);
      const tokens = Array.from({ length: 16 * count }, (_, at) => Number(hash) * 100 + at);
      const payload = batch([stored({ hashes, parent, tokens, blockSize: 16 })], sequence);
      stream.live(...framesOf(Buffer.from("kv"), numbered(sequence++), payload));
    },
  };
}

t.test("live when as many blocks were stored as the cache holds", (t) => {
  const { stream, store } = rig();
  store(TURNOVER - 1);
  t.match(stream.sequence, { state: "blind", cause: "lost" });
  store(1);
  t.match(stream.sequence, { state: "live", cause: "complete" });
  t.end();
});

t.test("but not while prompts follow a prefix that nobody knows: hot ones never go, and are never told again", (t) => {
  const { stream, store } = rig();
  for (let round = 0; round < 20; round++) {
    store(10);
    store(2, 0xabcdefn);
    t.equal(stream.sequence.state, "blind");
  }
  store(TURNOVER);
  t.equal(stream.sequence.state, "live", "then it was not used for as long as the cache takes to turn over");
  t.end();
});
