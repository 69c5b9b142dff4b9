/** Decoder and table alone, on one thread: no sockets. */
import { EventBatch } from "../../../src/router/kv/events/batch.ts";
import { EngineCache, newCounts } from "../../../src/router/kv/events/cache.ts";
import { TokenChain } from "../../../src/router/kv/events/chain.ts";
import { EventDecoder } from "../../../src/router/kv/events/decode.ts";
import { Numbers } from "../../../src/router/kv/events/numbers.ts";
import { eventGeometry } from "../../../src/router/kv/events/quota.ts";
import { Roots } from "../../../src/router/kv/events/roots.ts";
import { HolderTable } from "../../../src/router/kv/table.ts";
import { quantile, rounded } from "../../support/usage.ts";
import type { Row } from "../events.ts";
import { BLOCKS_OF_MESSAGE, payloadOf } from "./flood.ts";

const MESSAGES = 500;
const ROUNDS = 9;

export function takeIn(): Row[] {
  const payloads = Array.from({ length: MESSAGES }, (_, message) => payloadOf(0, message));
  const decoder = new EventDecoder();
  const batch = new EventBatch();
  const decode: number[] = [];
  const whole: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    decode.push(timeOf(() => payloads.forEach((payload) => decoder.decode(batch, payload))));
    const { cache } = newCache();
    whole.push(
      timeOf(() =>
        payloads.forEach((payload) => {
          decoder.decode(batch, payload);
          cache.apply(batch);
        }),
      ),
    );
  }
  const blocks = MESSAGES * BLOCKS_OF_MESSAGE;
  const rate = (micros: readonly number[]): number => rounded(blocks / quantile(micros, 0.5), 3);
  return [
    { measure: "decoder alone", value: rate(decode), unit: "M stored blocks/s", target: "" },
    { measure: "decoder and table", value: rate(whole), unit: "M stored blocks/s", target: ">= 0.4" },
  ];
}

/** One engine's cache, a table of its own. */
function newCache(): { cache: EngineCache } {
  const numbers = new Numbers(new HolderTable(eventGeometry(2 ** 25, 64)), () => 0x5eed);
  const chain = new TokenChain(16);
  const limits = { keys: 100_000, blocks: 100_000, words: 100_000 };
  const renew = (held: EngineCache["held"] | undefined): EngineCache["held"] => numbers.renew(held, limits);
  return { cache: new EngineCache({ chain, roots: new Roots(chain), renew }, newCounts()) };
}

/** Processor time of this thread, microseconds: other work on the machine does not count. */
function timeOf(work: () => void): number {
  const before = process.threadCpuUsage();
  work();
  const { user, system } = process.threadCpuUsage(before);
  return user + system;
}
