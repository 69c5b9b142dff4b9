/** A publisher of KV events as engines have one: libzmq's own PUB and ROUTER sockets, and the messages of vLLM. */
import { Packr } from "msgpackr";
import { Publisher, Router } from "zeromq";

const packr = new Packr({ useRecords: false, int64AsType: "bigint" } as never);

export interface StoredEvent {
  readonly hashes: readonly bigint[];
  readonly parent: bigint | null;
  readonly tokens: readonly number[];
  readonly blockSize: number;
  readonly medium?: string;
  readonly lora?: string;
}

export const stored = ({ hashes, parent, tokens, blockSize, medium = "GPU", lora }: StoredEvent): object => ({
  type: "BlockStored",
  ...{
    block_hashes: hashes,
    parent_block_hash: parent,
    token_ids: tokens,
    block_size: blockSize,
    lora_id: null,
    medium,
  },
  ...(lora === undefined ? {} : { lora_name: lora }),
});

export const removed = (hashes: readonly bigint[], medium = "GPU"): object => ({
  type: "BlockRemoved",
  ...{ block_hashes: hashes, medium },
});

export const CLEARED = { type: "AllBlocksCleared" };

/** A batch in the map form of vLLM from 0.24 on. A whole number would be packed as an integer, which engines never send. */
export const batch = (events: readonly object[], time: number, rank = 0): Buffer =>
  packr.pack([Number.isInteger(time) ? time + 0.0001 : time, events, rank]);

export interface PublisherOptions {
  /** Frames of a replay begin with a topic, as from vLLM 0.25 on. */
  readonly topic?: boolean;
  readonly replays?: boolean;
  /** Batches that are kept. */
  readonly keeps?: number;
  readonly port?: number;
  readonly replayPort?: number;
  /** What is sent again, in place of what was published here. */
  readonly source?: (from: number) => readonly { readonly sequence: number; readonly payload: Uint8Array }[];
}

const END = Buffer.alloc(8, 0xff);

const sequenceOf = (sequence: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(sequence));
  return bytes;
};

export class EventPublisher {
  readonly port: number;
  readonly replayPort: number | undefined;
  readonly #publisher: Publisher;
  readonly #router: Router | undefined;
  readonly #options: PublisherOptions;
  #kept: { sequence: number; payload: Buffer }[] = [];
  #next = 0;
  #time = Date.now() / 1000;
  replays = 0;

  private constructor(publisher: Publisher, router: Router | undefined, options: PublisherOptions) {
    this.#publisher = publisher;
    this.#router = router;
    this.#options = options;
    this.port = portOf(publisher.lastEndpoint);
    this.replayPort = router === undefined ? undefined : portOf(router.lastEndpoint);
    // Closed in the midst of an answer: its process is gone.
    if (router !== undefined) void this.#serve(router).catch(() => undefined);
  }

  static async start(options: PublisherOptions = {}): Promise<EventPublisher> {
    const publisher = new Publisher({ sendHighWaterMark: 0, linger: 0 });
    await publisher.bind(`tcp://127.0.0.1:${options.port ?? "*"}`);
    const router = options.replays === false ? undefined : new Router({ sendHighWaterMark: 0, linger: 0 });
    await router?.bind(`tcp://127.0.0.1:${options.replayPort ?? "*"}`);
    return new EventPublisher(publisher, router, options);
  }

  /** The number that comes next. */
  get next(): number {
    return this.#next;
  }

  /** Publishes a batch; `lost`: keeps it only, as if the network had lost it. */
  async publish(events: readonly object[], { lost = false, kept = true } = {}): Promise<number> {
    this.#time += 0.001;
    const sequence = this.#next++;
    const payload = batch(events, this.#time);
    if (kept) this.#kept.push({ sequence, payload });
    if (this.#kept.length > (this.#options.keeps ?? 10_000)) this.#kept.shift();
    if (!lost) await this.raw(sequence, payload);
    return sequence;
  }

  /** Any message. */
  async raw(sequence: number, payload: Uint8Array): Promise<void> {
    await this.#publisher.send([Buffer.from("kv@pod@model"), sequenceOf(sequence), payload]);
  }

  stop(): void {
    this.#publisher.close();
    this.#router?.close();
  }

  async #serve(router: Router): Promise<void> {
    for await (const [peer, , from] of router) {
      if (peer === undefined || from === undefined) continue;
      this.replays += 1;
      const topic = this.#options.topic === true ? [Buffer.alloc(0)] : [];
      const start = Number(from.readBigUInt64BE());
      const kept = this.#options.source?.(start) ?? this.#kept;
      for (const { sequence, payload } of kept)
        if (sequence >= start) await router.send([peer, "", ...topic, sequenceOf(sequence), payload]);
      await router.send([peer, "", ...topic, END, ""]);
    }
  }
}

const portOf = (endpoint: string | null): number => Number(/:(\d+)$/.exec(endpoint ?? "")?.[1]);
