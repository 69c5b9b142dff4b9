/**
 * The ranking of routing policies live: simulated engines over HTTP with KV events over ZeroMQ, behind a real Envoy, beside
 * the same slice of the trace in virtual time. `npm run bench:routing-live -- --help`.
 */
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "undici";
import { summary } from "../../src/cli/simulate/report.ts";
import { loadConfig } from "../../src/config/load.ts";
import { startExtProcServer } from "../../src/router/extproc/server.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import { capacityOf, type Row } from "../../src/simulator/routing/cells.ts";
import { drive, type Outcome } from "../../src/simulator/routing/drive.ts";
import { figuresOf } from "../../src/simulator/routing/figures.ts";
import { chooserNamed, POLICIES, policyNamed, type PolicyName } from "../../src/simulator/routing/policies/index.ts";
import { TRACE_MODEL } from "../../src/simulator/routing/scenes.ts";
import { atRate, parseTrace } from "../../src/simulator/routing/trace.ts";
import type { SimulatedRequest } from "../../src/simulator/routing/workload.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";
import { systemClock, systemTimers } from "../../src/telemetry/process.ts";
import { startEnvoy } from "../e2e/cluster/envoy.ts";
import { startRouterProcess } from "../score/router-process.ts";
import { parsed } from "../support/arguments.ts";
import { MODEL, promptOf, startLiveFleet, type LiveFleet } from "./routing/live-fleet.ts";
import { NUMBER_HEADER, policyRouter } from "./routing/live-router.ts";

