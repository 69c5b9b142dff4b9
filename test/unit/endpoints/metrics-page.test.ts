import t from "tap";
import type { EngineStats } from "../../../src/kinds/endpoint.ts";
import { packStats, unpackStats } from "../../../src/endpoints/messages.ts";
import { parseMetricsPage } from "../../../src/endpoints/metrics-page.ts";

t.test("what is read off a metrics page", (t) => {
  const table: [string, string, object | undefined][] = [
    [
      "vLLM",
      'vllm:num_requests_running{model_name="m"} 3.0\nvllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc 0.5',
      { running: 3, waiting: 2, kvUsage: 0.5 },
    ],
    [
      "SGLang",
      "sglang:num_running_reqs 4\nsglang:num_queue_reqs 1\nsglang:token_usage 0.25",
      { running: 4, waiting: 1, kvUsage: 0.25 },
    ],
    [
      "an older name, a time stamp, Windows lines",
      "vllm:gpu_cache_usage_perc 0.75 1700000000000\r\nvllm:num_requests_running 1\r",
      { kvUsage: 0.75, running: 1 },
    ],
    [
      "ranks are summed, usage is the highest",
      'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} 4\nvllm:kv_cache_usage_perc{engine="0"} 0.9\nvllm:kv_cache_usage_perc{engine="1"} 0.1',
      { running: 7, kvUsage: 0.9 },
    ],
    [
      "capacity",
      'vllm:num_requests_running 0\nvllm:cache_config_info{block_size="16",num_gpu_blocks="500"} 1',
      { blockSize: 16, blocks: 500 },
    ],
    [
      "NaN, infinite and negative values are not values",
      "vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\nvllm:kv_cache_usage_perc -1",
      undefined,
    ],
    [
      "a bad value beside a good one",
      "vllm:num_requests_running NaN\nvllm:num_requests_waiting 2",
      { running: 0, waiting: 2 },
    ],
    ["usage above one", "vllm:kv_cache_usage_perc 7", { kvUsage: 1 }],
    ["a name that only begins alike", "vllm:num_requests_running_total 9", undefined],
    ["comments", "# HELP vllm:num_requests_running 9", undefined],
    ["nothing", "", undefined],
    ["a web page", "<html>vllm:num_requests_running 9</html>", undefined],
  ];
  for (const [name, page, wanted] of table) {
    const stats = parseMetricsPage(page, 7);
    if (wanted === undefined) t.equal(stats, undefined, name);
    else t.match(stats, { at: 7, ...wanted }, name);
  }
  t.end();
});

t.test("a capacity that no engine has is no capacity", (t) => {
  for (const blocks of ["0", "9".repeat(20), "9".repeat(400), "-1", "x"]) {
    const page = `vllm:num_requests_running 0\nvllm:cache_config_info{block_size="16",num_gpu_blocks="${blocks}"} 1`;
    t.equal(parseMetricsPage(page, 0)?.blocks, undefined, blocks.slice(0, 30));
  }
  t.end();
});

t.test("a hostile page of 4 MB costs little", (t) => {
  const long = `vllm:num_requests_running a${" ".repeat(4_000_000)}b`;
  const before = process.cpuUsage();
  t.equal(parseMetricsPage(long, 0), undefined);
  t.ok(process.cpuUsage(before).user < 500_000, `${process.cpuUsage(before).user} us`);
  t.end();
});

t.test("counters of prefix caches", (t) => {
  const gauge = "vllm:num_requests_running 0\n";
  const table: [string, string, object | undefined][] = [
    [
      "vLLM, two engines behind one page",
      'vllm:prefix_cache_queries_total{engine="0"} 100\nvllm:prefix_cache_queries_total{engine="1"} 50\nvllm:prefix_cache_hits_total{engine="0"} 64\nvllm:prefix_cache_hits_total{engine="1"} 1.6e+01\nvllm:prefix_cache_queries_created{engine="0"} 1.7e9',
      { queried: 150, hit: 80, external: 0 },
    ],
    [
      "an older release, without the suffix",
      "vllm:gpu_prefix_cache_queries 9\nvllm:gpu_prefix_cache_hits 8",
      { queried: 9, hit: 8, external: 0 },
    ],
    [
      "both names are one counter",
      "vllm:gpu_prefix_cache_queries_total 9\nvllm:gpu_prefix_cache_hits_total 8\nvllm:prefix_cache_queries_total 9\nvllm:prefix_cache_hits_total 8\nvllm:external_prefix_cache_queries_total 7\nvllm:external_prefix_cache_hits_total 5",
      { queried: 9, hit: 8, external: 5 },
    ],
    [
      "SGLang, by source and kind of request",
      'sglang:prompt_tokens_total{is_streaming="true"} 90\nsglang:prompt_tokens_total{is_streaming="false"} 10\nsglang:cached_tokens_total{cache_source="device"} 40\nsglang:cached_tokens_total{cache_source="host"} 2\nsglang:cache_hit_rate 0.9',
      { queried: 100, hit: 42, external: 0 },
    ],
    [
      "declared, and no hit yet",
      "# TYPE sglang:cached_tokens_total counter\nsglang:prompt_tokens_total 90",
      { queried: 90, hit: 0, external: 0 },
    ],
    ["one without the other", "vllm:prefix_cache_queries_total 9", undefined],
    ["no numbers", "vllm:prefix_cache_queries_total NaN\nvllm:prefix_cache_hits_total -1", undefined],
  ];
  for (const [name, page, wanted] of table) t.same(parseMetricsPage(gauge + page, 0)?.lookups, wanted, name);
  const info = (on: string): string =>
    `${gauge}vllm:cache_config_info{block_size="16",enable_prefix_caching="${on}"} 1`;
  t.same([parseMetricsPage(info("True"), 0)?.caches, parseMetricsPage(info("False"), 0)?.caches], [undefined, false]);
  t.end();
});

