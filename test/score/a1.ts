/** A1: malformed and hostile AdmissionReviews from a seeded mutator, read and answered as the webhooks do. */
import { readBody } from "../../src/admission/body.ts";
import { review, type ReviewContext, type Webhook } from "../../src/admission/review.ts";
import { loadConfig } from "../../src/config/load.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { complaint, Mutator } from "../support/hostile.ts";
import type { Progress, ScoreRow } from "./row.ts";

export interface Campaign {
  readonly reviews: number;
  /** What was thrown or answered wrongly, the first few. */
  readonly findings: readonly string[];
  readonly wrong: number;
  /** Time of the thread, so that a busy machine does not count; nothing waits here. */
  readonly p99Ms: number;
  readonly slowestMs: number;
  readonly outcomes: Readonly<Record<string, number>>;
}

const SHOWN = 10;

/** One review, from its bytes to the text of the answer, and what is wrong with it. The time includes the checks. */
function answered(bytes: Buffer, webhook: Webhook, context: ReviewContext): { found?: string; outcome: string } {
  try {
    const body = readBody(bytes);
    const reply = review(body, webhook, context);
    JSON.stringify(reply.body);
    const found = complaint(body, reply);
    return { outcome: reply.outcome, ...(found === undefined ? {} : { found }) };
  } catch (error) {
    return { found: `thrown: ${error instanceof Error ? (error.stack ?? "") : String(error)}`, outcome: "thrown" };
  }
}

/** Sends `reviews` hostile reviews to both webhooks in turn. */
export function campaign(seed: number, reviews: number, progress: Progress = () => undefined): Campaign {
  const settings = loadConfig({}).admission;
  const context = { snapshot: EMPTY_SNAPSHOT, settings };
  const mutator = new Mutator(seed, settings);
  const times = new Float64Array(reviews);
  const outcomes: Record<string, number> = {};
  const findings: string[] = [];
  let wrong = 0;
  for (let index = 0; index < reviews; index++) {
    const bytes = mutator.next();
    const before = process.threadCpuUsage();
    const { found, outcome } = answered(bytes, index % 2 === 0 ? "mutate" : "validate", context);
    const { user, system } = process.threadCpuUsage(before);
    times[index] = (user + system) / 1000;
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    if (found !== undefined && wrong++ < SHOWN) findings.push(`${found}\n  for ${bytes.toString().slice(0, 4000)}`);
    if (index % 100000 === 99999) progress(`${index + 1} reviews, ${wrong} answered wrongly`);
  }
  times.sort();
  const at = (share: number): number => times[Math.min(reviews - 1, Math.floor(share * reviews))] ?? 0;
  return { reviews, findings, wrong, p99Ms: at(0.99), slowestMs: at(1), outcomes };
}

const REVIEWS = 1_000_000;
const P99_MS = 5;

export const row: ScoreRow = {
  id: "A1",
  fault: "a million malformed and hostile AdmissionReviews from a seeded mutator",
  required: `no crash; every answer 200 with the uid, or 400; p99 < ${P99_MS} ms`,
  run: (progress) => {
    const { reviews, findings, wrong, p99Ms, slowestMs, outcomes } = campaign(1, REVIEWS, progress);
    for (const finding of findings) progress(finding);
    const rounded = (value: number): number => Math.round(value * 1000) / 1000;
    const counts = Object.fromEntries(Object.entries(outcomes).map(([name, count]) => [`${name}Reviews`, count]));
    const figures = { reviews, wrong, p99Ms: rounded(p99Ms), slowestMs: rounded(slowestMs), ...counts };
    return Promise.resolve({ figures, met: wrong === 0 && p99Ms < P99_MS });
  },
};
