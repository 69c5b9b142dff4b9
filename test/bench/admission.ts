/**
 * What an admission review costs: `node test/bench/admission.ts [--rate 200] [--seconds 5] [--rounds 5] [--seed 1] [--json]`.
 *
 * Reviews of a 20 KB Deployment over HTTPS at a steady rate, against Tandem's webhooks and against a plain fastify that
 * sends the same bodies back. Each server is a process of its own and says how much CPU it used; rounds alternate, and
 * the medians of the rounds are shown.
 */
import { fork, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "undici";
import { admitObject } from "../../src/admission/admit.ts";
import { issueAuthority, issueServing } from "../../src/certs/issue.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { large, reviewOf, stored } from "../support/large-deployment.ts";
import { cluster, type Start, type Usage } from "./admission-server.ts";
import { parsed } from "../support/arguments.ts";

const HELP = `CPU and latency of an admission review, beside a plain fastify echo of the same bodies.

  --rate N     reviews a second (200)
  --seconds N  length of one run (5)
  --rounds N   runs of each case and server, alternating (5)
  --seed N     spreads the moments of sending (1)
  --json       machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:admission -- --seconds 3 --json`;

const { values } = parsed({
  options: {
    rate: { type: "string", default: "200" },
    seconds: { type: "string", default: "5" },
    rounds: { type: "string", default: "5" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  },
});

function positive(name: "rate" | "seconds" | "rounds" | "seed"): number {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} ${values[name]}: give a positive integer`);
  return value;
}

const VARIANTS = ["echo", "tandem"] as const;
/** Connections kept open, as the Go client of an API server does. */
const CONNECTIONS = 8;
const WARMUP_REVIEWS = 400;

interface Case {
  readonly webhook: "mutate" | "validate";
  readonly operation: "CREATE" | "UPDATE";
  readonly body: Buffer;
}

/** A creation, and an update of an annotation that plans nothing new; the validating webhook sees what was admitted. */
function cases(): Case[] {
  const { admission: settings } = loadConfig({});
  const snapshot = cluster();
  const created = large({ name: "prefill-of-it" });
  const { object } = admitObject(created, { snapshot, settings });
  const held = stored(object);
  const annotations = { ...held.metadata.annotations, "example.com/edited": "yes" };
  const edited = { ...held, metadata: { ...held.metadata, annotations } };
  const one = (webhook: Case["webhook"], now: KubeObject, before: KubeObject | null = null): Case => {
    const operation = before === null ? "CREATE" : "UPDATE";
    return { webhook, operation, body: Buffer.from(JSON.stringify(reviewOf(operation, now, before))) };
  };
  return [one("mutate", created), one("mutate", edited, held), one("validate", object), one("validate", edited, held)];
}

interface Server {
  readonly child: ChildProcess;
  readonly origin: string;
}

async function start(variant: Start["variant"], pair: { cert: string; key: string }): Promise<Server> {
  const child = fork(new URL("admission-server.ts", import.meta.url), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  child.send({ variant, ...pair } satisfies Start);
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return { child, origin: `https://127.0.0.1:${port}` };
}

async function cpuOf({ child }: Server): Promise<number> {
  child.send("usage");
  const [{ cpuUs }] = (await once(child, "message")) as [Usage];
  return cpuUs;
}

/** Park and Miller's minimal generator (CACM 31, 1988): numbers from 0 to 1. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

async function ask(agent: Agent, { origin }: Server, { webhook, body }: Case): Promise<number> {
  const begin = performance.now();
  const headers = { "content-type": "application/json" };
  const reply = await agent.request({ origin, path: `/admission/${webhook}`, method: "POST", headers, body });
  await reply.body.dump();
  if (reply.statusCode !== 200) throw new Error(`${webhook} answered ${reply.statusCode}`);
  return performance.now() - begin;
}

interface Run {
  readonly cpuUs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** An open loop: the moments of sending do not wait for answers, and jitter by half an interval either way. */
async function run(agent: Agent, server: Server, one: Case, random: () => number): Promise<Run> {
  const [rate, total] = [positive("rate"), positive("rate") * positive("seconds")];
  const before = await cpuOf(server);
  const begin = performance.now();
  const times: Promise<number>[] = [];
  for (let index = 0; index < total; index++) {
    const due = begin + ((index + random() - 0.5) * 1000) / rate;
    const wait = due - performance.now();
    if (wait > 1) await sleep(wait);
    times.push(ask(agent, server, one));
  }
  const sorted = (await Promise.all(times)).sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(total - 1, Math.floor(share * total))] ?? 0;
  return { cpuUs: ((await cpuOf(server)) - before) / total, p50Ms: at(0.5), p99Ms: at(0.99) };
}

const median = (numbers: readonly number[]): number => {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
};
const rounded = (value: number, digits = 3): number => Number(value.toFixed(digits));

async function compare(agent: Agent, servers: readonly Server[], one: Case): Promise<object[]> {
  const runs = servers.map((): Run[] => []);
  for (let round = 0; round < positive("rounds"); round++)
    for (const [index, server] of servers.entries())
      runs[index]?.push(await run(agent, server, one, generator(positive("seed") + round)));
  const of = (index: number, key: keyof Run): number => median((runs[index] ?? []).map((each) => each[key]));
  return VARIANTS.map((server, index) => ({
    webhook: one.webhook,
    operation: one.operation,
    server,
    bodyBytes: one.body.length,
    rate: positive("rate"),
    rounds: positive("rounds"),
    cpuUs: Math.round(of(index, "cpuUs")),
    cpuToEcho: rounded(of(index, "cpuUs") / of(0, "cpuUs"), 2),
    p50Ms: rounded(of(index, "p50Ms")),
    p99Ms: rounded(of(index, "p99Ms")),
  }));
}

async function main(): Promise<void> {
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const serving = await issueServing(context, authority, ["127.0.0.1"]);
  const pair = { cert: serving.certificate, key: serving.key };
  const agent = new Agent({ connections: CONNECTIONS, pipelining: 1, connect: { ca: authority.certificate } });
  const servers = await Promise.all(VARIANTS.map((variant) => start(variant, pair)));
  const all = cases();
  const rows: object[] = [];
  try {
    for (const server of servers)
      for (let index = 0; index < WARMUP_REVIEWS; index++) await ask(agent, server, all[index % all.length] as Case);
    for (const one of all) rows.push(...(await compare(agent, servers, one)));
  } finally {
    await agent.close();
    for (const { child } of servers) child.kill();
  }
  if (values.json === true) console.log(JSON.stringify({ rows }));
  else console.table(rows);
}

if (values.help === true) console.log(HELP);
else await main();
