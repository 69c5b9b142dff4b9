/**
 * The `/metrics` page of one engine: vLLM's names and labels, and the simulator's own series.
 *
 * Counts come from the facts when the page is asked for; only distributions are observed as things happen. Times are of
 * the clock that the engine runs on, so a sped-up engine shows what its clients see.
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineMonitor } from "./engine.ts";
import type { EngineCounts, EngineFacts } from "./facts.ts";
import type { Sequence } from "./sequence.ts";

export interface MetricsSettings {
  readonly model: string;
  readonly role: string;
  readonly connector: string;
  readonly engineId: string;
  readonly blockSize: number;
  readonly capacityBlocks: number;
  readonly kvBytesPerToken: number;
  readonly caching: boolean;
}

/** One value of a series under the labels that make it different from the others. */
type Sample = readonly [value: number, labels?: Readonly<Record<string, string>>];

interface Series {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  readonly read: (facts: EngineFacts) => readonly Sample[];
}

const one =
  (read: (facts: EngineFacts) => number): Series["read"] =>
  (facts) => [[read(facts)]];

/** Samples of a record, its keys as the values of one label. */
const byLabel =
  (label: string, read: (facts: EngineFacts) => Readonly<Record<string, number>>): Series["read"] =>
  (facts) =>
    Object.entries(read(facts)).map(([key, value]) => [value, { [label]: key }]);

const GAUGES: readonly Series[] = [
  { name: "vllm:num_requests_running", help: "Requests in the batch.", read: one((facts) => facts.running) },
  { name: "vllm:num_requests_waiting", help: "Requests waiting.", read: one((facts) => facts.waiting) },
  {
    name: "vllm:num_requests_waiting_by_reason",
    help: "Requests waiting, by what for.",
    labels: ["reason"],
    read: byLabel("reason", ({ waiting, deferred }) => ({ capacity: waiting - deferred, deferred })),
  },
  {
    name: "vllm:kv_cache_usage_perc",
    help: "Share of KV blocks in use, 0 to 1.",
    read: one((facts) => facts.usedBlocks / facts.capacityBlocks),
  },
  {
    name: "simulator_pinned_requests",
    help: "Finished prefill legs whose blocks wait to be pulled.",
    read: one((facts) => facts.pinnedRequests),
  },
];

const COUNTERS: readonly Series[] = [
  {
    name: "vllm:prefix_cache_queries_total",
    help: "Prompt tokens looked up in the prefix cache.",
    read: one((facts) => facts.queriedTokens),
  },
  {
    name: "vllm:prefix_cache_hits_total",
    help: "Prompt tokens found in the prefix cache.",
    read: one((facts) => facts.cachedTokens),
  },
  {
    name: "vllm:external_prefix_cache_hits_total",
    help: "Prompt tokens taken from other engines.",
    read: one((facts) => facts.pulledTokens),
  },
  { name: "vllm:prompt_tokens_total", help: "Prompt tokens.", read: one((facts) => facts.promptTokens) },
  {
    name: "vllm:prompt_tokens_by_source_total",
    help: "Prompt tokens by where their KV came from.",
    labels: ["source"],
    read: byLabel("source", ({ promptTokens, cachedTokens, pulledTokens }) => ({
      local_compute: promptTokens - cachedTokens - pulledTokens,
      local_cache_hit: cachedTokens,
      external_kv_transfer: pulledTokens,
    })),
  },
  { name: "vllm:generation_tokens_total", help: "Generated tokens.", read: one((facts) => facts.generatedTokens) },
  { name: "vllm:num_preemptions_total", help: "Preemptions.", read: one((facts) => facts.preemptions) },
  {
    name: "vllm:request_success_total",
    help: "Finished requests.",
    labels: ["finished_reason"],
    read: byLabel("finished_reason", ({ finished, aborted }) => ({ ...finished, abort: aborted })),
  },
  {
    name: "vllm:nixl_num_failed_transfers_total",
    help: "Transfers that could not be made.",
    read: one((facts) => Object.values(facts.transferFailures).reduce((sum, count) => sum + count, 0)),
  },
  {
    name: "vllm:nixl_num_kv_expired_reqs_total",
    help: "Prefill legs whose blocks nobody pulled before the lease ended.",
    read: one((facts) => facts.pinsExpired),
  },
  { name: "simulator_prefill_legs_total", help: "Prefill legs.", read: one((facts) => facts.prefillLegs) },
  {
    name: "simulator_decode_legs_total",
    help: "Everything that is no prefill leg, by where the KV of its prompt came from.",
    labels: ["prefill"],
    read: byLabel("prefill", (facts) => ({ remote: facts.decodeLegsRemote, local: facts.decodeLegsLocal })),
  },
  {
    name: "simulator_transfer_failures_total",
    help: "Decode legs that named a source and had to compute their prompt, by why.",
    labels: ["reason"],
    read: byLabel("reason", (facts) => facts.transferFailures),
  },
];

