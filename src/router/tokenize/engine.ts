/**
 * Tokens by asking an engine: vLLM's `POST /tokenize` takes a prompt or messages, SGLang's a prompt. Its answer is one
 * round trip and the engine's own time, so it is kept by the digest of what was asked; a few calls at once, each with a
 * deadline of its own, so that one that comes late for its prompt is there for the next.
 *
 * An engine that has no such path, or fails again and again, is left alone for a while: nobody waits for what never comes.
 */
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Clock, EngineClient, EngineReply } from "../../ports.ts";
import { valueBytes } from "../request/edit.ts";
import { scanObject } from "../request/scan.ts";
import { tokensOf, type Job, type Members } from "./job.ts";

export interface EngineTokensOptions {
  readonly client: EngineClient;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** At once. */
  readonly calls: number;
  readonly cacheBytes: number;
}

/** What an engine is asked, and whom. */
export interface EngineQuestion {
  readonly model: string;
  readonly job: Job;
  readonly address: string;
}

export type EngineAnswer = Int32Array | "failed";

const ENTRY_BYTES = 256;
const [FAILURES, REST_MS] = [3, 30_000];
const MAX_MODELS = 1024;

/** Members that vLLM's `/tokenize` takes of a chat; one that has others cannot be asked about. */
const CHAT_MEMBERS: ReadonlySet<string> = new Set([
  ...["messages", "tools", "add_generation_prompt", "continue_final_message"],
  ...["add_special_tokens", "chat_template_kwargs", "tool_choice"],
]);

/** `tool_choice` changes nothing of the prompt at vLLM. */
const NOT_SENT: ReadonlySet<string> = new Set(["tool_choice"]);

interface Failing {
  count: number;
  restUntil: number;
}

export class EngineTokens {
  readonly #options: EngineTokensOptions;
  readonly #cache: LRUCache<string, Int32Array>;
  readonly #running = new Map<string, Promise<EngineAnswer>>();
  readonly #failing = new Map<string, Failing>();

  constructor(options: EngineTokensOptions) {
    this.#options = options;
    this.#cache = new LRUCache({
      maxSize: options.cacheBytes,
      sizeCalculation: (ids) => ids.byteLength + ENTRY_BYTES,
    });
  }

  /** Undefined where engines of the kind cannot tell, or are left alone; `full` where as many calls run as may. */
  ask(question: EngineQuestion): Int32Array | Promise<EngineAnswer> | "full" | undefined {
    const { model, job } = question;
    if (!canAsk(job) || this.#rests(model)) return undefined;
    const key = digestOf(model, job);
    const known = this.#cache.get(key) ?? this.#running.get(key);
    if (known !== undefined) return known;
    if (this.#running.size >= this.#options.calls) return "full";
    const call = this.#call(key, question).finally(() => this.#running.delete(key));
    this.#running.set(key, call);
    return call;
  }

  async #call(key: string, { model, job, address }: EngineQuestion): Promise<EngineAnswer> {
    const reply = await this.#options.client.send({
      ...{ address, method: "POST", path: "/tokenize", timeoutMs: this.#options.timeoutMs },
      headers: { "content-type": "application/json" },
      body: bodyOf(model, job),
    });
    const ids = readTokens(reply);
    this.#count(model, ids === undefined, reply);
    if (ids === undefined) return "failed";
    this.#cache.set(key, ids);
    return ids;
  }

  #rests(model: string): boolean {
    const failing = this.#failing.get(model);
    return failing !== undefined && failing.restUntil > this.#options.clock.monotonic();
  }

  #count(model: string, failed: boolean, reply: EngineReply): void {
    // One client's prompts must not take the tokens from all others.
    if (isRefusal(reply)) return;
    if (!failed) {
      this.#failing.delete(model);
      return;
    }
    const failing = this.#failing.get(model) ?? { count: 0, restUntil: 0 };
    failing.count += 1;
    const hasNone = reply.kind === "answer" && (reply.status === 404 || reply.status === 405);
    if (hasNone || failing.count >= FAILURES) {
      failing.restUntil = this.#options.clock.monotonic() + REST_MS;
      failing.count = 0;
    }
    if (this.#failing.size >= MAX_MODELS) this.#failing.clear();
    this.#failing.set(model, failing);
  }
}

/** The engine's word on the prompt, and none on itself. */
const isRefusal = (reply: EngineReply): boolean => reply.kind === "answer" && [400, 413, 422].includes(reply.status);

function canAsk({ shape, dialect, members }: Job): boolean {
  if (shape === "text") return true;
  return shape === "chat" && dialect === "vllm" && members.every(([key]) => CHAT_MEMBERS.has(key));
}

function digestOf(model: string, { shape, dialect, scope, members }: Job): string {
  const hash = createHash("sha256").update(JSON.stringify([model, shape, dialect, scope]));
  for (const [key, json] of members) hash.update(`\0${key}\0${json.length}\0`).update(json);
  return hash.digest("base64url");
}

/** The members as they came: what is equal to the engine stays so. */
function bodyOf(model: string, { members }: Job): Buffer {
  const sent: Members = members.filter(([key]) => !NOT_SENT.has(key));
  const parts = sent.flatMap(([key, json]) => [Buffer.from(`,${JSON.stringify(keyOf(key))}:`), json]);
  return Buffer.concat([Buffer.from(`{"model":${JSON.stringify(model)}`), ...parts, Buffer.from("}")]);
}

/** SGLang's own API calls its prompt `text`. */
const keyOf = (key: string): string => (key === "text" ? "prompt" : key);

/** `{"tokens":[...]}`; undefined where the answer is none. */
function readTokens(reply: EngineReply): Int32Array | undefined {
  if (reply.kind !== "answer" || reply.status !== 200) return undefined;
  const body = Buffer.from(reply.body.buffer, reply.body.byteOffset, reply.body.byteLength);
  try {
    const member = scanObject(body).members.find(({ key }) => key === "tokens");
    return member === undefined ? undefined : tokensOf(valueBytes(body, member));
  } catch {
    return undefined;
  }
}
