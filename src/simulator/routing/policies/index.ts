/** The policies by name; each has its source in its own file. */
import { policyOf, type Chooser, type Policy, type View, type World } from "../policy.ts";
import { dynamo } from "./dynamo.ts";
import { kthena, type KthenaOptions, type KthenaScorer } from "./kthena.ts";
import { llmD } from "./llm-d.ts";
import { lmetric } from "./lmetric.ts";
import { toldPrefixes } from "./prefixes.ts";
import { sglang } from "./sglang.ts";
import { leastRequest, random, roundRobin } from "./simple.ts";
import { tandem, type TandemOptions } from "./tandem.ts";

export interface PolicyOptions {
  readonly tandem: TandemOptions;
  /** Kthena's router as it is, or as it was when its benchmark was made: then `least-request` is its own as well. */
  readonly kthena: KthenaOptions["version"];
}

type Named = (view: View, options: Pick<PolicyOptions, "kthena">) => Chooser;

const ofKthena =
  (...scorers: KthenaScorer[]): Named =>
  (world, { kthena: version }) =>
    kthena({ scorers, version }, world, toldPrefixes(world));

const CHOOSERS = {
  random,
  "round-robin": roundRobin,
  "least-request": (world, options) =>
    options.kthena === "benchmark" ? ofKthena("least-request")(world, options) : leastRequest(world),
  "kthena-prefix": ofKthena("least-request", "prefix-cache"),
  "kthena-kv": ofKthena("least-request", "kvcache-aware"),
  // As its Helm chart configures it, where nothing else is said.
  "kthena-default": ofKthena("least-request", "least-latency", "prefix-cache", "gpu-usage"),
  "llm-d": llmD,
  sglang,
  dynamo: (world) => dynamo(world, toldPrefixes(world)),
  lmetric: (world) => lmetric(world, toldPrefixes(world)),
} as const satisfies Record<string, Named>;

/** A published policy by itself, over engines of any kind. */
export const chooserNamed = (
  name: Exclude<PolicyName, "tandem">,
  version: PolicyOptions["kthena"],
  view: View,
): Chooser => CHOOSERS[name](view, { kthena: version });

export type PolicyName = "tandem" | keyof typeof CHOOSERS;

export const POLICIES: readonly PolicyName[] = ["tandem", ...(Object.keys(CHOOSERS) as (keyof typeof CHOOSERS)[])];

export const policyNamed = (name: PolicyName, options: PolicyOptions, world: World): Policy =>
  name === "tandem" ? tandem(options.tandem, world) : policyOf(CHOOSERS[name](world, options), world);
