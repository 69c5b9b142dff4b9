/** Asks Prometheus for the figures of groups, as many at once as it bears; answers grow old where it is silent. */
import { Agent, request } from "undici";
import type { Cancel, Clock, Log, Metrics, Timers } from "../../../ports.ts";
import type { RouterSeen } from "../../group.ts";
import { queriesOf, seenOf, valueOf, type Queries } from "../queries.ts";

export interface PrometheusOptions {
  readonly url: string;
  readonly token: () => string;
  readonly queries: Queries;
  /** Groups to ask for now, `namespace/group`. */
  readonly groups: () => readonly string[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Prometheus {
  readonly seen: (group: string) => RouterSeen | undefined;
  readonly stop: () => Promise<void>;
}

const POLL_MS = 5000;
const DEADLINE_MS = 1000;
/** Of groups; each is a handful of queries. */
const AT_ONCE = 4;
const MAX_ANSWER_BYTES = 1024 * 1024;

export function startPrometheus(options: PrometheusOptions): Prometheus {
  return new Asking(options);
}

class Asking implements Prometheus {
  readonly #options: PrometheusOptions;
  readonly #agent = new Agent({ connect: { timeout: DEADLINE_MS }, connections: 16 });
  readonly #cancel: Cancel;
  readonly #seen = new Map<string, RouterSeen>();
  #isAsking = false;
  #isStopped = false;

  constructor(options: PrometheusOptions) {
    this.#options = options;
    this.#cancel = options.timers.every(POLL_MS, () => void this.#round());
    void this.#round();
  }

  readonly seen = (group: string): RouterSeen | undefined => this.#seen.get(group);

  readonly stop = async (): Promise<void> => {
    this.#isStopped = true;
    this.#cancel();
    await this.#agent.destroy();
  };

  /** One at a time: a server that is slow is asked less often. */
  async #round(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const groups = [...this.#options.groups()];
    const wanted = new Set(groups);
    for (const group of this.#seen.keys()) if (!wanted.has(group)) this.#seen.delete(group);
    const work = async (): Promise<void> => {
      for (let group = groups.shift(); group !== undefined && !this.#isStopped; group = groups.shift())
        await this.#group(group);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    this.#isAsking = false;
  }

  async #group(group: string): Promise<void> {
    const queries = queriesOf(this.#options.queries, group);
    const answers = await Promise.all(
      queries.map(async ([figure, query]) => [figure, await this.#ask(query)] as const),
    );
    const seen = seenOf(answers, this.#options.clock.monotonic());
    if (seen !== undefined) this.#seen.set(group, seen);
  }

  async #ask(query: string): Promise<number | undefined> {
    const { url, token, metrics, log } = this.#options;
    try {
      const shown = token();
      const { statusCode, body } = await request(`${url.replace(/\/$/, "")}/api/v1/query`, {
        ...{ dispatcher: this.#agent, method: "POST", signal: AbortSignal.timeout(DEADLINE_MS) },
        headers: {
          "content-type": "application/x-www-form-urlencoded",
          ...(shown === "" ? {} : { authorization: `Bearer ${shown}` }),
        },
        body: new URLSearchParams({ query }).toString(),
      });
      const text = await collect(body);
      if (statusCode !== 200) throw new Error(`status ${statusCode}`);
      const value = valueOf(text);
      if (value === undefined) throw new Error("no value in the answer");
      return value;
    } catch (error) {
      if (this.#isStopped) return undefined;
      metrics.count("tandem_autoscaler_prometheus_failures_total");
      log.debug("Prometheus not asked", { error: (error as Error).message });
      return undefined;
    }
  }
}

async function collect(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw new Error(`answer larger than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
