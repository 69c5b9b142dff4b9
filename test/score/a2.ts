/** A2: reviews as large as they may be, larger, and 200 at once, against the served program. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawn, type ChildProcess } from "node:child_process";
import { issueAuthority, issueServing } from "../../src/certs/issue.ts";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { cluster } from "../bench/admission-server.ts";
import { REPOSITORY } from "../e2e/cluster/paths.ts";
import { eventually } from "../e2e/cluster/process.ts";
import { buildProgram } from "../e2e/cluster/tandem.ts";
import { startApiServer } from "../support/apiserver.ts";
import { large, reviewOf, stored } from "../support/large-deployment.ts";
import { watchHealth } from "./health.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";
import { freePorts } from "../support/ports.ts";

const MIB = 1048576;
const CONTAINER_MIB = 512;
const MOST_SHARE = 0.8;
const PARALLEL = 200;
const ROUNDS = 3;
const HEALTH_MS = 1000;

/** What a container of 512 MiB is given; the one of the manifests has 1 GiB, for larger clusters, and three times the heap. */
const NODE_OPTIONS = "--max-old-space-size=192 --max-semi-space-size=8";

/** An update of a managed Deployment with as many variables as fill `bytes`, half in the new and half in the old object. */
export function bigReview(bytes: number): Buffer {
  const variable = (index: number): object => ({ name: `SETTING_${index}`, value: `value-of-${index}` });
  const made = (count: number): Buffer => {
    const object = large({ name: "big" });
    const [engine] = object.spec.template.spec.containers as unknown as { env: object[] }[];
    engine?.env.push(...Array.from({ length: count }, (_, index) => variable(index)));
    return Buffer.from(JSON.stringify(reviewOf("UPDATE", object, stored(object))));
  };
  const each = (made(20_000).length - made(10_000).length) / 10_000;
  const body = made(Math.floor((bytes - made(0).length) / each) - 300);
  // JSON allows blanks at its end: filled up to the byte.
  return Buffer.concat([body, Buffer.alloc(Math.max(0, bytes - body.length), " ")]);
}

/** JSON that takes most memory for its length: as many one-key objects as are read, each with a key of its own. */
function swarm(bytes: number): Buffer {
  const MOST = 524_000;
  const text = Array.from({ length: MOST }, (_, index) => `{"${index.toString(36)}":0}`).join();
  return Buffer.from(`[${text}]`.padEnd(bytes));
}

interface Target {
  readonly port: number;
  readonly ca: string;
}

/** The status, or what became of the connection. */
const send = ({ port, ca }: Target, body: Buffer): Promise<string> =>
  new Promise((resolve) => {
    const headers = { "content-type": "application/json", "content-length": body.length };
    const options = { host: "127.0.0.1", port, path: "/admission/mutate", method: "POST", ca, headers, agent: false };
    const call = request({ ...options, timeout: 30_000 }, (answer) => {
      answer.resume().once("end", () => resolve(String(answer.statusCode)));
      answer.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error"));
    });
    call.once("timeout", () => call.destroy(new Error("hang")));
    call.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    call.end(body);
  });

const tally = (answers: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const answer of answers) counts[answer] = (counts[answer] ?? 0) + 1;
  return counts;
};

interface Served extends Target {
  readonly child: ChildProcess;
  readonly readyz: string;
  /** The most memory that was resident, MiB. */
  readonly peakMiB: () => number;
}

function peakOf(pid: number | undefined): number {
  const [, kib] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kib) / 1024);
}