t.test("stats cross to the other thread as they are", (t) => {
  const least = { at: 1, running: 2, waiting: 3, kvUsage: 0.5 };
  const all: [number, EngineStats][] = [
    [0, least],
    [5, { ...least, blockSize: 16, blocks: 9, caches: false, lookups: { queried: 7, hit: 0, external: 1 } }],
    [5, { ...least, promptTokens: 0, generatedTokens: 8, kvTokens: 9 }],
    [6, { ...least, caches: true, lookups: { queried: 0, hit: 0, external: 0 } }],
  ];
  t.same(unpackStats(packStats(all)), all);
  t.end();
});

t.test("work done: what was computed, not what was cached", (t) => {
  const gauge = "vllm:num_requests_running 0\n";
  const cacheOff = 'vllm:cache_config_info{block_size="16",enable_prefix_caching="False"} 1\n';
  const lookups = "vllm:prefix_cache_queries_total 100\nvllm:prefix_cache_hits_total 40\n";
  const table: [string, string, object][] = [
    [
      "vLLM tells by source, ranks together",
      `${lookups}vllm:prompt_tokens_total 100\nvllm:prompt_tokens_by_source_total{engine="0",source="local_compute"} 30\nvllm:prompt_tokens_by_source_total{engine="1",source="local_compute"} 25\nvllm:prompt_tokens_by_source_total{engine="0",source="local_cache_hit"} 45\nvllm:generation_tokens_total 7`,
      { promptTokens: 55, generatedTokens: 7 },
    ],
    [
      "before that, what was looked up and not found, nor brought from another engine",
      `${lookups}vllm:external_prefix_cache_hits_total 35\nvllm:prompt_tokens_total 100\nvllm:generation_tokens_total 7`,
      { promptTokens: 25, generatedTokens: 7 },
    ],
    [
      "without prefix caching nothing is looked up",
      `${cacheOff}vllm:prefix_cache_queries_total 0\nvllm:prefix_cache_hits_total 0\nvllm:prompt_tokens_total 100`,
      { promptTokens: 100 },
    ],
    [
      "SGLang tells by mode; what it generates is there before an answer has ended",
      'sglang:prompt_tokens_total 100\nsglang:cached_tokens_total 60\nsglang:generation_tokens_total 5\nsglang:realtime_tokens_total{mode="prefill_compute"} 45\nsglang:realtime_tokens_total{mode="prefill_cache"} 60\nsglang:realtime_tokens_total{mode="decode"} 9',
      { promptTokens: 45, generatedTokens: 9 },
    ],
    [
      "a decode engine of SGLang, which computes no prompt",
      '# TYPE sglang:realtime_tokens_total counter\nsglang:prompt_tokens_total 100\nsglang:cached_tokens_total 0\nsglang:realtime_tokens_total{mode="decode"} 9',
      { promptTokens: 0, generatedTokens: 9 },
    ],
    [
      "an older SGLang",
      "sglang:prompt_tokens_total 100\nsglang:cached_tokens_total 60\nsglang:generation_tokens_total 5",
      { promptTokens: 40, generatedTokens: 5 },
    ],
    ["nothing of the kind", "", {}],
  ];
  for (const [name, page, wanted] of table) {
    const { promptTokens, generatedTokens } = parseMetricsPage(gauge + page, 0) ?? {};
    t.same({ promptTokens, generatedTokens }, { promptTokens: undefined, generatedTokens: undefined, ...wanted }, name);
  }
  t.end();
});

t.test("tokens that the KV cache holds", (t) => {
  const info = (engine: number, more = ""): string =>
    `vllm:cache_config_info{engine="${engine}",block_size="16",num_gpu_blocks="500"${more}} 1\n`;
  const read = (page: string): number | undefined =>
    parseMetricsPage(`vllm:num_requests_running 0\n${page}`, 0)?.kvTokens;
  t.equal(read(info(0) + info(1)), 16_000, "of both ranks");
  t.equal(read(info(0, ',kv_cache_size_tokens="463459"')), 463_459, "more than the blocks of one group of layers");
  t.equal(read("sglang:max_total_num_tokens 161721.0\n"), 161_721);
  t.equal(read(""), undefined);
  t.end();
});
