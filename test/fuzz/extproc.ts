/**
 * Fuzzes the ext_proc server: `npm run fuzz:extproc -- --minutes 10 --seed 1`.
 *
 * Mutated HTTP/2 frames, ext_proc messages and bodies go to a real router over loopback, while an honest proxy asks it
 * all the time; between them the same messages go to the state machine in this process. Fails on a crash, on an error in
 * the router's log, on an honest request that is not answered in time, and on what stays: streams, requests, memory.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ProcessClient } from "../../src/simulator/gateway/client.ts";
import { ask, comes, promptOf, startRouterProcess, type RouterProcess } from "../score/router-process.ts";
import { memoryOf, rounded } from "../support/usage.ts";
import { caseOf, type Case } from "./frames.ts";
import { judge } from "./machine.ts";

const HELP = `Fuzzes the ext_proc server with frames, messages and bodies that are nearly right.

  --minutes N    how long (1)
  --seed N       of all cases; the same seed makes the same ones (1)
  --case N       only that case, over and over for --minutes, as a failure names it
  --json         {"rows":[{...}]} on stdout

Exit code: 0 nothing found, 1 something was, 2 bad usage.

Example:
  npm run fuzz:extproc -- --minutes 10 --seed 1`;

const WITHIN_MS = 2000;
const PROBE_MS = 50;
const PEERS = 6;
/** A case is left to itself for so long. */
const STAY_MS = 20;
const SETTLE_MS = 3000;
/** Of the time, before memory is first looked at: code is compiled, pools and heap have their size, the index is full. */
const WARM_SHARE = 1 / 3;
const MOST_GROWTH_MB = 64;
/** Requests on the one endpoint at most: all of them are asked for at the end, so that one that stayed is missed. */
const MOST_INFLIGHT = 200;
/** Sequences for the state machine before the next case of a peer. */
const JUDGED = 20;

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly only: number | undefined;
  readonly json: boolean;
}

function parse(): Options | undefined {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: { minutes: text, seed: text, case: text, json: flag, help: { ...flag, short: "h" } },
  });
  if (values.help) return undefined;
  const minutes = numberOf("minutes", values.minutes ?? "1");
  if (minutes === 0) throw new Error("--minutes 0: give a number above 0");
  const only = values.case === undefined ? undefined : numberOf("case", values.case);
  return { minutes, seed: numberOf("seed", values.seed ?? "1"), only, json: values.json };
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw new Error(`--${name} ${text}: give a number`);
  return value;
}

/** What was found, each kind once, with the case that was under way. */
class Findings {
  readonly lines: string[] = [];
  count = 0;

  add(line: string): void {
    this.count += 1;
    if (this.lines.length < 20) this.lines.push(line);
    console.error(`FOUND: ${line}`);
  }
}

/** One case over a connection of its own; what comes back is read and dropped. */
async function send(address: string, { writes, reads, leaves }: Case): Promise<void> {
  const [host = "", port = ""] = address.split(":");
  const socket = connect({ host, port: Number(port), allowHalfOpen: true });
  const closed = once(socket, "close");
  socket.on("error", () => undefined);
  if (reads) socket.resume();
  for (const bytes of writes) {
    if (socket.destroyed) break;
    socket.write(bytes);
    await sleep(0);
  }
  if (leaves === "end") socket.end();
  await Promise.race([closed, sleep(leaves === "destroy" ? 1 : STAY_MS)]);
  socket.destroy();
  await closed;
}

interface Asked {
  probes: number;
  refused: number;
  worstMs: number;
}

/** An honest proxy: every request is answered in time, whatever the others do. */
async function probe(router: RouterProcess, findings: Findings, until: () => boolean, asked: Asked): Promise<void> {
  const client = new ProcessClient(router.address);
  for (let n = 0; !until(); n++) {
    const begun = performance.now();
    const late = sleep(WITHIN_MS).then(() => "late" as const);
    const first = await Promise.race([ask(client, promptOf("m", `question ${n}`)), late]);
    asked.probes += 1;
    asked.worstMs = Math.max(asked.worstMs, performance.now() - begun);
    if (first === "late" || first.reply === undefined) {
      findings.add(`an honest request has no answer after ${Math.round(performance.now() - begun)} ms`);
      break;
    }
    if (first.reply.status !== undefined) asked.refused += 1;
    first.stream.reset();
    await sleep(PROBE_MS);
  }
  void client.close();
}

/** Nothing of what was asked runs any more. */
async function settle(router: RouterProcess): Promise<number> {
  await comes(async () => (await router.metric("tandem_router_streams")) === 0, 15_000);
  await sleep(SETTLE_MS);
  return memoryOf(router.pid).rssMb;
}

