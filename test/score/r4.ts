/** R4: an endpoint goes, stops being ready, or moves to another port: how long it is still picked. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pod } from "../../src/kinds/kube.ts";
import { LABEL } from "../../src/kinds/names.ts";
import { ProcessClient } from "../../src/simulator/gateway/client.ts";
import { startApiServer, type FakeApiServer } from "../support/apiserver.ts";
import { quantile } from "../support/usage.ts";
import { ask, comes, promptOf, sizeOf, startRouterProcess } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

/** Of each kind of change. */
const ROUNDS = sizeOf("R4_ROUNDS", 12);
const PODS = 4;
const MOST_P99_MS = 1000;
const MOST_MS = 2000;
/** Watched after a change: nothing may come back later either. */
const WATCH_MS = 1000;
const PORT = 8000;
const MODEL = "m";

type Change = "deleted" | "terminating" | "notReady" | "port";
const CHANGES: readonly Change[] = ["deleted", "terminating", "notReady", "port"];

const pod = (index: number, { ready = true, port = PORT, going = false } = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: `engine-${index}`,
    namespace: "default",
    labels: { [LABEL.model]: MODEL, [LABEL.role]: "both" },
    ...(going ? { deletionTimestamp: new Date().toISOString() } : {}),
  },
  spec: {
    containers: [
      {
        name: "engine",
        image: "vllm/vllm-openai",
        args: ["--model", MODEL, "--port", String(port)],
        ports: [{ name: "http", containerPort: port }],
      },
    ],
  },
  status: {
    phase: "Running",
    podIP: `127.64.0.${index + 1}`,
    conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
    containerStatuses: [
      { name: "engine", ready, restartCount: 0, state: { running: { startedAt: "2026-01-01T00:00:00Z" } } },
    ],
  },
});

function make(api: FakeApiServer, change: Change, index: number): void {
  if (change === "deleted") api.drop(pod(index));
  else if (change === "terminating") api.put(pod(index, { going: true }));
  else if (change === "notReady") api.put(pod(index, { ready: false }));
  else api.put(pod(index, { port: PORT + 1 }));
}

/** Where one request is sent. */
async function pick(client: ProcessClient, number: number): Promise<string> {
  const { stream, reply } = await ask(client, promptOf(MODEL, `request ${number}`));
  stream.reset();
  return reply?.destination ?? "";
}

interface Seen {
  /** From the change to the last pick of what is gone; 0 where there was none. */
  readonly staleMs: number;
  /** Picks of it after the change. */
  readonly stale: number;
  readonly picks: number;
}

class Scene {
  readonly #api: FakeApiServer;
  readonly #address: string;
  #client: ProcessClient;
  #number = 0;

  constructor(api: FakeApiServer, address: string) {
    this.#api = api;
    this.#address = address;
    this.#client = new ProcessClient(address);
  }

  pick(): Promise<string> {
    return pick(this.#client, this.#number++);
  }

  /** All endpoints are picked from. */
  async whole(): Promise<void> {
    // nghttp2 leaves a peer whose frames cross some thousands of its resets (R9): no connection lives that long here.
    await this.#client.close();
    this.#client = new ProcessClient(this.#address);
    for (let index = 0; index < PODS; index++) this.#api.put(pod(index));
    const wanted = new Set(Array.from({ length: PODS }, (_, index) => `127.64.0.${index + 1}:${PORT}`));
    const all = await comes(async () => {
      const picked = await Promise.all(Array.from({ length: 4 * PODS }, () => this.pick()));
      return new Set(picked.filter((each) => wanted.has(each))).size === wanted.size;
    }, 10_000);
    if (!all) throw new Error("not every endpoint is picked");
  }

  async round(change: Change, index: number): Promise<Seen> {
    await this.whole();
    const gone = `127.64.0.${index + 1}:${PORT}`;
    make(this.#api, change, index);
    const changed = performance.now();
    let [staleMs, stale, picks] = [0, 0, 0];
    while (performance.now() - changed < WATCH_MS) {
      const picked = await Promise.all(Array.from({ length: PODS }, () => this.pick()));
      picks += picked.length;
      stale += picked.filter((each) => each === gone).length;
      if (picked.includes(gone)) staleMs = performance.now() - changed;
      await sleep(1);
    }
    return { staleMs, stale, picks };
  }
}

async function run(progress: Progress): Promise<ScoreResult> {
  const api = await startApiServer();
  for (let index = 0; index < PODS; index++) api.put(pod(index));
  const router = await startRouterProcess({ router: {}, api });
  try {
    const scene = new Scene(api, router.address);
    const seen: Seen[] = [];
    for (const change of CHANGES) {
      for (let round = 0; round < ROUNDS; round++) seen.push(await scene.round(change, round % PODS));
      const worst = Math.max(...seen.slice(-ROUNDS).map(({ staleMs }) => staleMs));
      progress(`${ROUNDS} times ${change}: picked for ${worst.toFixed(1)} ms at the longest`);
    }
    const times = seen.map(({ staleMs }) => staleMs);
    const sum = (of: (each: Seen) => number): number => seen.reduce((total, each) => total + of(each), 0);
    const [p99Ms, worstMs] = [Number(quantile(times, 0.99).toFixed(1)), Number(Math.max(...times).toFixed(1))];
    const figures = {
      changes: times.length,
      picks: sum((each) => each.picks),
      stale: sum((each) => each.stale),
      p99Ms,
      worstMs,
    };
    return { figures, met: p99Ms <= MOST_P99_MS && worstMs <= MOST_MS };
  } finally {
    await router.stop();
    await api.stop();
  }
}

export const row: ScoreRow = {
  id: "R4",
  fault: `an endpoint is deleted, terminates, is not ready, or moves to another port, ${ROUNDS} times each, under requests, over the real watch`,
  required: `not picked after ${MOST_P99_MS / 1000} s at the 99th percentile, and never after ${MOST_MS / 1000} s`,
  run,
};
