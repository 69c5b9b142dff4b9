/**
 * What each group was asked for and how it answered, for the autoscaler: counters that run since the router started.
 *
 * Counts what the request's way tells it, a few additions each; decides nothing. What stands on endpoints now is read off
 * the loads when the page is asked for.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { LATENCY_BOUNDS_MS, MAX_GROUPS, type GroupStatistics, type StatisticsPage } from "../../kinds/statistics.ts";
import type { KnownEndpoint } from "../directory.ts";
import type { LoadBook } from "../load.ts";

/** `namespace/group` */
export const groupOf = ({ namespace, group }: Pick<Endpoint, "namespace" | "group">): string => `${namespace}/${group}`;

/** Requests that wait for an endpoint, by group. */
export interface HeldWork {
  readonly requests: number;
  readonly tokens: number;
}

const RATIO = Math.log(1.25);
const BUCKETS = LATENCY_BOUNDS_MS.length + 1;

/** The first bucket whose bound is not below. Of a logarithm that is a hair too large, the one before. */
function bucketOf(ms: number): number {
  const index = Math.min(BUCKETS - 1, Math.max(0, Math.ceil(Math.log(ms) / RATIO)));
  return index > 0 && ms <= (LATENCY_BOUNDS_MS[index - 1] ?? Infinity) ? index - 1 : index;
}

function increment(counts: number[], index: number): void {
  counts[index] = (counts[index] ?? 0) + 1;
}

/** Counters of one group. */
export class GroupCounters {
  requests = 0;
  promptTokens = 0;
  answers = 0;
  generatedTokens = 0;
  readonly #ttft = new Array<number>(BUCKETS).fill(0);
  readonly #tpot = new Array<number>(BUCKETS).fill(0);

  /** @param tokens of the prompt that no engine is thought to have cached */
  arrived(tokens: number): void {
    this.requests += 1;
    this.promptTokens += tokens;
  }

  firstToken(ms: number): void {
    increment(this.#ttft, bucketOf(ms));
  }

  /** @param ms mean time of a token behind the first */
  paced(ms: number): void {
    increment(this.#tpot, bucketOf(ms));
  }

  answered(tokens: number): void {
    this.answers += 1;
    this.generatedTokens += tokens;
  }

  read(): Pick<GroupStatistics, "requests" | "promptTokens" | "answers" | "generatedTokens" | "ttft" | "tpot"> {
    const { requests, promptTokens, answers, generatedTokens } = this;
    return { requests, promptTokens, answers, generatedTokens, ttft: this.#ttft, tpot: this.#tpot };
  }
}

export interface StatisticsSources {
  readonly list: () => readonly KnownEndpoint[];
  readonly loads: Pick<LoadBook, "backlog">;
  /** By group. */
  readonly held: () => ReadonlyMap<string, HeldWork>;
}

export class Statistics {
  readonly #id: string;
  readonly #groups = new Map<string, GroupCounters>();

  /** @param id a name that no other replica has, and that a restart changes */
  constructor(id: string) {
    this.#id = id;
  }

  /** Of a group; made where it is new. Beyond so many groups the one that came first is forgotten. */
  of(group: string): GroupCounters {
    const known = this.#groups.get(group);
    if (known !== undefined) return known;
    const [oldest] = this.#groups.keys();
    if (oldest !== undefined && this.#groups.size >= MAX_GROUPS) this.#groups.delete(oldest);
    const counters = new GroupCounters();
    this.#groups.set(group, counters);
    return counters;
  }

  /** Every group that was asked for, or has endpoints. */
  page({ list, loads, held }: StatisticsSources): StatisticsPage {
    const backlog = backlogs(list(), loads);
    for (const group of backlog.keys()) this.of(group);
    const holds = held();
    const rows = [...this.#groups].map(([group, counters]): [string, GroupStatistics] => {
      const { requests, tokens } = holds.get(group) ?? NO_WORK;
      const sent = backlog.get(group) ?? NO_WORK;
      const waiting = { backlogTokens: sent.tokens + tokens, backlogRequests: sent.requests + requests };
      return [group, { ...counters.read(), ...waiting, heldRequests: requests }];
    });
    return { id: this.#id, groups: Object.fromEntries(rows) };
  }
}

const NO_WORK: HeldWork = { requests: 0, tokens: 0 };

/** Prefill work of this router on the endpoints of each group. */
function backlogs(list: readonly KnownEndpoint[], loads: Pick<LoadBook, "backlog">): ReadonlyMap<string, HeldWork> {
  const groups = new Map<string, HeldWork>();
  for (const { endpoint } of list) {
    const group = groupOf(endpoint);
    const { requests, tokens } = groups.get(group) ?? NO_WORK;
    const { prefills, prefillTokens } = loads.backlog(endpoint.id);
    groups.set(group, { requests: requests + prefills, tokens: tokens + prefillTokens });
  }
  return groups;
}
