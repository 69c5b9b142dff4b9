/** E7: the extender over 5000 nodes and 10 000 pods: what a call takes, and what the process holds. */
import { fork, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { issueAuthority, issueServing } from "../../src/certs/issue.ts";
import { ask, callerOf } from "../bench/scheduling/calls.ts";
import { cpuMsOf, memoryOf, quantile, rounded } from "../support/usage.ts";
import { cluster, podOf, REPLICAS, type Binding, type FleetShape } from "./extender-server.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const SHAPE: FleetShape = { nodes: 5000, pods: 10_000, gangs: 100 };
const ROUNDS = 300;
/** Calls that compile the code. */
const WARMUP = 30;
const MOST_MS = 50;
const MOST_MB = 400;

async function start(): Promise<{ server: ChildProcess; url: string; ca: string }> {
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const { certificate: cert, key } = await issueServing(context, authority, ["127.0.0.1"]);
  const server = fork(join(import.meta.dirname, "extender-server.ts"));
  server.send({ cert, key, shape: SHAPE });
  const [{ port }] = (await once(server, "message")) as [{ port: number }];
  return { server, url: `https://127.0.0.1:${port}`, ca: authority.certificate };
}

/** A pod that waits: round by round the gangs in turn, the unbound half of each role. */
function waiting(round: number): ReturnType<typeof podOf> {
  const turn = Math.floor(round / SHAPE.gangs);
  const index = REPLICAS / 2 + (Math.floor(turn / 2) % (REPLICAS / 2));
  return podOf(round % SHAPE.gangs, turn % 2 === 0 ? "prefill" : "decode", index);
}

async function run(progress: Progress): Promise<ScoreResult> {
  const { server, url, ca } = await start();
  const caller = callerOf({ url, ca });
  const names = cluster(SHAPE).nodes.map(({ metadata }) => metadata.name ?? "");
  const pid = server.pid ?? 0;
  const [filter, both]: [number[], number[]] = [[], []];
  let cpu = 0;
  try {
    for (let round = 0; round < ROUNDS + WARMUP; round++) {
      if (round === WARMUP) cpu = cpuMsOf(pid);
      const pod = waiting(round);
      const { node, filterMs, prioritizeMs } = await ask(caller, pod, names);
      if (round >= WARMUP) filter.push(filterMs);
      if (round >= WARMUP) both.push(filterMs + prioritizeMs);
      server.send({ name: pod.metadata.name ?? "", node } satisfies Binding);
      await once(server, "message");
      if (round % 100 === 0) progress(`${round} pods asked for and bound`);
    }
    const [p99, { peakMb }] = [quantile(filter, 0.99), memoryOf(pid)];
    const figures = {
      filterP50Ms: rounded(quantile(filter, 0.5)),
      filterP99Ms: rounded(p99),
      bothP50Ms: rounded(quantile(both, 0.5)),
      bothP99Ms: rounded(quantile(both, 0.99)),
      cpuMsPerPod: rounded((cpuMsOf(pid) - cpu) / ROUNDS),
      memoryPeakMb: peakMb,
    };
    return { figures, met: p99 <= MOST_MS && peakMb <= MOST_MB };
  } finally {
    caller.close();
    server.kill();
  }
}

export const row: ScoreRow = {
  id: "E7",
  fault: `${SHAPE.nodes} nodes of 8 devices, ${SHAPE.pods} pods, ${SHAPE.gangs} gangs half bound; ${ROUNDS} pods asked for and bound one after the other, over one HTTPS connection to a process of its own`,
  required: `filter p99 at most ${MOST_MS} ms, memory at most ${MOST_MB} MB`,
  run,
};
