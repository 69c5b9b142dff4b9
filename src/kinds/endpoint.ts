/**
 * An endpoint: one API server of an engine, that a request can be sent to.
 *
 * The instance is the unit of failure and drain; several endpoints (data-parallel ranks) may belong to one.
 */
export type Role = "prefill" | "decode" | "both";

/** How KV blocks travel from prefill to decode. */
export type Connector = "nixl" | "nixl-push" | "mooncake" | "mooncake-layerwise" | "sglang" | "none";

/** Who runs the prefill leg of requests that the endpoint decodes: the router, or llm-d's sidecar in its pod. */
export type PrefillRunner = "router" | "sidecar";

/** What both sides of a KV transfer must agree on, as far as it is known. Unknown fields never refuse a pair. */
export interface Compatibility {
  readonly connector: Connector;
  /** `vllm`, `vllm-ascend`, `sglang` */
  readonly engine: string;
  /** The user's `tandem.sh/compat`, empty when absent. */
  readonly tag: string;
  /** Devices that can reach each other's memory; different fabrics never pair. */
  readonly fabric: string;
  readonly tensorParallel?: number;
  /** Tokens of a KV block. */
  readonly blockSize?: number;
}

export interface Endpoint {
  /** Pod uid and rank, or `static:ip:port`: unique for one incarnation. */
  readonly id: string;
  /** `ip:port` */
  readonly address: string;
  /** Namespace and name of the Pod, or the address of a static endpoint. For people. */
  readonly name: string;
  readonly namespace: string;
  readonly role: Role;
  /** `tandem.sh/model`: handle of the service. Never compared with the model of a request. */
  readonly service: string;
  readonly group: string;
  readonly cell: string;
  readonly instance: string;
  readonly dataParallelRank: number;
  /** Model names that requests may use, from arguments, annotations and `/v1/models`. */
  readonly models: readonly string[];
  readonly compatibility: Compatibility;
  /** True once the pod is being deleted or told to finish: gets no new work. */
  readonly draining: boolean;
  readonly ready: boolean;
  /** Changes whenever the engine process is new, so that what was cached is gone. */
  readonly bootId: string;
  /** First port of the connector, where it is known: NIXL's side channel, Mooncake's handshake, a bootstrap server. */
  readonly kvPort?: number;
  /** Data-parallel ranks behind the address, where it is known that they are several. */
  readonly ranks?: number;
  /** Default: the router. */
  readonly prefillRunner?: PrefillRunner;
  /** What it lies in, the widest first and its node last, as far as it is known. */
  readonly domains?: readonly string[];
  /** KV events over ZeroMQ, where the engine publishes them: ports of the first of `ranks` data-parallel ranks. */
  readonly events?: { readonly port: number; readonly replayPort?: number; readonly ranks: number };
}

/** What an engine's metrics said, and when. */
export interface EngineStats {
  /** Milliseconds of the monotonic clock at the read. */
  readonly at: number;
  readonly running: number;
  readonly waiting: number;
  /** 0 to 1; cached blocks that nobody uses count as free. */
  readonly kvUsage: number;
  /** Tokens of a KV block, where the engine tells. */
  readonly blockSize?: number;
  /** KV blocks of the engine, where it tells. */
  readonly blocks?: number;
  /** False where it says that it caches no prefixes. */
  readonly caches?: boolean;
  /** What was looked up in its prefix cache since it started, where it counts that. */
  readonly lookups?: CacheLookups;
  /** Prompt tokens that it computed since it started: without those that were cached, or that another engine computed. */
  readonly promptTokens?: number;
  /** Tokens that it generated since it started. */
  readonly generatedTokens?: number;
  /** Tokens that its KV cache holds; of ranks behind one address, all of them. */
  readonly kvTokens?: number;
}

/** Counters of a prefix cache, in prompt tokens since the engine started; ranks behind one address are summed. */
export interface CacheLookups {
  readonly queried: number;
  /** Of those, found in its own cache. */
  readonly hit: number;
  /** And brought in by a KV connector: from a pool, the host's memory, or another engine. */
  readonly external: number;
}
