/**
 * How the tokens of a request's sequences become its answer: whole, or streamed. Writes to a Reply; whoever owns the
 * connection implements it.
 */
import { roleChunk, tokenChunk, usageChunk, wholeAnswer, type AnswerHead, type Choice, type Usage } from "./answers.ts";
import { WireError } from "./fields.ts";
import type { OutputPlan } from "./output.ts";
import type { GenerationRequest } from "./requests.ts";
import type { SequenceEnd, SequenceSpec } from "./sequence.ts";
import type { Meeting } from "./transfer.ts";

/** Where an answer goes. Calls after the connection is gone do nothing. */
export interface Reply {
  json(status: number, body: unknown): void;
  /** Begins a stream: the head leaves now, before the first token, as vLLM's does. */
  open(): void;
  event(data: unknown): void;
  /** `[DONE]`, and the end. */
  close(): void;
}

/** One sequence of the request: its place in the answer, and what is planned for it. */
export interface Part {
  readonly index: number;
  readonly prompt: readonly number[];
  readonly digest: number;
  readonly output: OutputPlan;
  readonly salt: string;
  readonly spec: SequenceSpec;
  /** Where a prefill leg that answers no parameters leaves its blocks. */
  readonly meeting?: Meeting;
}

/** What an answer hears of its sequences. */
export interface Answer {
  /** KV that it waited for, or that was waited for, never got across. */
  failed(): void;
  token(part: Part, count: number): void;
  finished(part: Part, end: SequenceEnd, transfer: Record<string, unknown> | null): void;
}

/** As vLLM: prompts are counted once for each prompt, cached tokens of the last one that finished. */
class Tally {
  readonly #promptTokens: number;
  readonly #cacheReport: boolean;
  completionTokens = 0;
  cachedTokens = 0;

  constructor({ cacheReport }: AnswerHead, parts: readonly Part[]) {
    this.#cacheReport = cacheReport;
    const prompts = new Set(parts.map((part) => part.prompt));
    this.#promptTokens = [...prompts].reduce((sum, prompt) => sum + prompt.length, 0);
  }

  get usage(): Usage {
    const { completionTokens, cachedTokens } = this;
    const told = this.#cacheReport ? { cachedTokens } : {};
    return { promptTokens: this.#promptTokens, completionTokens, ...told };
  }
}

const wholeText = (part: Part): string => part.output.ids.map((_, index) => part.output.text(index)).join("");

const NEVER_CAME = new WireError(500, "InternalServerError", "KVTransferError: the KV cache of the prompt never came");

export class Whole implements Answer {
  readonly #head: AnswerHead;
  readonly #reply: Reply;
  readonly #tally: Tally;
  readonly #choices: Choice[] = [];
  readonly #total: number;
  #transfer: Record<string, unknown> | null = null;

  constructor(head: AnswerHead, parts: readonly Part[], reply: Reply) {
    this.#head = head;
    this.#reply = reply;
    this.#tally = new Tally(head, parts);
    this.#total = parts.length;
  }

  token(): void {
    this.#tally.completionTokens += 1;
  }

  failed(): void {
    this.#reply.json(500, NEVER_CAME.body);
  }

  finished(part: Part, end: SequenceEnd, transfer: Record<string, unknown> | null): void {
    this.#choices.push({ index: part.index, text: wholeText(part), finish: part.output.finish });
    this.#tally.cachedTokens = end.cachedTokens;
    if (part.index === 0) this.#transfer = transfer;
    if (this.#choices.length < this.#total) return;
    const choices = this.#choices.toSorted((a, b) => a.index - b.index);
    this.#reply.json(200, wholeAnswer(this.#head, choices, this.#tally.usage, this.#transfer));
  }
}

export class Streamed implements Answer {
  readonly #head: AnswerHead;
  readonly #request: GenerationRequest;
  readonly #reply: Reply;
  readonly #tally: Tally;
  #left: number;

  constructor(head: AnswerHead, request: GenerationRequest, parts: readonly Part[], reply: Reply) {
    this.#head = head;
    this.#request = request;
    this.#reply = reply;
    this.#tally = new Tally(head, parts);
    this.#left = parts.length;
    reply.open();
  }

  token(part: Part, count: number): void {
    if (count === 1 && this.#head.kind === "chat")
      this.#reply.event(roleChunk(this.#head, part.index, this.#soFar(part, 0)));
    this.#tally.completionTokens += 1;
    const isLast = count === part.spec.outputTokens;
    const delta = { index: part.index, text: part.output.text(count - 1), finish: isLast ? part.output.finish : null };
    this.#reply.event(tokenChunk(this.#head, delta, this.#soFar(part, count)));
  }

  /** The head is out: an error is an event, as both engines do. */
  failed(): void {
    this.#reply.event(NEVER_CAME.body);
    this.#reply.close();
  }

  finished(_: Part, end: SequenceEnd): void {
    this.#tally.cachedTokens = end.cachedTokens;
    this.#left -= 1;
    if (this.#left > 0) return;
    if (this.#request.includeUsage) this.#reply.event(usageChunk(this.#head, this.#tally.usage));
    this.#reply.close();
  }

  #soFar(part: Part, completionTokens: number): Usage | undefined {
    return this.#request.continuousUsage ? { promptTokens: part.prompt.length, completionTokens } : undefined;
  }
}
