/**
 * How far the routing history was right, by what engines count of their prefix caches. Most engines never say of one
 * answer how much of its prompt was cached; all of them count it.
 *
 * Decides, for each endpoint and window of time, between which bounds the share of predicted tokens lies that really was
 * cached, from the counters at both ends of the window and from the prompts that this router knows were counted in it.
 * Never judges one request, and never asks an engine.
 *
 * A prompt is known to be counted in a window when it was sent after the window began and computed before the window's
 * last page was read. All that the engine counted beyond those is foreign: prompts at the window's edges, of other
 * routers, sent past us, looked up twice. Of foreign tokens all may have been hits or none, so of H hits among Q queried
 * tokens, with `asked` tokens known of which `thought` were predicted, the share lies between
 *
 *     (H - (Q - asked)) / thought   and   H / thought
 *
 * and what is believed moves to the nearer bound, or not at all where it lies between. The more is foreign the less is
 * said, and nothing wrong. Within the prompts known, hits are taken to be on what was predicted.
 */
import type { CacheLookups } from "../../kinds/endpoint.ts";
import type { Metrics } from "../../ports.ts";
import { WORTH_TOKENS, type AnswerCounts, type HitTrust } from "./trust.ts";

/** Fewer predictions are a burst of siblings that met no cache yet. */
const LEAST_PROMPTS = 8;
/** A window ends when so many tokens are known, and of our own at most this share again lies at its edges ... */
const LEAST_TOKENS = 16_384;
const MOST_EDGE = 1 / 10;
/** ... or after this long, however much is. */
const LONGEST_MS = 300_000;
/** Bounds further apart say that much was foreign. */
const CLOSE_BOUNDS = 1 / 4;
/** Where as many prompts, or more, told of themselves, their answers were judged. */
const TOLD_SHARE = 1 / 4;
/** Prompts that wait for a page which shows them; ten times what one engine answers between two reads. */
const MAX_WAITING = 4096;

/** A prompt that an engine has computed. */
export interface ComputedPrompt {
  readonly endpoint: string;
  /** What `begin` gave when it was sent. */
  readonly window: number;
  readonly tokens: number;
  /** Of those, predicted to be cached there by what was sent there before. */
  readonly thought: number;
}

interface Window {
  readonly number: number;
  readonly since: number;
  readonly from: CacheLookups;
  /** Monotonic time of the page that was looked at last. */
  readAt: number;
  /** Computed, and on no page yet for certain. */
  waiting: { readonly at: number; readonly tokens: number; readonly thought: number }[];
  /** Tokens sent in it, and computed in it of prompts that were sent before. */
  sent: number;
  older: number;
  asked: number;
  thought: number;
  /** Prompts with a prediction that is worth a judgement. */
  prompts: number;
  /** Answers that said what was cached. */
  said: number;
  /** Prompts that came with KV from elsewhere, which engines count as external hits. */
  handed: number;
}

export interface CountedOptions {
  readonly trust: HitTrust;
  readonly metrics: Metrics;
  /** A page is at most that old when it is here: the deadline of its read. */
  readonly pageMs: number;
}

export class CountedHits {
  readonly #options: CountedOptions;
  readonly #windows = new Map<string, Window>();
  #number = 0;

  constructor(options: CountedOptions) {
    this.#options = options;
  }

  /** A prompt of so many tokens is sent. Returns the window in which it is; 0 where the engine counts nothing. */
  begin(endpoint: string, tokens: number): number {
    const open = this.#windows.get(endpoint);
    if (open === undefined) return 0;
    open.sent += tokens;
    return open.number;
  }

  /** The engine has computed a prompt, at this monotonic time, and counted it. */
  computed({ endpoint, window, tokens, thought }: ComputedPrompt, at: number): void {
    const open = this.#windows.get(endpoint);
    if (open === undefined) return;
    if (open.number !== window) open.older += tokens;
    else if (open.waiting.length < MAX_WAITING) open.waiting.push({ at, tokens, thought });
  }

  /** An answer said how much of its prompt was cached: it was judged by that. */
  said(endpoint: string, thought: number): void {
    const open = this.#windows.get(endpoint);
    if (open !== undefined && thought >= WORTH_TOKENS) open.said += 1;
  }

  /** The KV of a prompt that was sent there comes from elsewhere. */
  handed({ endpoint, window, tokens }: Omit<ComputedPrompt, "thought">): void {
    const open = this.#windows.get(endpoint);
    if (open === undefined) return;
    open.handed += 1;
    if (open.number === window) open.sent -= tokens;
  }