/** The program over a busy cluster of 302 workloads, ended whatever happens. */
async function withServed<T>(use: (served: Served) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "tandem-a2-"));
  const api = await startApiServer();
  const { workloads, namespaces } = cluster();
  for (const object of [...namespaces, ...workloads] as KubeObject[]) api.put(object);
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const leaf = await issueServing(context, authority, ["127.0.0.1"]);
  const [port = 0, admin = 0] = await freePorts(2);
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  file("tls.crt", leaf.certificate);
  file("tls.key", leaf.key);
  const settings = {
    "cluster.kubeconfig": file("kubeconfig", kubeconfigOf(api)),
    "admission.certificates.directory": folder,
    "admission.listen": `127.0.0.1:${port}`,
    "admin.listen": `127.0.0.1:${admin}`,
    "metrics.listen": "",
  };
  const set = Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  const program = join(REPOSITORY, "dist", "tandem.js");
  const child = spawn(process.execPath, [program, "serve", "--role", "admission,extender", ...set], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { PATH: process.env["PATH"], HOME: folder, NODE_OPTIONS, TANDEM_LOG_LEVEL: "error" },
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const readyz = `http://127.0.0.1:${admin}/readyz`;
  try {
    await eventually("ready", async () => ((await fetch(readyz)).ok ? true : undefined));
    return await use({ child, port, ca: authority.certificate, readyz, peakMiB: () => peakOf(child.pid) });
  } finally {
    child.kill("SIGKILL");
    await ended;
    await api.stop();
    rmSync(folder, { recursive: true });
  }
}

const kubeconfigOf = ({ url, ca }: { url: string; ca: string }): string =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "c",
    clusters: [
      { name: "c", cluster: { server: url, "certificate-authority-data": Buffer.from(ca).toString("base64") } },
    ],
    users: [{ name: "u", user: { token: "t" } }],
    contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
  });

async function flood(served: Served, body: Buffer): Promise<string[]> {
  return Promise.all(Array.from({ length: PARALLEL }, () => send(served, body)));
}

async function measure(served: Served, progress: Progress): Promise<ScoreResult> {
  const idleMiB = served.peakMiB();
  const over = watchHealth({ url: served.readyz, pid: served.child.pid ?? 0 });
  const big = bigReview(Math.floor(6.9 * MIB));
  const fits = await send(served, big);
  const tooLarge = await send(served, bigReview(8 * MIB));
  progress(`6.9 MiB: ${fits}, 8 MiB: ${tooLarge}, peak ${served.peakMiB()} MiB`);
  const floods: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    floods.push(...(await flood(served, big)));
    progress(`${JSON.stringify(tally(floods))}, peak ${served.peakMiB()} MiB`);
  }
  const { asked, failed, worstMs, worstOwnMs } = await over();
  const hostile = await flood(served, swarm(Math.floor(6.9 * MIB)));
  progress(`small objects: ${JSON.stringify(tally(hostile))}, peak ${served.peakMiB()} MiB`);
  const after = await send(served, big);
  const peakMiB = served.peakMiB();
  const answers = tally(floods);
  const figures = {
    ...{
      nodeOptions: NODE_OPTIONS,
      idleMiB,
      peakMiB,
      healthAsked: asked,
      healthFailed: failed,
      healthWorstMs: worstMs,
      healthWorstOwnMs: worstOwnMs,
    },
    ...{
      at6_9MiB: fits,
      at8MiB: tooLarge,
      flood: JSON.stringify(answers),
      hostile: JSON.stringify(tally(hostile)),
      after,
    },
  };
  const known = ["200", "503"].reduce((sum, code) => sum + (answers[code] ?? 0), 0) === floods.length;
  const met = [fits, tooLarge, after].join() === "200,413,200" && known && failed === 0 && worstOwnMs < HEALTH_MS;
  return { figures, met: met && served.child.exitCode === null && peakMiB < MOST_SHARE * CONTAINER_MIB };
}

export const row: ScoreRow = {
  id: "A2",
  fault: `reviews of 6.9 and 8 MiB, ${PARALLEL} of 6.9 MiB at once, ${ROUNDS} times, and ${PARALLEL} of half a million small objects`,
  required: `6.9 MiB: 200; 8 MiB: 413; at once: 200 or 503; /readyz < ${HEALTH_MS} ms; resident < ${MOST_SHARE * 100} % of ${CONTAINER_MIB} MiB`,
  run: async (progress) => {
    buildProgram();
    return withServed((served) => measure(served, progress));
  },
};
