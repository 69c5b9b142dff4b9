/** E6: the way to the API server falls silent without a word, for the open watches and then for everything. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { withCluster } from "./cluster.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { startMuteProxy, type MuteProxy } from "../e2e/cluster/mute-proxy.ts";
import { eventually, ready, startProcess, type Running } from "../e2e/cluster/process.ts";
import { buildProgram, PROGRAM } from "../e2e/cluster/tandem.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";
import { freePorts } from "../support/ports.ts";

const SILENCE_MS = 600_000;
const REQUIRED_MS = 60_000;
const TOLD_EVERY_MS = 60_000;

interface Watcher {
  readonly running: Running;
  readonly metrics: string;
  /** True while /readyz answers 200. */
  readonly isReady: () => Promise<boolean>;
}

/** The controller of a cluster behind the proxy. */
async function startBehind(cluster: Cluster, { port }: MuteProxy): Promise<Watcher> {
  const kubeconfig = join(cluster.folder, "proxied.kubeconfig");
  const text = readFileSync(cluster.kubeconfig, "utf8").replace(cluster.server.url, `https://127.0.0.1:${port}`);
  writeFileSync(kubeconfig, text, { mode: 0o600 });
  const [metrics = 0, admin = 0] = await freePorts(2);
  const settings = [
    `cluster.kubeconfig=${kubeconfig}`,
    `metrics.listen=127.0.0.1:${metrics}`,
    `admin.listen=127.0.0.1:${admin}`,
    "controller.lease=",
    "controller.webhookConfiguration=",
  ];
  const args = [PROGRAM, "serve", "--role", "controller", ...settings.flatMap((each) => ["--set", each])];
  const running = startProcess({ name: "tandem-behind", command: process.execPath, args, folder: cluster.folder });
  const isReady = async (): Promise<boolean> => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok;
  await ready(running, isReady);
  return { running, isReady, metrics: `http://127.0.0.1:${metrics}/metrics` };
}

/** Namespaces in the process' store, by its own gauge. */
async function known({ metrics }: Watcher): Promise<number> {
  const page = await (await fetch(metrics)).text();
  return Number(/^tandem_cluster_objects\{kind="Namespace"\} (\d+)$/m.exec(page)?.[1] ?? -1);
}

const timed = async (what: Promise<unknown>): Promise<number> => {
  const begun = performance.now();
  await what;
  return Math.round(performance.now() - begun);
};

/** What happened behind the silence is known; resolves to the milliseconds that took. */
async function learns(cluster: Cluster, watcher: Watcher, name: string): Promise<number> {
  const before = await known(watcher);
  const begun = performance.now();
  await cluster.must(["create", "namespace", name]);
  await eventually(`${name} is known`, async () => ((await known(watcher)) > before ? true : undefined), 180_000);
  return Math.round(performance.now() - begun);
}

const becomes = (watcher: Watcher, wanted: boolean): Promise<unknown> =>
  eventually(
    `/readyz is ${wanted ? "200" : "503"}`,
    async () => ((await watcher.isReady()) === wanted ? true : undefined),
    180_000,
  );

/** Nobody hears anything for ten minutes; resolves to how often it called itself ready meanwhile. */
async function outage(watcher: Watcher, until: number, progress: Progress): Promise<number> {
  let [wrong, told] = [0, performance.now()];
  while (performance.now() < until) {
    if (await watcher.isReady()) wrong += 1;
    if (performance.now() - told > TOLD_EVERY_MS) {
      told += TOLD_EVERY_MS;
      progress(`silent for another ${Math.round((until - performance.now()) / 1000)} s, ${wrong} times ready`);
    }
    await sleep(500);
  }
  return wrong;
}

async function scene(cluster: Cluster, proxy: MuteProxy, progress: Progress): Promise<ScoreResult> {
  const watcher = await startBehind(cluster, proxy);
  try {
    proxy.mute("open");
    const caughtUpMs = await learns(cluster, watcher, "behind-open");
    progress(`open connections silent: what happened is known after ${caughtUpMs} ms`);
    await becomes(watcher, true);
    const until = performance.now() + SILENCE_MS;
    proxy.mute("all");
    const notReadyMs = await timed(becomes(watcher, false));
    progress(`everything silent: not ready after ${notReadyMs} ms`);
    const wrongly = await outage(watcher, until, progress);
    const learning = learns(cluster, watcher, "behind-all");
    proxy.heal();
    const readyAgainMs = await timed(becomes(watcher, true));
    const knownAfterMs = await learning;
    const worst = Math.max(caughtUpMs, notReadyMs, readyAgainMs, knownAfterMs);
    const figures = { caughtUpMs, notReadyMs, wronglyReady: wrongly, readyAgainMs, knownAfterMs };
    return { figures, met: worst <= REQUIRED_MS && wrongly === 0 };
  } finally {
    await watcher.running.stop();
  }
}

export const row: ScoreRow = {
  id: "E6",
  fault: `half-open proxy before a real API server: the open watches fall silent, then everything for ${SILENCE_MS / 60_000} min`,
  required:
    "found within 60 s and caught up; Ready=false within 60 s while nothing comes through, never true meanwhile, and true within 60 s afterwards",
  run: (progress) => {
    buildProgram();
    return withCluster(async (cluster) => {
      const proxy = await startMuteProxy(Number(new URL(cluster.server.url).port));
      try {
        return await scene(cluster, proxy, progress);
      } finally {
        await proxy.stop();
      }
    });
  },
};
