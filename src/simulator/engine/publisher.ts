/** The sockets under a simulated engine's KV events: libzmq's own PUB and ROUTER, as under the real ones. */
import type { Clock, Timers } from "../../ports.ts";
import type { EventLog } from "./events.ts";

export interface EventSockets {
  readonly port: number;
  readonly replayPort: number;
  stop(): void;
}

export interface PublisherOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly replayPort: number;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** Events of one step leave together; a step takes several milliseconds. */
const FLUSH_MS = 1;
const END = Buffer.alloc(8, 0xff);
const TOPIC = "";

/** Rejects where the library is not installed, or an address cannot be bound. */
export async function publishEvents(log: EventLog, options: PublisherOptions): Promise<EventSockets> {
  const { Publisher, Router } = await import("zeromq");
  const { host, clock, timers } = options;
  const publisher = new Publisher({ sendHighWaterMark: 100_000, linger: 0 });
  const router = new Router({ sendHighWaterMark: 0, linger: 0 });
  await publisher.bind(`tcp://${host}:${options.port || "*"}`);
  await router.bind(`tcp://${host}:${options.replayPort || "*"}`);
  let over = false;
  const waiting: (readonly [number, Buffer])[] = [];
  let sending = false;
  // A socket takes one message after the other.
  const send = async (): Promise<void> => {
    if (sending) return;
    sending = true;
    for (let next = waiting.shift(); next !== undefined && !over; next = waiting.shift())
      await publisher.send([TOPIC, numbered(next[0]), next[1]]).catch(() => undefined);
    sending = false;
  };
  log.begun = () =>
    void timers.after(FLUSH_MS, () => {
      const message = log.take(clock.now() / 1000);
      if (message === undefined || over) return;
      waiting.push([message.sequence, message.payload]);
      void send();
    });
  void answerReplays(router, log).catch(() => undefined);
  return {
    port: portOf(publisher.lastEndpoint),
    replayPort: portOf(router.lastEndpoint),
    stop: () => {
      over = true;
      publisher.close();
      router.close();
    },
  };
}

type Replies = AsyncIterable<Buffer[]> & { send(frames: (Buffer | string)[]): Promise<void> };

/** As vLLM from 0.25 on: topic, number and payload of each message that is kept, then -1. */
async function answerReplays(router: Replies, log: EventLog): Promise<void> {
  for await (const [peer, , from] of router) {
    if (peer === undefined || from?.length !== 8) continue;
    for (const { sequence, payload } of log.since(Number(from.readBigUInt64BE())))
      await router.send([peer, "", TOPIC, numbered(sequence), payload]);
    await router.send([peer, "", TOPIC, END, ""]);
  }
}

function numbered(sequence: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(sequence));
  return bytes;
}

const portOf = (endpoint: string | null): number => Number(/:(\d+)$/.exec(endpoint ?? "")?.[1]);
