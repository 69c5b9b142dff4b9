/**
 * Counters on a metrics page, of prefix caches and of work done: under which names engines keep them, and what they come to.
 *
 * vLLM and vLLM-Ascend count lookups, in tokens, when a prompt is first scheduled; with prefix caching off they count
 * none. Lookups of preempted requests are counted apart and not shown. SGLang counts whole prompts and their cached part
 * (of the device, the host, storage: label `cache_source`) when an answer has ended; its `cache_hit_rate` is of the last
 * batch alone and is not read.
 *
 * `vllm:prompt_tokens` and `sglang:prompt_tokens` count cached tokens too. What was computed vLLM tells by source since
 * 0.16; before that it is what was looked up and not found, or, with prefix caching off, every prompt token. SGLang tells
 * by mode (`realtime_tokens`, told on each interval of its log); before that, whole prompts without their cached part,
 * when an answer has ended.
 */
import type { CacheLookups, EngineStats } from "../kinds/endpoint.ts";

/** Sums over the labels of a page, by name. */
export type CounterSums = Map<string, number>;

/** Of one engine's names the first that is there counts: some releases show an older one beside it. */
interface Names {
  readonly queried: readonly string[];
  readonly hit: readonly string[];
  readonly external: readonly string[];
}

/** With and without the suffix that newer client libraries add. */
const named = (...names: readonly string[]): readonly string[] => names.flatMap((name) => [`${name}_total`, name]);

const ENGINES: readonly Names[] = [
  {
    queried: named("vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"),
    hit: named("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
    external: named("vllm:external_prefix_cache_hits"),
  },
  { queried: named("sglang:prompt_tokens"), hit: named("sglang:cached_tokens"), external: [] },
];

/** Of one engine: prompt tokens that were computed, all of them, and generated tokens. */
interface WorkNames {
  readonly computed: readonly string[];
  readonly prompt: readonly string[];
  readonly generated: readonly string[];
}

/** A counter of which one label's value is meant. */
const labelled = (label: string, value: string, ...names: readonly string[]): readonly string[] =>
  named(...names).map((name) => `${name}{${label}="${value}"}`);

const WORK: readonly WorkNames[] = [
  {
    computed: labelled("source", "local_compute", "vllm:prompt_tokens_by_source"),
    prompt: named("vllm:prompt_tokens"),
    generated: named("vllm:generation_tokens"),
  },
  {
    computed: labelled("mode", "prefill_compute", "sglang:realtime_tokens"),
    prompt: named("sglang:prompt_tokens"),
    generated: [...labelled("mode", "decode", "sglang:realtime_tokens"), ...named("sglang:generation_tokens")],
  },
];

const ALL = new Set([
  ...ENGINES.flatMap(({ queried, hit, external }) => [...queried, ...hit, ...external]),
  ...WORK.flatMap(({ computed, prompt, generated }) => [...computed, ...prompt, ...generated]),
]);
/** The label by which a counter is told apart. */
const LABELS = new Map(
  [...ALL].flatMap((name) => {
    const [, counter = "", label = ""] = /^([^{]+)\{(\w+)=/.exec(name) ?? [];
    return counter === "" ? [] : [[counter, new RegExp(`[{,]${label}="[^"]*"`)] as const];
  }),
);

const familyOf = (name: string): string => name.split("{")[0] ?? "";
const FAMILIES = new Set(LABELS.keys());

/** The counter of a line: its name, with the one label by which it is told apart. */
export function counterOf(name: string, line: string): string {
  const label = LABELS.get(name)?.exec(line)?.[0];
  return label === undefined ? name : `${name}{${label.slice(1)}}`;
}

export const isCounter = (name: string): boolean => ALL.has(name);

/** What is declared has a sample of each label only once it counted something of it. */
const countOf = (sums: CounterSums, name: string): number | undefined =>
  sums.get(name) ?? (familyOf(name) === name ? undefined : sums.get(familyOf(name)));

/** A counter that is declared and has no sample yet stands at nothing: SGLang's, before the first hit. */
export function startsCounter(sums: CounterSums, comment: string): void {
  const name = /^# TYPE (\S+) counter/.exec(comment)?.[1] ?? "";
  if ((isCounter(name) || FAMILIES.has(name)) && !sums.has(name)) sums.set(name, 0);
}

/** Of some names that mean the same, the first that is there. */
const first = (sums: CounterSums, names: readonly string[]): number | undefined =>
  names.map((name) => countOf(sums, name)).find((sum) => sum !== undefined);

/** Nothing where no engine's lookups and hits are both there. */
export function lookupsOf(sums: CounterSums): { readonly lookups?: CacheLookups } {
  for (const names of ENGINES) {
    const [queried, hit, external = 0] = [names.queried, names.hit, names.external].map((some) => first(sums, some));
    if (queried !== undefined && hit !== undefined) return { lookups: { queried, hit, external } };
  }
  return {};
}

/** What was computed and generated, as far as it can be told. */
export function workOf(sums: CounterSums, caches: boolean | undefined): Work {
  for (const names of WORK) {
    const [prompt, generated] = [first(sums, names.prompt), first(sums, names.generated)];
    const promptTokens = first(sums, names.computed) ?? (caches === false ? undefined : missed(sums)) ?? prompt;
    if (prompt === undefined && generated === undefined) continue;
    return {
      ...(promptTokens === undefined ? {} : { promptTokens }),
      ...(generated === undefined ? {} : { generatedTokens: generated }),
    };
  }
  return {};
}

type Work = Pick<EngineStats, "promptTokens" | "generatedTokens">;

function missed(sums: CounterSums): number | undefined {
  const { lookups } = lookupsOf(sums);
  return lookups && Math.max(0, lookups.queried - lookups.hit - lookups.external);
}