const TRACE = new URL("../../../shared/traces/mooncake_conversation.jsonl", import.meta.url).pathname;
const text = { type: "string" } as const;
const { values } = parsed({
  options: {
    ...{ requests: { ...text, default: "600" }, load: { ...text, default: "0.8" }, engines: { ...text, default: "8" } },
    policies: { ...text, default: "tandem,llm-d,kthena-prefix,round-robin" },
    trace: { ...text, default: TRACE },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(`Policies live, behind Envoy, beside the same requests in virtual time.

  --requests N      of the trace (600)
  --load SHARE      of what round robin can do on the whole trace (0.8)
  --engines N       simulated, over HTTP (8)
  --policies NAMES  tandem, and published ones that need no events (tandem,llm-d,kthena-prefix,round-robin)
  --trace FILE      in Mooncake's form (../shared/traces/mooncake_conversation.jsonl)
  --json            machine-readable rows (docs/reference/benchmarks.md)

Envoy is the one that ENVOY_BIN names, or is installed into a cache the first time.

Example:
  npm run --silent bench:routing-live -- --requests 200 --policies tandem,round-robin`);
  process.exit(0);
}

const [COUNT, LOAD, ENGINES] = [Number(values.requests), Number(values.load), Number(values.engines)];
if (!(COUNT >= 1 && LOAD > 0 && ENGINES >= 1)) {
  console.error("--requests, --load and --engines take positive numbers");
  process.exit(2);
}
const names = values.policies.split(",").map((name) => {
  const found = POLICIES.find((policy) => policy === name);
  if (found !== undefined) return found;
  console.error(`--policies ${name}: accepted are ${POLICIES.join(", ")}`);
  return process.exit(2);
});
if (!existsSync(values.trace)) {
  console.error(`--trace ${values.trace}: no such file`);
  process.exit(2);
}
const SEED = 1;
const TOPOLOGY = { both: ENGINES, prefill: 0, decode: 0 };
const whole = parseTrace(readFileSync(values.trace, "utf8"));
const rate = LOAD * (await capacityOf(whole, TOPOLOGY));
const requests = atRate(whole.slice(0, COUNT), rate, SEED);

const say = (line: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`${line}\n`);
};

async function virtual(policy: PolicyName): Promise<readonly Outcome[]> {
  const config = loadConfig({}).router;
  const options = { tandem: { config, log: SILENT_LOG, metrics: NO_METRICS }, kthena: "current" } as const;
  return drive({
    policy: (world) => policyNamed(policy, options, world),
    workload: { requests, blockTokens: TRACE_MODEL.blockTokens },
    ...{ topology: TOPOLOGY, model: TRACE_MODEL, seed: SEED },
  });
}

/** Address of ext_proc with the policy behind it, and what ends it. */
async function serving(policy: PolicyName, fleet: LiveFleet): Promise<{ address: string; stop: () => Promise<void> }> {
  const addresses = fleet.engines.map(({ address }) => address);
  if (policy === "tandem") {
    const statics = fleet.engines.map(({ address, events }) => ({
      ...{ address, role: "both", model: MODEL },
      ...(events === undefined ? {} : { eventsPort: events.port, replayPort: events.replayPort }),
    }));
    const log = (line: string): void => say(`router: ${line}`);
    return startRouterProcess({ router: { endpoints: { static: statics } }, log });
  }
  const view = { fleet: fleet.view, time: systemTimers, random: seededRandom(SEED) };
  const router = policyRouter(chooserNamed(policy, "current", view), requests, addresses);
  const ports = { clock: systemClock, timers: systemTimers, log: SILENT_LOG, metrics: NO_METRICS };
  const limits = { maxStreams: 2000, maxBufferedBytes: 512 * 2 ** 20 };
  const server = await startExtProcServer({ host: "127.0.0.1", port: 0 }, { router, ...limits, ...ports });
  return { address: server.address, stop: () => server.stop(0) };
}

async function live(policy: PolicyName): Promise<readonly Outcome[]> {
  const fleet = await startLiveFleet(ENGINES);
  const router = await serving(policy, fleet);
  const decodeEndpoints = fleet.engines.map(({ address }) => address);
  const envoy = await startEnvoy({ profile: "exact", extProcAddress: router.address, decodeEndpoints });
  const agent = new Agent({ connections: 512, pipelining: 1, bodyTimeout: 0, headersTimeout: 0 });
  try {
    // Metrics are scraped and events followed before the first request.
    await sleep(3000);
    const begun = performance.now();
    return await Promise.all(requests.map((request, number) => ask(request, number, { begun, url: envoy.url, agent })));
  } finally {
    await agent.destroy();
    await envoy.stop();
    await router.stop();
    await fleet.stop();
  }
}

interface Client {
  readonly begun: number;
  readonly url: string;
  readonly agent: Agent;
}

async function ask(request: SimulatedRequest, number: number, { begun, url, agent }: Client): Promise<Outcome> {
  await sleep(Math.max(0, begun + request.at - performance.now()));
  const { outputTokens, promptTokens } = request;
  const body = JSON.stringify({
    ...{ model: MODEL, prompt: promptOf(request), max_tokens: outputTokens, ignore_eos: true },
    ...{ stream: true, stream_options: { include_usage: true } },
  });
  const sentAt = performance.now();
  const reply = await agent.request({
    ...{ origin: url, path: "/v1/completions", method: "POST", body },
    headers: { "content-type": "application/json", [NUMBER_HEADER]: String(number) },
  });
  if (reply.statusCode !== 200) throw new Error(`${reply.statusCode}: ${await reply.body.text()}`);
  let [firstAt, tail] = [0, ""];
  reply.body.on("data", (chunk: Buffer) => {
    firstAt ||= performance.now();
    tail = (tail + chunk.toString("latin1")).slice(-2000);
  });
  await once(reply.body, "end");
  const cachedTokens = Number(/"cached_tokens":\s*(\d+)/.exec(tail)?.[1] ?? 0);
  const times = { ttftMs: firstAt - sentAt, e2eMs: performance.now() - sentAt };
  return { run: 0, at: sentAt - begun, ...times, promptTokens, outputTokens, cachedTokens };
}

type LiveRow = Row & { readonly way: "virtual" | "live" };
const rowOf = (policy: PolicyName, way: LiveRow["way"], outcomes: readonly Outcome[]): LiveRow => ({
  ...{ policy, scene: `slice, ${way}`, way, topology: String(ENGINES), load: LOAD, seed: SEED },
  ...figuresOf(outcomes),
});

const rows: LiveRow[] = [];
for (const policy of names) {
  rows.push(rowOf(policy, "virtual", await virtual(policy)));
  say(`${policy}: ${COUNT} requests in ${Math.round(COUNT / rate)} s`);
  rows.push(rowOf(policy, "live", await live(policy)));
}

/** Policies that differ by more than 15 % in virtual time, and whether they come in the same order live. */
const pairs = names.flatMap((one, index) => names.slice(index + 1).map((other) => pairOf(one, other)));
function pairOf(one: PolicyName, other: PolicyName): object {
  const ttft = (policy: PolicyName, way: LiveRow["way"]): number =>
    rows.find((row) => row.policy === policy && row.way === way)?.ttftMs.mean ?? 0;
  const [virtually, really] = [ttft(one, "virtual") / ttft(other, "virtual"), ttft(one, "live") / ttft(other, "live")];
  const apart = Math.max(virtually, 1 / virtually) > 1.15;
  const ratio = { virtual: Number(virtually.toFixed(3)), live: Number(really.toFixed(3)) };
  return { pair: `${one} / ${other}`, ...ratio, apart, sameOrder: virtually < 1 === really < 1 };
}
const hits = names.map((policy) => {
  const of = (way: LiveRow["way"]): number =>
    rows.find((row) => row.policy === policy && row.way === way)?.hitRate ?? 0;
  return {
    policy,
    virtual: of("virtual"),
    live: of("live"),
    points: Number((100 * (of("live") - of("virtual"))).toFixed(1)),
  };
});
if (values.json) console.log(JSON.stringify({ rows, pairs, hits }, null, 2));
else {
  console.log(summary(rows));
  console.table(pairs);
  console.table(hits);
}
process.exit(0);
