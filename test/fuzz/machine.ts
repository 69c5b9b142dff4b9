/**
 * The same messages before the state machine, in this process: what it answers is legal, and nothing stays.
 * A hundred thousand sequences a minute, where sockets allow a thousand.
 */
import type { Answer, Routed } from "../../src/router/exchange.ts";
import { decodeRequest, encodeReplies, type Reply } from "../../src/router/extproc/codec.ts";
import { Deframer, frame } from "../../src/router/extproc/grpc.ts";
import { ExchangeStream, type Action, type StreamEvent } from "../../src/router/extproc/stream.ts";
import { WireError } from "../../src/router/extproc/wire.ts";
import { randomOf } from "./frames.ts";
import { messagesOf, oneOf, type Random } from "./messages.ts";

const MOST_BODY = 100_000;

const ANSWER: Answer = { kind: "answer", status: 429, headers: [], body: Buffer.from("{}"), reason: "Saturated" };
const forwardOf = (body: Buffer): Routed => ({
  kind: "forward",
  destination: "127.0.0.1:9",
  requestHeaders: [["x-gateway-destination-endpoint", "127.0.0.1:9"]],
  responseHeaders: [],
  body,
});

/** What comes to the stream: its messages, and between them what the router and its timers say. */
function* eventsOf(random: Random, messages: readonly Buffer[]): Generator<StreamEvent> {
  const frames = new Deframer(MOST_BODY + 1_000_000);
  for (const message of messages) {
    for (const whole of frames.push(Buffer.concat(frame([message])))) yield decodeRequest(whole);
    const more = random();
    if (more < 0.1) yield { kind: oneOf(random, ["hold", "late"] as const) };
    else if (more < 0.15) yield { kind: "deserted", answer: ANSWER };
    else if (more < 0.3) yield { kind: "routed", routed: random() < 0.3 ? ANSWER : forwardOf(bodyOf(random)) };
  }
}

const bodyOf = (random: Random): Buffer => Buffer.alloc(oneOf(random, [0, 1, 100, 200_000]), "x");

const ONCE = /headers$|trailers$|^immediate$|^wait$/;

/** Books of one stream: what is wrong with what was said, or undefined. */
class Books {
  #said = new Map<string, number>();
  #over = false;

  take(actions: readonly Action[]): string | undefined {
    for (const action of actions) {
      if (this.#over) return `${action.kind} behind the end`;
      if (action.kind === "close" || action.kind === "violation") this.#over = true;
      if (action.kind !== "reply") continue;
      const wrong = this.#reply(action.reply);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  }

  get over(): boolean {
    return this.#over;
  }

  #reply(reply: Reply): string | undefined {
    const name = "phase" in reply ? `${reply.phase} ${reply.kind}` : reply.kind;
    const count = (this.#said.get(name) ?? 0) + 1;
    this.#said.set(name, count);
    if (ONCE.test(name) && count > 1) return `${name} twice`;
    if (this.#said.has("immediate") && name !== "immediate") return `${name} behind the answer`;
    const bytes = Buffer.concat(encodeReplies([reply]));
    return bytes.readUInt32BE(1) === bytes.length - 5 ? undefined : `${name}: its length is wrong`;
  }
}

/** What is wrong with the n-th sequence of a seed, or undefined. */
export function judge(seed: number, n: number): string | undefined {
  const random = randomOf(seed, -1 - n);
  const machine = new ExchangeStream(MOST_BODY, 1000);
  const books = new Books();
  try {
    for (const event of eventsOf(random, messagesOf(random))) {
      const wrong = books.take(machine.advance(event));
      if (wrong !== undefined) return wrong;
      if (books.over) break;
    }
  } catch (error) {
    if (!(error instanceof WireError)) return String((error as Error).stack);
  }
  if (!machine.answerable && machine.held > 0) return `${machine.held} bytes held of a request that is settled`;
  return machine.held > 10 * MOST_BODY + 2_000_000 ? `${machine.held} bytes held` : undefined;
}
