/**
 * What an open stream costs the router in memory: streams that wait for long answers, as Envoy holds them open in both
 * profiles, and the router's RSS before, with them and after. `npm run bench:streams -- [--streams N] [--json]`.
 *
 * The router is `tandem serve --role router` in a process of its own, after a few requests that ran to their end. Two
 * figures: what its RSS grew by, with the room that the heap took to receive ten thousand requests at once and the
 * blocks of their prompts in the index (1 KB of 16 KB); and what is alive after a full collection: the streams alone.
 */
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { BodyMode, Modes } from "../../src/router/extproc/codec.ts";
import type { HeaderList } from "../../src/router/headers.ts";
import { ProcessClient, type ProcessStream } from "../../src/simulator/gateway/client.ts";
import { encodeBody } from "../../src/simulator/gateway/codec.ts";
import { startCollectingRouter, type CollectingRouter, type Held } from "../score/collecting-router.ts";
import { answerOf, chunkOf, comes, headOf } from "../score/router-process.ts";
import { rounded } from "../support/usage.ts";
import { parsed } from "../support/arguments.ts";

const { values } = parsed({
  options: {
    streams: { type: "string", default: "10000" },
    connections: { type: "string", default: "10" },
    "body-bytes": { type: "string", default: "16384" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(`What an open stream that waits for a long answer costs the router in memory.

  --streams N      open at once (10000)
  --connections N  of the proxy to the router (10)
  --body-bytes N   of each request (16384)
  --json           machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:streams -- --json`);
  process.exit(0);
}
const [STREAMS, CONNECTIONS, BODY_BYTES] = [values.streams, values.connections, values["body-bytes"]].map(Number) as [
  number,
  number,
  number,
];
if (![STREAMS, CONNECTIONS, BODY_BYTES].every((value) => Number.isInteger(value) && value > 0)) {
  console.error("--streams, --connections and --body-bytes take positive integers");
  process.exit(2);
}

/** Requests before the first measurement. */
const WARM = 1000;
/** Until the router has done what the last phase left to do. */
const SETTLE_MS = 2000;
const AT_ONCE = 200;
const MODEL = "m";
const ENGINES = 32;
const MIB = 2 ** 20;

interface State {
  readonly profile: string;
  readonly response: BodyMode;
  readonly waitsFor: "first byte" | "next token";
}

/** The two shipped Envoy profiles, and what their streams wait for. */
const STATES: readonly State[] = [
  { profile: "light", response: "NONE", waitsFor: "first byte" },
  { profile: "exact", response: "STREAMED", waitsFor: "first byte" },
  { profile: "exact", response: "STREAMED", waitsFor: "next token" },
];

/** What Envoy sends of a chat request: its own headers and those of a usual client. */
const headersOf = (number: number): HeaderList => [
  [":authority", "inference.example.com"],
  [":path", "/v1/chat/completions"],
  [":method", "POST"],
  [":scheme", "https"],
  ["content-type", "application/json"],
  ["accept", "application/json"],
  ["accept-encoding", "gzip, deflate"],
  ["user-agent", "OpenAI/Python 1.99.9"],
  ["authorization", `Bearer sk-${String(number).padStart(48, "0")}`],
  ["content-length", String(bodyOf(number).length)],
  ["x-stainless-lang", "python"],
  ["x-stainless-runtime-version", "3.12.3"],
  ["x-forwarded-for", "203.0.113.7"],
  ["x-forwarded-proto", "https"],
  ["x-request-id", `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`],
];

function bodyOf(number: number): Buffer {
  const head = `{"model":"${MODEL}","stream":true,"messages":[{"role":"user","content":"${number} `;
  const tail = `"}]}`;
  return Buffer.from(head + "the quick brown fox ".repeat(BODY_BYTES / 20 + 1).slice(0, BODY_BYTES - 80) + tail);
}

const TOKEN = Buffer.from(
  `data: {"id":"c","object":"chat.completion.chunk","choices":[{"delta":{"content":"x"}}]}\n\n`,
);
const tokens = (count: number, last: boolean): readonly Buffer[] =>
  Array.from({ length: count }, (_, index) => encodeBody("responseBody", TOKEN, last && index === count - 1));

interface Open {
  readonly stream: ProcessStream;
  readonly response: BodyMode;
  readonly begun: boolean;
}

/** Replies of a request in a streamed mode: headers, and the body in as many chunks as it came. */
async function open(client: ProcessClient, number: number, state: State): Promise<Open | undefined> {
  const modes: Modes = { request: "FULL_DUPLEX_STREAMED", response: state.response };
  const stream = client.open();
  stream.send(headOf(headersOf(number), modes));
  stream.send(chunkOf(bodyOf(number)));
  const reply = await stream.next();
  if (reply?.destination === undefined) return undefined;
  await stream.next();
  const begun = state.waitsFor === "next token";
  if (begun) for (const message of [answerOf(), ...tokens(3, false)]) stream.send(message);
  for (let replies = begun ? 4 : 0; replies > 0; replies--) await stream.next();
  return { stream, response: state.response, begun };
}

/** The answer, to its end: whether the router took part until then. */
async function finish({ stream, response, begun }: Open): Promise<boolean> {
  const streamed = response !== "NONE";
  if (!begun) stream.send(answerOf(!streamed));
  if (streamed) for (const message of tokens(3, true)) stream.send(message);
  stream.end();
  for (let reply = await stream.next(); reply !== undefined; reply = await stream.next());
  return stream.status === "0";
}

/** Runs the tasks, so many at once. */
async function inTurn<T>(count: number, task: (number: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const number = next++;
      results[number] = await task(number);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

const start = (): Promise<CollectingRouter> => {
  const endpoints = Array.from({ length: ENGINES }, (_, host) => `127.0.0.${host + 1}:9`);
  const statics = endpoints.map((address) => ({ address, role: "both", model: MODEL }));
  return startCollectingRouter({ router: { endpoints: { static: statics } } });
};

const say = (line: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`${line}\n`);
};

async function measure(state: State): Promise<object> {
  const router = await start();
  const held = async (): Promise<Held> => {
    await sleep(SETTLE_MS);
    return router.held();
  };
  const clients = Array.from({ length: CONNECTIONS }, () => new ProcessClient(router.address));
  const begin = (number: number) => open(clients[number % CONNECTIONS] as ProcessClient, number, state);
  const end = async (begun: Open | undefined) => begun !== undefined && (await finish(begun));
  say(`${state.profile}, ${state.waitsFor}`);
  await inTurn(WARM, async (number) => end(await begin(STREAMS + number)));
  const before = await held();
  const all = await inTurn(STREAMS, begin);
  const counted = await router.metric("tandem_router_streams");
  const opened = await held();
  say(`${counted} streams open`);
  const ends = await inTurn(STREAMS, (number) => end(all[number]));
  await comes(async () => (await router.metric("tandem_router_streams")) === 0, 10_000);
  const [after, left] = [await held(), await router.metric("tandem_router_streams")];
  await router.stop();
  return {
    ...{ profile: state.profile, waitsFor: state.waitsFor, streams: STREAMS, connections: CONNECTIONS },
    ...{ bodyBytes: BODY_BYTES, openAtMost: counted, broken: ends.filter((fine) => !fine).length, openAfter: left },
    ...{ rssBeforeMiB: before.rssMib, rssOpenMiB: opened.rssMib, rssAfterMiB: after.rssMib },
    rssBytesPerStream: rounded(((opened.rssMib - before.rssMib) * MIB) / STREAMS, 0),
    // What goes with them: 6 MB of the start go meanwhile, and are no stream's.
    liveBytesPerStream: rounded((opened.liveBytes - after.liveBytes) / STREAMS, 0),
    liveBytesLeft: after.liveBytes - before.liveBytes,
  };
}

say(`${availableParallelism()} cores`);
const rows: object[] = [];
for (const state of STATES) rows.push(await measure(state));
if (values.json) console.log(JSON.stringify({ rows }, null, 2));
else console.table(rows);
process.exit(0);
