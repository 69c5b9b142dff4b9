/** Starting simulated engines and talking to them over HTTP. */
import { request } from "node:http";
import { text } from "node:stream/consumers";
import type { Test } from "tap";
import { startEngine, type EngineOptions, type RunningEngine } from "../../src/simulator/engine/server.ts";
import { systemClock, systemRandom, systemTimers } from "../../src/telemetry/process.ts";

export const PORTS = { clock: systemClock, timers: systemTimers, random: systemRandom };

/** An engine twenty times faster than real time on a free loopback port, stopped with the test. */
export async function start(t: Test, options: Partial<EngineOptions> = {}): Promise<RunningEngine> {
  const engine = await startEngine(
    { host: "127.0.0.1", port: 0, models: ["llama", "alias"], connector: "nixl", timeScale: 20, ...options },
    PORTS,
  );
  t.teardown(() => engine.stop());
  return engine;
}

export interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

export interface Call {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON, a string as it is. */
  readonly body?: unknown;
}

const isJson = (type: unknown): boolean => typeof type === "string" && type.startsWith("application/json");

/** One call on its own connection. */
export function call(engine: RunningEngine, path: string, { method, headers, body }: Call = {}): Promise<Answer> {
  const [host = "", port = ""] = engine.address.split(":");
  const payload = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  const type = body === undefined ? {} : { "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host,
        port,
        path,
        method: method ?? (body === undefined ? "GET" : "POST"),
        headers: { ...type, ...headers },
        agent: false,
      },
      (response) => {
        text(response).then((content) => {
          const json = isJson(response.headers["content-type"]) ? (JSON.parse(content) as Record<string, unknown>) : {};
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text: content, json });
        }, reject);
      },
    );
    sent.on("error", reject);
    sent.end(payload);
  });
}

/** The events of a stream, `[DONE]` as that text. */
export const events = (answer: Answer): unknown[] =>
  answer.text
    .split("\n\n")
    .filter((line) => line !== "")
    .map((line) => line.replace(/^data: /, ""))
    .map((data) => (data === "[DONE]" ? data : (JSON.parse(data) as unknown)));

export const CHAT_PATH = "/v1/chat/completions";
export const COMPLETION_PATH = "/v1/completions";

/** Waits until something has become true on its own; the runner's time limit ends what never does. */
export async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => systemTimers.after(2, () => resolve(undefined)));
}
