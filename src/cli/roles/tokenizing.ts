/** Tokens of prompts for the router: its threads, its calls to engines, as `router.tokenizer` says. */
import type { EngineClient } from "../../ports.ts";
import { EngineTokens } from "../../router/tokenize/engine.ts";
import { TokenizePool } from "../../router/tokenize/pool.ts";
import { Tokenizer } from "../../router/tokenize/tokenizer.ts";
import type { LiveEvents, PromptTokenizer } from "../../router/tokenize/tokens.ts";
import { markClock, type ClockMark } from "../../telemetry/process.ts";
import type { RolePorts } from "./ports.ts";
import type { Started } from "./running.ts";
import { startThread } from "./threads.ts";

/** What a thread is born with. */
export interface TokenizeData {
  readonly mark: ClockMark;
  readonly models: Readonly<Record<string, string>>;
  readonly cacheBytes: number;
}

/** From source by type stripping, or beside the bundle (scripts/build.ts). */
const ENTRY = new URL(import.meta.url.endsWith(".ts") ? "./token-worker.ts" : "./token-worker.js", import.meta.url);

/** Undefined where prompts are never tokenised. */
export function startTokenizing(
  ports: RolePorts,
  { client, events }: { readonly client: EngineClient; readonly events: LiveEvents },
  begun: Started,
): PromptTokenizer | undefined {
  const { tokenizer: config } = ports.config.router;
  if (config.mode === "off") return undefined;
  const pool = startPool(ports);
  if (pool !== undefined) begun.add(() => pool.stop());
  const { engineTimeoutMs: timeoutMs, engineCalls: calls, cacheBytes } = config;
  return new Tokenizer({
    ...ports,
    config,
    events,
    engine: new EngineTokens({ ...ports, client, timeoutMs, calls, cacheBytes }),
    ...(pool === undefined ? {} : { pool }),
  });
}

function startPool(ports: RolePorts): TokenizePool | undefined {
  const { models, threads, queue, cacheBytes } = ports.config.router.tokenizer;
  const names = Object.keys(models);
  if (names.length === 0) return undefined;
  const data = (): TokenizeData => ({ mark: markClock(), models, cacheBytes });
  return new TokenizePool({
    ...ports,
    ...{ threads, queue, models: names },
    start: (index, listener) => startThread({ name: `tokenize-${index}`, entry: ENTRY, data, ...listener }, ports),
  });
}
