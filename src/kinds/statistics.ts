/** What a replica of the router tells the autoscaler, and is told by it: HTTP with JSON at the router's own port. */

/** Upper bounds in milliseconds, a quarter more each: 1 ms to 74 s. */
export const LATENCY_BOUNDS_MS: readonly number[] = Array.from({ length: 51 }, (_, index) => 1.25 ** index);

/** Of one group. Counters run since the replica started. */
export interface GroupStatistics {
  /** Those that wanted to be served, held and turned away for want of room among them. */
  readonly requests: number;
  /** Prompt tokens of those requests that no engine was thought to have cached. */
  readonly promptTokens: number;
  /** Answers that said how many tokens they have, and those tokens; where the proxy shows answers. */
  readonly answers: number;
  readonly generatedTokens: number;
  /** Not prefilled yet: on engines, or held. */
  readonly backlogTokens: number;
  readonly backlogRequests: number;
  readonly heldRequests: number;
  /** Streamed answers by time to first token, and by mean time between tokens: counters by `LATENCY_BOUNDS_MS`, one more for what is above. */
  readonly ttft: readonly number[];
  readonly tpot: readonly number[];
}

/** `GET /v1/statistics` */
export interface StatisticsPage {
  /** Of the replica; a new one after each start. */
  readonly id: string;
  /** By `namespace/group`. */
  readonly groups: Readonly<Record<string, GroupStatistics>>;
}

/** A group that is started when a request for it is held. */
export interface WakeableGroup {
  /** `namespace/group` */
  readonly group: string;
  /** Model names that requests may use. */
  readonly models: readonly string[];
  /** `tandem.sh/model` */
  readonly service: string;
}

/** Paths of that port. */
export const STATISTICS_PATH = "/v1/statistics";
export const SCALED_PATH = "/v1/scaled";
/** Lines of JSON: `{"group"}` when the first request of a group is held, `{}` so that silence means that nobody is there. */
export const WAKES_PATH = "/v1/wakes";

/** One of the lines of `{}` comes so often. */
export const KEEPALIVE_MS = 10_000;

/** Groups of one page, or of one word on what may be woken; and model names of a group. */
export const MAX_GROUPS = 1000;
export const MAX_GROUP_MODELS = 256;
