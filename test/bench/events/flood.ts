/** Engines that publish as fast as somebody reads: messages as vLLM's from 0.24 on, made before and sent again and again. */
import { setTimeout as sleep } from "node:timers/promises";
import { Packr } from "msgpackr";
import { Publisher } from "zeromq";

export interface FloodOrder {
  readonly engines: number;
}

export const BLOCKS_OF_MESSAGE = 64;
const BLOCK_TOKENS = 16;
/** Of each engine; together more blocks than its cache holds, so that old ones go as new ones come. */
const MESSAGES = 1500;

export const BLOCKS_OF_ENGINE = MESSAGES * BLOCKS_OF_MESSAGE;
/** One prompt in so many is the same at every engine. */
const SHARED = 8;

const packr = new Packr({ useRecords: false, int64AsType: "bigint" });

/** A spread of tokens like that of a vocabulary of 150,000. */
export const TOKENS = (message: number): number[] =>
  Array.from({ length: BLOCKS_OF_MESSAGE * BLOCK_TOKENS }, (_, at) => {
    const mixed = Math.imul(message * 1024 + at + 1, 0x9e3779b1) >>> 0;
    return (mixed ^ (mixed >>> 13)) % 150_000;
  });

const hashOf = (engine: number, block: number): bigint =>
  BigInt.asUintN(64, (BigInt(engine) * 0x1000000n + BigInt(block) + 1n) * 0x9e3779b97f4a7c15n);

/** The payload with this number: 64 blocks of one prompt. */
export function payloadOf(engine: number, message: number): Buffer {
  const from = (message % MESSAGES) * BLOCKS_OF_MESSAGE;
  const stored = {
    type: "BlockStored",
    block_hashes: Array.from({ length: BLOCKS_OF_MESSAGE }, (_, at) => hashOf(engine, from + at)),
    parent_block_hash: null,
    token_ids: TOKENS((message % MESSAGES) + (message % SHARED === 0 ? 0 : engine * MESSAGES)),
    ...{ block_size: BLOCK_TOKENS, lora_id: null, medium: "GPU", lora_name: null, extra_keys: null },
  };
  return packr.pack([message + 1, [stored], 0]);
}

async function flood(engine: number, publisher: Publisher): Promise<never> {
  const payloads = Array.from({ length: MESSAGES }, (_, message) => payloadOf(engine, message));
  for (let sequence = 0; ; sequence++) {
    const number = Buffer.alloc(8);
    number.writeBigUInt64BE(BigInt(sequence));
    const message = ["", number, payloads[sequence % MESSAGES] ?? ""];
    // Refused while its reader is behind.
    while (
      !(await publisher.send(message).then(
        () => true,
        () => false,
      ))
    )
      await sleep(1);
  }
}

if (process.send !== undefined && import.meta.main) process.once("message", (order: FloodOrder) => void start(order));

async function start({ engines }: FloodOrder): Promise<void> {
  const all = await Promise.all(
    Array.from({ length: engines }, async () => {
      // Waits for the reader where it is full, so that nothing is lost and nothing is asked for again.
      const publisher = new Publisher({ sendHighWaterMark: 200, noDrop: true, linger: 0 });
      await publisher.bind("tcp://127.0.0.1:*");
      return publisher;
    }),
  );
  const ports = all.map(({ lastEndpoint }) => Number(/:(\d+)$/.exec(lastEndpoint ?? "")?.[1]));
  process.send?.({ ports });
  all.forEach((publisher, engine) => void flood(engine, publisher));
}
