/** The router as people run it, `tandem serve --role router` in a process of its own, and what a row asks of it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Modes } from "../../src/router/extproc/codec.ts";
import { encodeBody, encodeHeaders, type DecodedReply } from "../../src/simulator/gateway/codec.ts";
import type { ProcessClient, ProcessStream } from "../../src/simulator/gateway/client.ts";
import { temporaryFolder } from "../e2e/cluster/process.ts";
import type { FakeApiServer } from "../support/apiserver.ts";
import { freePorts } from "../support/ports.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

export interface RouterProcess {
  /** `host:port` of ext_proc. */
  readonly address: string;
  readonly pid: number;
  /** Text of /metrics. */
  page(): Promise<string>;
  /** Sum over the series of a metric. */
  metric(name: string): Promise<number>;
  signal(signal: NodeJS.Signals): void;
  /** Exit code; null where a signal ended it. */
  readonly ended: Promise<number | null>;
  /** SIGKILL, and its files go. */
  stop(): Promise<void>;
}

export interface RouterSettings {
  /** Keys below `router`. */
  readonly router: object;
  /** Where Pods are found; without one, the endpoints are those of the configuration. */
  readonly api?: FakeApiServer;
  readonly args?: readonly string[];
  /** Told each line of its log. */
  readonly log?: (line: string) => void;
}

export async function startRouterProcess({ router, api, args = [], log }: RouterSettings): Promise<RouterProcess> {
  const { folder, remove } = temporaryFolder("tandem-router-");
  const file = (name: string, value: object): string => {
    writeFileSync(join(folder, name), JSON.stringify(value));
    return join(folder, name);
  };
  const [extProc = 0, metrics = 0] = await freePorts(2);
  const config = file("tandem.json", {
    ...(api === undefined ? {} : { cluster: { kubeconfig: file("kubeconfig.json", kubeconfigOf(api)) } }),
    router: { listen: `127.0.0.1:${extProc}`, healthListen: "", ...router },
    metrics: { listen: `127.0.0.1:${metrics}` },
    admin: { listen: "" },
    log: { level: "info" },
  });
  const child = spawn(process.execPath, [...args, MAIN, "serve", "--role", "router", "--config", config], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(child, "exit").then(([code]) => code as number | null);
  if (log !== undefined) createInterface(child.stderr).on("line", log);
  await says(child.stderr, "tandem serves");
  /** Asked again where a kept connection ended just then. */
  const page = async (tries = 3): Promise<string> => {
    try {
      return await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
    } catch (error) {
      if (tries === 1) throw error;
      return page(tries - 1);
    }
  };
  return {
    address: `127.0.0.1:${extProc}`,
    pid: child.pid ?? 0,
    page: () => page(),
    metric: async (name) => sumOf(await page(), name),
    signal: (signal) => void child.kill(signal),
    ended,
    stop: async () => {
      child.kill("SIGKILL");
      await ended;
      remove();
    },
  };
}

const says = (output: Readable, wanted: string): Promise<void> =>
  new Promise((resolve, reject) => {
    let said = "";
    output.on("data", (text: Buffer) => {
      if (said.includes(wanted)) return;
      said += String(text);
      if (said.includes(wanted)) resolve();
    });
    output.once("end", () => reject(new Error(said)));
  });

const kubeconfigOf = ({ url, ca }: FakeApiServer): object => ({
  "current-context": "c",
  clusters: [{ name: "c", cluster: { server: url, "certificate-authority-data": Buffer.from(ca).toString("base64") } }],
  users: [{ name: "u", user: { token: "t" } }],
  contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
});

const sumOf = (page: string, name: string): number =>
  page
    .split("\n")
    .filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);

/** Polls until the condition holds; false where it did not in time. */
export async function comes(condition: () => boolean | Promise<boolean>, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}

const MODES: Modes = { request: "FULL_DUPLEX_STREAMED", response: "NONE" };
export const JSON_POST: readonly (readonly [string, string])[] = [
  [":method", "POST"],
  [":path", "/v1/completions"],
  ["content-type", "application/json"],
];

export const headOf = (headers = JSON_POST, modes = MODES): Buffer =>
  encodeHeaders("requestHeaders", headers, false, modes);
export const chunkOf = (bytes: Buffer | string, last = true): Buffer =>
  encodeBody("requestBody", Buffer.from(bytes as string), last);
/** Headers of the engine's answer; `last`: all of it. */
export const answerOf = (last = false): Buffer => encodeHeaders("responseHeaders", [[":status", "200"]], last);

export const promptOf = (model: string, text: string): string =>
  JSON.stringify({ model, prompt: text, max_tokens: 16 });

/** Asks for a destination; the stream is open still. The first reply tells it, or is an answer of the router's. */
export async function ask(
  client: ProcessClient,
  body: string,
): Promise<{ readonly stream: ProcessStream; readonly reply: DecodedReply | undefined }> {
  const stream = client.open();
  stream.send(headOf());
  stream.send(chunkOf(body));
  return { stream, reply: await stream.next() };
}

export const sizeOf = (name: string, usual: number): number => Number(process.env[name] ?? usual);
