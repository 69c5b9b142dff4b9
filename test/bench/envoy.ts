/**
 * What ext_proc adds to a request: the same Envoy, body and upstream, without the filter, with both shipped profiles and
 * with the buffered body mode, interleaved in one run. `npm run bench:envoy -- --help`.
 * Requests begin at even distances, whether or not the ones before were answered, and latencies count from the moment at
 * which a request was to begin.
 *
 * The upstream answers at once and serves role `both`, so no prefill leg runs: what is measured is the filter, the
 * router's work on the body and the pick.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "undici";
import { startEnvoy, type Envoy, type EnvoyOptions } from "../e2e/cluster/envoy.ts";
import { REPOSITORY } from "../e2e/cluster/paths.ts";
import { ready, startProcess, temporaryFolder } from "../e2e/cluster/process.ts";
import { buildProgram } from "../e2e/cluster/tandem.ts";
import { quantile, rounded } from "../support/usage.ts";
import { parsed } from "../support/arguments.ts";
import { freePorts } from "../support/ports.ts";

const { values } = parsed({
  options: {
    rate: { type: "string", default: "500" },
    requests: { type: "string", default: "1000" },
    bodies: { type: "string", default: "2048,16384,65536" },
    concurrency: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(`What ext_proc adds to a request through Envoy, against the same Envoy without it.

  --rate N         requests a second, in an open loop (500); 0: as fast as answers come
  --requests N     of each variant and round (1000)
  --bodies N,...   bytes of a body (2048,16384,65536)
  --concurrency N  connections (64; 4 with --rate 0)
  --json           machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:envoy -- --bodies 16384 --json`);
  process.exit(0);
}
const REQUESTS = Number(values.requests);
const RATE = values.rate === "0" ? null : Number(values.rate);
const CONCURRENCY = Number(values.concurrency ?? (RATE === null ? 4 : 64));
const BODIES = values.bodies.split(",").map(Number);
if (![REQUESTS, CONCURRENCY, RATE ?? 1, ...BODIES].every((value) => Number.isInteger(value) && value > 0)) {
  console.error("--rate, --requests, --bodies and --concurrency take positive integers");
  process.exit(2);
}
const ROUNDS = 3;
const MODEL = "bench";

const VARIANTS: Readonly<Record<string, Partial<EnvoyOptions>>> = {
  plain: { plain: true },
  light: { profile: "light" },
  exact: { profile: "exact" },
  buffered: { profile: "light", bodyMode: "BUFFERED" },
};

const say = (line: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`${line}\n`);
};
const median = (values: readonly number[]): number => quantile(values, 0.5);

// Idle connections stay: one that closes as Envoy takes it would count as an engine that broke.
const upstream = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
  request.resume().on("end", () => {
    const models = { data: [{ id: MODEL }] };
    response
      .writeHead(200, { "content-type": "application/json" })
      .end(JSON.stringify(request.method === "GET" ? models : { ok: true }));
  });
});
await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
const engine = `127.0.0.1:${(upstream.address() as AddressInfo).port}`;

buildProgram();
const { folder, remove } = temporaryFolder("tandem-bench-");
const [extProc = 0, admin = 0] = await freePorts(2);
const file = join(folder, "tandem.yaml");
const statics = [{ address: engine, role: "both", model: MODEL }];
writeFileSync(
  file,
  JSON.stringify({
    router: { listen: `127.0.0.1:${extProc}`, healthListen: "", endpoints: { static: statics } },
    metrics: { listen: "" },
    admin: { listen: `127.0.0.1:${admin}` },
    log: { level: "warn" },
  }),
);
const args = [join(REPOSITORY, "dist", "tandem.js"), "serve", "--config", file, "--role", "router"];
const router = startProcess({ name: "router", command: process.execPath, args, folder });
await ready(router, async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok);
const envoys = new Map<string, Envoy>();
for (const [name, options] of Object.entries(VARIANTS))
  envoys.set(name, await startEnvoy({ ...options, extProcAddress: `127.0.0.1:${extProc}`, decodeEndpoints: [engine] }));

const agent = new Agent({ connections: CONCURRENCY, pipelining: 1 });

/** One request; its latency in milliseconds counts from `due`. */
async function ask(url: string, body: string, due: number): Promise<number> {
  const reply = await agent.request({
    origin: url,
    path: "/v1/chat/completions",
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  const text = await reply.body.text();
  if (reply.statusCode !== 200) throw new Error(`${url}: status ${reply.statusCode}: ${text}`);
  return performance.now() - due;
}

function bodyOf(number: number, bytes: number): string {
  const content = `${number} ${"the quick brown fox ".repeat(Math.ceil(bytes / 20))}`.slice(0, bytes);
  return JSON.stringify({ model: MODEL, max_tokens: 1, messages: [{ role: "user", content }] });
}

/** As fast as answers come. */
async function closedLoop(url: string, bytes: number): Promise<number[]> {
  const times: number[] = [];
  let left = REQUESTS;
  const client = async (): Promise<void> => {
    while (left-- > 0) times.push(await ask(url, bodyOf(left, bytes), performance.now()));
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, client));
  return times;
}

async function openLoop(url: string, bytes: number, rate: number): Promise<number[]> {
  const begun = performance.now();
  const times: Promise<number>[] = [];
  for (let number = 0; number < REQUESTS; number++) {
    const due = begun + (number * 1000) / rate;
    const body = bodyOf(number, bytes);
    // The event loop sleeps in whole milliseconds; the rest is waited for in turns of it, which answers need too.
    const early = due - performance.now();
    if (early > 1) await sleep(Math.floor(early));
    while (performance.now() < due) await new Promise((resolve) => setImmediate(resolve));
    times.push(ask(url, body, due));
  }
  return Promise.all(times);
}

/** Latencies in milliseconds, sorted. */
async function measure(url: string, bytes: number): Promise<number[]> {
  const times = await (RATE === null ? closedLoop(url, bytes) : openLoop(url, bytes, RATE));
  return times.sort((a, b) => a - b);
}

type Found = Map<string, { p50: number[]; p99: number[] }>;

function note(found: Found, name: string, times: readonly number[]): void {
  const entry = found.get(name) ?? { p50: [], p99: [] };
  entry.p50.push(quantile(times, 0.5));
  entry.p99.push(quantile(times, 0.99));
  found.set(name, entry);
}

const rows: object[] = [];
for (const bytes of BODIES) {
  const found: Found = new Map();
  const warm: Found = new Map();
  for (let round = 0; round <= ROUNDS; round++)
    for (const [name, envoy] of envoys) {
      say(`${bytes} bytes, round ${round} of ${ROUNDS}, ${name}`);
      const times = await measure(envoy.url, bytes);
      // Round 0 warms up.
      note(round === 0 ? warm : found, name, times);
    }
  const plain = found.get("plain") ?? { p50: [], p99: [] };
  const added = (times: readonly number[], without: readonly number[]): number =>
    // Round by round: what else the machine does changes from one to the next.
    median(times.map((time, round) => time - (without[round] ?? 0)));
  for (const [variant, { p50, p99 }] of found)
    rows.push({
      ...{ variant, bodyBytes: bytes, requests: REQUESTS * ROUNDS, concurrency: CONCURRENCY, ratePerSecond: RATE },
      p50Ms: rounded(median(p50), 3),
      p99Ms: rounded(median(p99), 3),
      addedP50Ms: rounded(added(p50, plain.p50), 3),
      addedP99Ms: rounded(added(p99, plain.p99), 3),
    });
}

if (values.json) console.log(JSON.stringify({ rows }, null, 2));
else console.table(rows);
for (const envoy of envoys.values()) await envoy.stop();
await router.stop();
await agent.destroy();
upstream.close();
upstream.closeAllConnections();
remove();
process.exit(0);
