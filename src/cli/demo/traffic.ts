/**
 * The demo's twenty requests: a few conversations, each with a long system prompt of its own that its requests share,
 * sent some at a time, and what came of each.
 */
import { HEADER } from "../../kinds/names.ts";
import type { Clock } from "../../ports.ts";

export interface DemoRequest {
  readonly number: number;
  readonly conversation: string;
  readonly body: Buffer;
}

export interface DemoResult {
  readonly number: number;
  readonly conversation: string;
  readonly status: number;
  /** `ip:port` of the engines; empty where the answer does not tell. */
  readonly prefill: string;
  readonly decode: string;
  readonly promptTokens: number;
  /** Cached prompt tokens as the router expected them, and as the engine reported them. */
  readonly predictedTokens: number;
  readonly cachedTokens: number;
  readonly ttftMs: number;
  readonly totalMs: number;
}

/** Five, so that turns over two or four engines do not meet them by chance. */
const TOPICS = ["astronomy", "cooking", "law", "gardening", "music"];
/** Words of a system prompt; about 16,000 tokens: 370 ms of prefill, against which a busy machine's noise is small. */
const SYSTEM_WORDS = 15_000;
const QUESTION_WORDS = 60;
/** Requests in flight together. */
const WAVE = 4;

const WORDS =
  "the a model reads long prompts first and writes answers token by token while caches keep what was computed".split(
    " ",
  );

/** Deterministic filler, different for each seed. */
const prose = (seed: string, words: number): string =>
  Array.from(
    { length: words },
    (_, i) => WORDS[(i * 7 + seed.length * 3 + (seed.charCodeAt(i % seed.length) % 5)) % WORDS.length],
  ).join(" ");

export const demoRequests = (model: string, count: number): DemoRequest[] =>
  Array.from({ length: count }, (_, index) => {
    const conversation = TOPICS[index % TOPICS.length] ?? "";
    const system = `You know all about ${conversation}. ${prose(conversation, SYSTEM_WORDS)}`;
    const question = `Question ${index + 1}: ${prose(`${conversation}${index}`, QUESTION_WORDS)}`;
    return { number: index + 1, conversation, body: chatBody(model, system, question) };
  });

/** Sent before each policy, so that neither pays for a cold program: as long as the others, of a topic of its own. */
export const warmUpRequests = (model: string): DemoRequest[] =>
  Array.from({ length: WAVE }, (_, index) => {
    const topic = `warm-up ${index}`;
    return { number: 0, conversation: topic, body: chatBody(model, prose(topic, SYSTEM_WORDS), topic) };
  });

function chatBody(model: string, system: string, question: string): Buffer {
  const messages = [
    { role: "system", content: system },
    { role: "user", content: question },
  ];
  const options = { stream: true, stream_options: { include_usage: true }, max_tokens: 24 };
  return Buffer.from(JSON.stringify({ model, ...options, messages }));
}

/** Sends all requests, a wave at a time; `onResult` sees each as it ends. */
export async function sendAll(
  requests: readonly DemoRequest[],
  send: (request: DemoRequest) => Promise<DemoResult>,
  onResult: (result: DemoResult) => void = () => undefined,
): Promise<DemoResult[]> {
  const results: DemoResult[] = [];
  for (let from = 0; from < requests.length; from += WAVE) {
    const wave = await Promise.all(requests.slice(from, from + WAVE).map(send));
    for (const result of wave) onResult(result);
    results.push(...wave);
  }
  return results;
}

interface Usage {
  prompt_tokens?: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
}

/** Sends one streamed chat request and reads its answer to the end. */
export async function sendChat(url: string, request: DemoRequest, clock: Clock): Promise<DemoResult> {
  const started = clock.monotonic();
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: Uint8Array.from(request.body),
    signal: AbortSignal.timeout(30_000),
  });
  const { firstAt, usage } = await readEvents(response, clock);
  const header = (name: string): string => response.headers.get(name) ?? "";
  const reported = header(HEADER.cachedTokens);
  return {
    number: request.number,
    conversation: request.conversation,
    status: response.status,
    prefill: header(HEADER.prefillEndpoint),
    decode: header(HEADER.decodeEndpoint),
    promptTokens: usage.prompt_tokens ?? 0,
    predictedTokens: Number(header(HEADER.predictedCachedTokens)),
    cachedTokens: reported === "" ? (usage.prompt_tokens_details?.cached_tokens ?? 0) : Number(reported),
    ttftMs: firstAt - started,
    totalMs: clock.monotonic() - started,
  };
}

async function readEvents(response: Response, clock: Clock): Promise<{ firstAt: number; usage: Usage }> {
  let text = "";
  let firstAt = Infinity;
  const decoder = new TextDecoder();
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    if (text.includes('"content"')) firstAt = Math.min(firstAt, clock.monotonic());
  }
  return { firstAt: Math.min(firstAt, clock.monotonic()), usage: lastUsage(text) };
}

function lastUsage(text: string): Usage {
  const line = text.split("\n").findLast((each) => each.startsWith("data: {") && each.includes('"usage":{'));
  return line === undefined ? {} : ((JSON.parse(line.slice(6)) as { usage?: Usage }).usage ?? {});
}

/** Share of prompt tokens that engines had in their caches. */
export function hitRate(results: readonly DemoResult[]): number {
  const sum = (of: (result: DemoResult) => number): number => results.reduce((total, result) => total + of(result), 0);
  return (
    sum(({ cachedTokens }) => cachedTokens) /
    Math.max(
      1,
      sum(({ promptTokens }) => promptTokens),
    )
  );
}
