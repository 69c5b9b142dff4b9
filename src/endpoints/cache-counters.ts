/**
 * Counters of prefix caches on a metrics page: under which names engines keep them, and what they come to.
 *
 * vLLM and vLLM-Ascend count lookups, in tokens, when a prompt is first scheduled; with prefix caching off they count
 * none. Lookups of preempted requests are counted apart and not shown. SGLang counts whole prompts and their cached part
 * (of the device, the host, storage: label `cache_source`) when an answer has ended; its `cache_hit_rate` is of the last
 * batch alone and is not read.
 */
import type { CacheLookups } from "../kinds/endpoint.ts";

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

const ALL = new Set(ENGINES.flatMap(({ queried, hit, external }) => [...queried, ...hit, ...external]));

export const isCounter = (name: string): boolean => ALL.has(name);

/** A counter that is declared and has no sample yet stands at nothing: SGLang's, before the first hit. */
export function startsCounter(sums: CounterSums, comment: string): void {
  const name = /^# TYPE (\S+) counter/.exec(comment)?.[1] ?? "";
  if (isCounter(name) && !sums.has(name)) sums.set(name, 0);
}

/** Nothing where no engine's lookups and hits are both there. */
export function lookupsOf(sums: CounterSums): { readonly lookups?: CacheLookups } {
  const first = (names: readonly string[]): number | undefined =>
    names.map((name) => sums.get(name)).find((sum) => sum !== undefined);
  for (const names of ENGINES) {
    const [queried, hit, external = 0] = [first(names.queried), first(names.hit), first(names.external)];
    if (queried !== undefined && hit !== undefined) return { lookups: { queried, hit, external } };
  }
  return {};
}