/** How many of all places of the endpoint are free. */
async function free(router: RouterProcess): Promise<number> {
  const client = new ProcessClient(router.address);
  const all = await Promise.all(
    Array.from({ length: MOST_INFLIGHT }, (_, n) => ask(client, promptOf("m", `end ${n}`))),
  );
  const picked = all.filter(({ reply }) => reply !== undefined && reply.status === undefined).length;
  for (const { stream } of all) stream.reset();
  void client.close();
  return picked;
}

interface Work {
  readonly router: RouterProcess;
  readonly options: Options;
  readonly findings: Findings;
  readonly done: { cases: number; sequences: number };
  alive: boolean;
}

/** Cases until the end, or so many. */
async function peers(work: Work, until: () => boolean): Promise<void> {
  const { router, options, findings, done } = work;
  const peer = async (): Promise<void> => {
    while (!until() && work.alive) {
      const number = options.only ?? done.cases;
      done.cases += 1;
      await send(router.address, caseOf(options.seed, number));
      for (let n = 0; n < JUDGED; n++) judged(options.seed, options.only ?? done.sequences++, findings);
    }
  };
  await Promise.all(Array.from({ length: PEERS }, peer));
}

function judged(seed: number, number: number, findings: Findings): void {
  const wrong = judge(seed, number);
  if (wrong !== undefined) findings.add(`state machine, --seed ${seed} --case ${number}: ${wrong}`);
}

function progress({ done, options, router }: Work, begun: number): void {
  if (!process.stderr.isTTY) return;
  const seconds = Math.round((performance.now() - begun) / 1000);
  const { rssMb } = memoryOf(router.pid);
  const line = `${seconds} of ${options.minutes * 60} s: ${done.cases} connections, ${done.sequences} sequences, ${rssMb} MB`;
  process.stderr.write(`\r${line}\u001b[K`);
}

async function fuzz(options: Options): Promise<{ row: Record<string, number>; findings: Findings }> {
  const findings = new Findings();
  const done = { cases: 0, sequences: 0 };
  const router = await startRouterProcess({
    router: {
      maxInflightPerEndpoint: MOST_INFLIGHT,
      index: { maxBytes: 16 * 2 ** 20 },
      endpoints: { static: [{ address: "127.0.0.1:9", model: "m", served: ["m"] }] },
    },
    log: (line) => {
      if (line.includes('"level":50') || line.includes('"level":60')) findings.add(`log: ${line.slice(0, 2000)}`);
    },
  });
  const work: Work = { router, options, findings, done, alive: true };
  let stopping = false;
  void router.ended.then((code) => {
    work.alive = false;
    if (!stopping) findings.add(`the router ended with ${code ?? "a signal"}; cases up to ${done.cases}`);
  });
  const asked: Asked = { probes: 0, refused: 0, worstMs: 0 };
  const begun = performance.now();
  const until = (share: number) => (): boolean =>
    performance.now() - begun > share * options.minutes * 60_000 || !work.alive;
  const ticker = setInterval(() => work.alive && progress(work, begun), 1000);
  const part = (over: () => boolean): Promise<unknown> =>
    Promise.all([peers(work, over), probe(router, findings, over, asked)]);
  await part(until(WARM_SHARE));
  const rssBefore = work.alive ? await settle(router) : 0;
  await part(until(1));
  clearInterval(ticker);
  const left = work.alive ? await leftovers(work, rssBefore) : {};
  stopping = true;
  await router.stop();
  const row = { seed: options.seed, seconds: rounded((performance.now() - begun) / 1000), ...done, ...asked, ...left };
  return { row: { ...row, worstMs: rounded(asked.worstMs), findings: findings.count }, findings };
}

async function leftovers({ router, findings }: Work, rssBeforeMb: number): Promise<Record<string, number>> {
  const rssAfterMb = await settle(router);
  const streams = await router.metric("tandem_router_streams");
  const routed = await router.metric("tandem_router_requests_total");
  const picked = await free(router);
  if (streams > 0) findings.add(`${streams} streams stay`);
  if (picked < MOST_INFLIGHT) findings.add(`${MOST_INFLIGHT - picked} requests stay on their endpoint`);
  if (rssAfterMb - rssBeforeMb > MOST_GROWTH_MB) findings.add(`memory: ${rssBeforeMb} MB before, ${rssAfterMb} after`);
  return { routed, streams, inflight: MOST_INFLIGHT - picked, rssBeforeMb, rssAfterMb };
}

async function main(): Promise<number> {
  const options = parse();
  if (options === undefined) console.log(HELP);
  if (options === undefined) return 0;
  const { row, findings } = await fuzz(options);
  if (process.stderr.isTTY) process.stderr.write("\n");
  if (options.json) console.log(JSON.stringify({ rows: [row] }, undefined, 2));
  else for (const [name, value] of Object.entries(row)) console.log(`${name.padEnd(12)} ${value}`);
  return findings.count === 0 ? 0 : 1;
}

process.exit(
  await main().catch((error: unknown) => {
    console.error((error as Error).message);
    return 2;
  }),
);
