/** R5: bodies without an end, bodies that drip, and five hundred large ones at once: the router stays small. */
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Deframer, frame } from "../../src/router/extproc/grpc.ts";
import { decodeReply } from "../../src/simulator/gateway/codec.ts";
import { memoryOf } from "../support/usage.ts";
import { chunkOf, comes, headOf, sizeOf, startRouterProcess, type RouterProcess } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const MIB = 2 ** 20;
/** 1 GB over all rounds of the endless body. */
const ENDLESS_MB = sizeOf("R5_ENDLESS_MB", 1024);
const PARALLEL = sizeOf("R5_PARALLEL", 500);
const BODY_MB = 16;
/** The deadline of a body; production's is a minute. */
const DEADLINE_MS = sizeOf("R5_DEADLINE_MS", 5000);
const MOST_MB = 256;
const CHUNK = 60_000;

interface Outcome {
  /** Of the answer by the router, or undefined where the stream ended without one. */
  readonly status: number | undefined;
  readonly tookMs: number;
  readonly sentMb: number;
}

interface Sending {
  readonly stream: ClientHttp2Stream;
  readonly over: () => boolean;
  readonly closed: Promise<unknown>;
}

type Sender = (sending: Sending) => Promise<number>;

const framed = (message: Buffer): Buffer => Buffer.concat(frame([message]));
const PIECE = framed(chunkOf(Buffer.alloc(CHUNK, " "), false));
const DRIP = framed(chunkOf(" ", false));

async function exchange(session: ClientHttp2Session, send: Sender): Promise<Outcome> {
  const begun = performance.now();
  const stream = session.request({ ":method": "POST", ":path": METHOD, "content-type": "application/grpc" });
  let status: number | undefined;
  let over = false;
  const frames = new Deframer(MIB);
  stream.on("error", () => undefined);
  stream.on("data", (chunk: Buffer) => {
    for (const message of frames.push(chunk)) status ??= decodeReply(message).status;
    over ||= status !== undefined;
  });
  const closed = once(stream, "close").then(() => (over = true));
  stream.write(framed(headOf()));
  const bytes = await send({ stream, over: () => over, closed });
  await closed;
  return { status, tookMs: performance.now() - begun, sentMb: bytes / MIB };
}

const METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/** As fast as the router takes it, until it has enough. */
const flood =
  (most: number): Sender =>
  async ({ stream, over, closed }) => {
    let sent = 0;
    while (sent < most && !over() && !stream.destroyed) {
      sent += CHUNK;
      await Promise.race([closed, new Promise<void>((resolve) => stream.write(PIECE, () => resolve()))]);
    }
    return sent;
  };

/** A byte a second. */
const drip: Sender = async ({ stream, over }) => {
  let sent = 0;
  for (; !over() && !stream.destroyed; sent++) {
    stream.write(DRIP);
    for (let waited = 0; waited < 1000 && !over(); waited += 50) await sleep(50);
  }
  return sent;
};

const counted = (outcomes: readonly Outcome[]): Record<string, number> =>
  Object.fromEntries(
    [...Map.groupBy(outcomes, ({ status }) => `status${status ?? "None"}`)].map(([name, all]) => [name, all.length]),
  );

const all = (outcomes: readonly Outcome[], statuses: readonly number[]): boolean =>
  outcomes.every(({ status }) => statuses.includes(status ?? 0));

/** The whole gigabyte, over and over on a new stream. */
async function endlessOn(session: ClientHttp2Session): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (let left = ENDLESS_MB; left > 0; left -= outcomes.at(-1)?.sentMb ?? left)
    outcomes.push(await exchange(session, flood(left * MIB)));
  return outcomes;
}

/** As a proxy does, over several connections. */
const atOnce = (sessions: readonly ClientHttp2Session[], count: number, send: Sender): Promise<Outcome[]> =>
  Promise.all(
    Array.from({ length: count }, (_, index) =>
      exchange(sessions[index % sessions.length] as ClientHttp2Session, send),
    ),
  );

async function scene(router: RouterProcess, progress: Progress): Promise<ScoreResult> {
  const sessions = Array.from({ length: 4 }, () => connect(`http://${router.address}`));
  for (const session of sessions) session.on("error", () => undefined);
  const before = memoryOf(router.pid).rssMb;
  const moreMb = (): number => memoryOf(router.pid).peakMb - before;
  const endless = await endlessOn(sessions[0] as ClientHttp2Session);
  progress(`${ENDLESS_MB} MB without an end: ${JSON.stringify(counted(endless))}, ${moreMb()} MB more`);
  const slow = await atOnce(sessions, 20, drip);
  const worstSlowMs = Math.round(Math.max(...slow.map(({ tookMs }) => tookMs)));
  progress(`a byte a second: ${JSON.stringify(counted(slow))} within ${worstSlowMs} ms`);
  const parallel = await atOnce(sessions, PARALLEL, flood((BODY_MB - 0.5) * MIB));
  const streams = (): Promise<number> => router.metric("tandem_router_streams");
  const streamsLeft = (await comes(async () => (await streams()) === 0, 5000)) ? 0 : await streams();
  for (const session of sessions) session.destroy();
  const figures = {
    ...{ endless: JSON.stringify(counted(endless)), slow: JSON.stringify(counted(slow)), worstSlowMs },
    ...{ parallel: JSON.stringify(counted(parallel)), streamsLeft, rssBeforeMb: before, moreMb: moreMb() },
  };
  const answered = all(endless.slice(0, -1), [413]) && all(slow, [408]) && all(parallel, [408, 413, 429]);
  const inTime = worstSlowMs <= 1.2 * DEADLINE_MS && streamsLeft === 0;
  return { figures, met: answered && inTime && moreMb() <= MOST_MB };
}

export const row: ScoreRow = {
  id: "R5",
  fault: `bodies without an end (${ENDLESS_MB} MB in chunks), 20 of a byte a second, ${PARALLEL} of ${BODY_MB} MiB at once that do not end`,
  required: `413, 408 after ${DEADLINE_MS} ms, and 413, 408 or 429; no stream stays; at most ${MOST_MB} MB more at the highest`,
  run: async (progress) => {
    const router = await startRouterProcess({
      router: {
        bodyTimeoutMs: DEADLINE_MS,
        endpoints: { static: [{ address: "127.0.0.1:1", role: "both", model: "m" }] },
      },
    });
    try {
      return await scene(router, progress);
    } finally {
      await router.stop();
    }
  },
};