/** Buckets of vLLM (`vllm/v1/metrics/loggers.py`, `nixl/stats.py`), in seconds and bytes. */
const HISTOGRAMS = {
  "vllm:time_to_first_token_seconds": [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
  ],
  "vllm:inter_token_latency_seconds": [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  ],
  "vllm:e2e_request_latency_seconds": [
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
  ],
  "vllm:request_queue_time_seconds": [
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
  ],
  "vllm:request_prompt_tokens": [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5],
  "vllm:request_generation_tokens": [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5],
  "vllm:nixl_xfer_time_seconds": [0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5],
  "vllm:nixl_bytes_transferred": [2, 8, 32, 128, 512, 2048, 8192].map((mebibytes) => mebibytes * 2 ** 20),
} as const satisfies Readonly<Record<string, readonly number[]>>;

type HistogramName = keyof typeof HISTOGRAMS;

/** Feeds the counts and the distributions from what the engine tells. */
export class EngineMetrics implements EngineMonitor {
  readonly #registry = new Registry();
  readonly #histograms: ReadonlyMap<string, Histogram>;
  readonly #counts: EngineCounts;
  readonly #settings: MetricsSettings;

  constructor(settings: MetricsSettings, counts: EngineCounts, facts: () => EngineFacts) {
    this.#settings = settings;
    this.#counts = counts;
    const registers = [this.#registry];
    this.#registry.setDefaultLabels({ model_name: settings.model, engine: "0" });
    for (const series of GAUGES) declareGauge(series, facts, registers);
    for (const series of COUNTERS) declareCounter(series, facts, registers);
    this.#histograms = new Map(
      Object.entries(HISTOGRAMS).map(([name, buckets]) => [
        name,
        new Histogram({ name, help: `Distribution of ${name}.`, buckets: [...buckets], registers }),
      ]),
    );
    this.#declareInfo(registers);
  }

  /** The page in Prometheus' text format. */
  page(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  admitted(sequence: Sequence, queueMs: number): void {
    this.#counts.promptTokens += sequence.spec.promptTokens;
    if (this.#settings.caching) this.#counts.queriedTokens += sequence.spec.promptTokens;
    this.#counts.cachedTokens += sequence.cachedTokens ?? 0;
    this.#observe("vllm:request_queue_time_seconds", queueMs / 1000);
    this.#observe("vllm:request_prompt_tokens", sequence.spec.promptTokens);
  }

  transferred(tokens: number, ms: number): void {
    this.#counts.pulledTokens += tokens;
    this.#observe("vllm:nixl_xfer_time_seconds", ms / 1000);
    this.#observe("vllm:nixl_bytes_transferred", tokens * this.#settings.kvBytesPerToken);
  }

  firstToken(ms: number): void {
    this.#counts.generatedTokens += 1;
    this.#observe("vllm:time_to_first_token_seconds", ms / 1000);
  }

  nextToken(ms: number): void {
    this.#counts.generatedTokens += 1;
    this.#observe("vllm:inter_token_latency_seconds", ms / 1000);
  }

  preempted(count: number): void {
    this.#counts.preemptions += count;
  }

  finished({ spec, prefill, generated }: Sequence, ms: number): void {
    this.#counts.finished[spec.finish] += 1;
    if (spec.leg === "prefill") this.#counts.prefillLegs += 1;
    else if (prefill === "remote") this.#counts.decodeLegsRemote += 1;
    else this.#counts.decodeLegsLocal += 1;
    this.#observe("vllm:e2e_request_latency_seconds", ms / 1000);
    this.#observe("vllm:request_generation_tokens", generated);
  }

  aborted(): void {
    this.#counts.aborted += 1;
  }

  #observe(name: HistogramName, value: number): void {
    this.#histograms.get(name)?.observe(value);
  }

  /** Settings as labels of a series that is always 1, as vLLM prints its cache configuration. */
  #declareInfo(registers: Registry[]): void {
    const { blockSize, capacityBlocks, caching, role, connector, engineId } = this.#settings;
    declareConstant(registers, "vllm:cache_config_info", {
      block_size: String(blockSize),
      num_gpu_blocks: String(capacityBlocks),
      kv_cache_size_tokens: String(blockSize * capacityBlocks),
      enable_prefix_caching: caching ? "True" : "False",
      cache_dtype: "auto",
    });
    declareConstant(registers, "simulator_info", { role, connector, engine_id: engineId });
  }
}

const options = (series: Series, registers: Registry[]) => ({
  name: series.name,
  help: series.help,
  labelNames: series.labels ?? [],
  registers,
});

function declareGauge(series: Series, facts: () => EngineFacts, registers: Registry[]): void {
  const gauge: Gauge = new Gauge({
    ...options(series, registers),
    collect: () => series.read(facts()).forEach(([value, labels]) => gauge.set(labels ?? {}, value)),
  });
}

function declareCounter(series: Series, facts: () => EngineFacts, registers: Registry[]): void {
  const counter: Counter = new Counter({
    ...options(series, registers),
    collect: () => {
      counter.reset();
      series.read(facts()).forEach(([value, labels]) => counter.inc(labels ?? {}, value));
    },
  });
}

function declareConstant(registers: Registry[], name: string, labels: Readonly<Record<string, string>>): void {
  const gauge = new Gauge({ name, help: "Settings, as labels.", labelNames: Object.keys(labels), registers });
  gauge.set(labels, 1);
}
