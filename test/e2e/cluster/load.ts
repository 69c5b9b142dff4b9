/** Steady load of admissions on a real API server: Deployments created as dry runs, which call the webhooks and store nothing. */
import { setTimeout as sleep } from "node:timers/promises";
import { STATUS } from "../../../src/kinds/names.ts";
import type { Api } from "./api.ts";

export interface LoadReport {
  readonly sent: number;
  readonly failed: number;
  /** Admitted, but without what Tandem injects. */
  readonly untouched: number;
  readonly failures: readonly string[];
  /** Milliseconds since the start, of each failure. */
  readonly failedAtMs: readonly number[];
  readonly perSecond: number;
  readonly p99Ms: number;
}

export interface LoadOptions {
  /** Admissions a second, all workers together; what cannot be kept up is sent as fast as it goes. */
  readonly perSecond: number;
  readonly workers?: number;
}

export interface Load {
  readonly sent: () => number;
  /** No more calls; resolves when the last has been answered. */
  stop(): Promise<LoadReport>;
}

/** A Deployment that has nothing but its two labels, as users write it. */
export const labelledDeployment = (name: string, labels: Record<string, string> = MANAGED): object => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, labels },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: {
        containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0", args: ["--model", "m", "--port", "8000"] }],
      },
    },
  },
});

const MANAGED = { "tandem.sh/model": "m", "tandem.sh/role": "decode" };

export function startLoad(api: Api, { perSecond, workers = 12 }: LoadOptions): Load {
  const begun = performance.now();
  const took: number[] = [];
  const failures: string[] = [];
  const failedAtMs: number[] = [];
  let [sent, untouched, stopped] = [0, 0, false];
  const one = async (number: number): Promise<void> => {
    const from = performance.now();
    try {
      const path = "/apis/apps/v1/namespaces/default/deployments?dryRun=All";
      const { metadata } = await api.post(path, labelledDeployment(`load-${number}`));
      if (metadata.annotations?.[STATUS.plan] === undefined) untouched += 1;
    } catch (error) {
      failures.push((error as Error).message);
      failedAtMs.push(from - begun);
    }
    took.push(performance.now() - from);
  };
  const worker = async (): Promise<void> => {
    while (!stopped) {
      const number = sent++;
      const due = begun + (number * 1000) / perSecond - performance.now();
      if (due > 0) await sleep(due);
      await one(number);
    }
  };
  const running = Promise.all(Array.from({ length: workers }, worker));
  return {
    sent: () => sent,
    stop: async () => {
      stopped = true;
      await running;
      const seconds = (performance.now() - begun) / 1000;
      const p99 = took.sort((one, other) => one - other)[Math.floor(took.length * 0.99)] ?? 0;
      const rates = { perSecond: Math.round(took.length / seconds), p99Ms: Math.round(p99) };
      return { sent: took.length, failed: failures.length, untouched, failures, failedAtMs, ...rates };
    },
  };
}