  /** What a page showed, read at `at`; to be told again and again, also where nothing is new. */
  read(endpoint: string, lookups: CacheLookups | undefined, at: number): void {
    const open = this.#windows.get(endpoint);
    if (lookups === undefined) this.#windows.delete(endpoint);
    else if (open === undefined) this.#open(endpoint, lookups, at);
    else if (fell(open.from, lookups)) this.#close(endpoint, "reset", { lookups, at });
    else if (at > open.readAt) this.#look(endpoint, open, { lookups, at });
  }

  /** Forgets every endpoint that is not among these. */
  keep(endpoints: ReadonlySet<string>): void {
    for (const endpoint of this.#windows.keys()) if (!endpoints.has(endpoint)) this.#windows.delete(endpoint);
  }

  #look(endpoint: string, open: Window, page: Page): void {
    open.readAt = page.at;
    take(open, page.at - this.#options.pageMs);
    if (!isRipe(open) && page.at - open.since < LONGEST_MS) return;
    const counted = countedIn(open, page.lookups);
    if (open.said > 0 && open.said >= open.prompts * TOLD_SHARE) this.#close(endpoint, "told", page);
    else if (open.prompts < LEAST_PROMPTS || counted.queried === 0) this.#close(endpoint, "idle", page);
    else {
      const bounds = boundsOf(open, counted);
      this.#options.trust.counted(endpoint, bounds, open.prompts);
      this.#close(endpoint, bounds.most - bounds.least <= CLOSE_BOUNDS ? "judged" : "foreign", page);
    }
  }

  #close(endpoint: string, outcome: WindowOutcome, { lookups, at }: Page): void {
    this.#options.metrics.count("tandem_router_counted_windows_total", { outcome });
    this.#open(endpoint, lookups, at);
  }

  #open(endpoint: string, from: CacheLookups, at: number): void {
    const sums = { sent: 0, older: 0, asked: 0, thought: 0, prompts: 0, said: 0, handed: 0 };
    this.#windows.set(endpoint, { number: ++this.#number, since: at, from, readAt: at, waiting: [], ...sums });
  }
}

/** By what one answer says of its prompt; returned is that, with the zero that engines leave out. */
export function judged<Said extends AnswerCounts>(
  { trust, counted }: { readonly trust?: HitTrust; readonly counted?: CountedHits },
  { endpoint, thought }: Pick<ComputedPrompt, "endpoint" | "thought">,
  said: Said,
): Said {
  const cachedTokens = trust?.cachedIn(endpoint, said);
  if (cachedTokens === undefined) return said;
  trust?.told(endpoint, thought, cachedTokens);
  counted?.said(endpoint, thought);
  return { ...said, cachedTokens };
}

/** What a window came to. `reset`: the engine began anew in it. */
type WindowOutcome = "judged" | "foreign" | "told" | "idle" | "reset";

interface Page {
  readonly lookups: CacheLookups;
  readonly at: number;
}

type Counted = Omit<CacheLookups, "external">;

/** A counter that fell began anew; one of several that are summed may have as well. */
const fell = (from: CacheLookups, to: CacheLookups): boolean =>
  to.queried < from.queried || to.hit < from.hit || to.external < from.external;

/** Prompts that were computed before `until` are on the page. */
function take(open: Window, until: number): void {
  const left: Window["waiting"] = [];
  for (const prompt of open.waiting)
    if (prompt.at > until) left.push(prompt);
    else {
      open.asked += prompt.tokens;
      open.thought += prompt.thought;
      if (prompt.thought >= WORTH_TOKENS) open.prompts += 1;
    }
  open.waiting = left;
}

/**
 * External hits are the endpoint's own where no KV was sent to it on purpose: an offloading connector's, of what it held
 * before. Else they are transfers, and an endpoint that does both is judged by its own cache alone.
 */
function countedIn({ from, handed }: Window, to: CacheLookups): Counted {
  const external = handed === 0 ? to.external - from.external : 0;
  return { queried: to.queried - from.queried, hit: to.hit - from.hit + external };
}

/** Longer windows have smaller edges; what others send is as much in the next one. */
const isRipe = ({ asked, prompts, sent, older }: Window): boolean =>
  prompts >= LEAST_PROMPTS && asked >= LEAST_TOKENS && sent - asked + older <= asked * MOST_EDGE;

/**
 * The share of predicted tokens that were hits, at least and at most. Prompts are estimated in tokens where nobody counted
 * them: those that are known cannot be more than all, so where they are, the estimate is that much too high.
 */
function boundsOf({ asked, thought }: Window, { queried, hit }: Counted): { least: number; most: number } {
  const expected = thought * Math.min(1, queried / asked);
  const foreign = Math.max(0, queried - asked);
  return { least: Math.min(1, Math.max(0, hit - foreign) / expected), most: Math.min(1, hit / expected) };
}
