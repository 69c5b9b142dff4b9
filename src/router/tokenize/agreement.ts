/**
 * Whether the tokens made here are the engine's, judged by their number: an engine says in its answer how many it had.
 *
 * A tokenizer that is one token off at the front hits nothing, so any difference counts. Three of the last five, and the
 * model's tokens are not asked for in that way for a while; then it is tried again. Each API is judged by itself: engines
 * make of one what they do not make of another; and so is each tenant, which is never told to anybody.
 */
import type { PromptTokens } from "./tokens.ts";

const [KEPT, TOO_MANY] = [5, 3];
const DISTRUST_MS = 600_000;
/** Models whose names clients invent must not fill the memory. */
const MAX_MODELS = 1024;

type How = PromptTokens["how"];

interface Past {
  /** Differences of the last answers, engine's less ours. */
  readonly off: number[];
  /** Monotonic milliseconds. */
  distrustedUntil: number;
}

/** A way to make tokens: for a model, of the bodies of an API. */
export interface Way {
  readonly model: string;
  readonly api: string;
  readonly how: How;
}

/** Whose prompts are judged: one tenant's odd ones must not take the tokens from all others. */
interface Judged extends Way {
  readonly tenant: string;
}

/** Where a way was found wrong. */
export interface Disagreement extends Way {
  /** Tokens that the engine had more. */
  readonly off: number;
  readonly cause: string;
}

export class Agreement {
  readonly #records = new Map<string, Past>();

  trusts(way: Judged, now: number): boolean {
    const record = this.#records.get(keyOf(way));
    return record === undefined || record.distrustedUntil <= now;
  }

  /** What is to be told, where this answer ends the trust. */
  judge(judged: Judged, counts: { ours: number; engines: number }, now: number): Disagreement | undefined {
    const { tenant, ...way } = judged;
    const record = this.#recordOf(keyOf({ ...way, tenant }));
    const off = counts.engines - counts.ours;
    record.off.push(off);
    if (record.off.length > KEPT) record.off.shift();
    if (off === 0 || record.distrustedUntil > now) return undefined;
    if (record.off.filter((each) => each !== 0).length < TOO_MANY) return undefined;
    record.distrustedUntil = now + DISTRUST_MS;
    record.off.length = 0;
    return { ...way, off, cause: causeOf(off, counts.engines) };
  }

  #recordOf(key: string): Past {
    const known = this.#records.get(key);
    if (known !== undefined) return known;
    const record = { off: [], distrustedUntil: -Infinity };
    if (this.#records.size >= MAX_MODELS) this.#records.delete(this.#records.keys().next().value ?? "");
    this.#records.set(key, record);
    return record;
  }
}

const keyOf = ({ model, api, how, tenant }: Judged): string => JSON.stringify([model, api, how, tenant]);

function causeOf(off: number, engines: number): string {
  if (Math.abs(off) <= 2) return "tokens that begin or end a prompt: another template or other settings at the engine";
  if (Math.abs(off) < engines / 4) return "another chat template: the engine's --chat-template, or an older file here";
  return "another tokenizer: the files here are not those of the engine's model";
}
