/**
 * WorkloadSpec: the user's contract, decoded once from labels, annotations and the pod template.
 *
 * Every other part reads this value and never the keys themselves. Decoding never guesses in silence: what was taken
 * from where is a Verdict, and an invalid value is a denial.
 */
import type { Connector, PrefillRunner, Role } from "../kinds/endpoint.ts";
import type { DeviceProfile } from "../profiles/devices.ts";
import type { EventPorts } from "./events.ts";

export type Mode = "off" | "observe" | "route" | "manage";
export type EngineName = "vllm" | "vllm-ascend" | "sglang";
export type DataParallelMode = "internal" | "hybrid" | "external";
export type TopologyMode = "required" | "preferred" | "off";
export type Stage = "scheduling" | "gang" | "topology" | "devices" | "engine" | "kv" | "probes" | "replicas";

/** Sizes of one engine instance. Unset arguments are 1. */
export interface Parallelism {
  readonly tp: number;
  readonly pp: number;
  readonly dp: number;
  /** Data-parallel ranks on one pod. */
  readonly dpLocal: number;
  /** Prefill context parallel size. */
  readonly pcp: number;
  readonly expert: boolean;
}

/** The minimum viable set of a cell, in instances. */
export type GangSetting =
  | { readonly kind: "auto" }
  | { readonly kind: "off" }
  | { readonly kind: "set"; readonly prefill: number; readonly decode: number };

export interface WorkloadSpec {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Empty before the object is stored. */
  readonly uid: string;
  readonly replicas: number;
  readonly mode: Mode;
  readonly role: Role;
  readonly model: string;
  readonly group: string;
  readonly cell: string;
  readonly engine: EngineName;
  /** Name of the engine container. */
  readonly container: string;
  readonly port: number;
  /** One API server for each data-parallel rank, from this port on. */
  readonly rankPorts?: { readonly first: number; readonly count: number };
  readonly parallelism: Parallelism;
  readonly dataParallelMode: DataParallelMode;
  /** Model names that requests may use. */
  readonly served: readonly string[];
  /** Name of the device profile; empty without one. */
  readonly accelerator: string;
  /** That profile; absent where none has the name. */
  readonly device?: DeviceProfile;
  /** 0 where neither request nor sizes tell. */
  readonly acceleratorsPerPod: number;
  readonly scheduler: "keep" | "volcano" | "default";
  readonly queue: string;
  readonly gang: GangSetting;
  readonly topology: TopologyMode;
  /** Highest HyperNode tier, as number or tier name. */
  readonly topologyTier?: number | string;
  readonly connector: Connector;
  /** The engine's own connector, where a script is not known to load any: its configuration is there for the script. */
  readonly offered?: Connector;
  readonly compat: string;
  /** As declared. */
  readonly prefillRunner?: PrefillRunner;
  readonly nodesPerInstance: number;
  readonly recovery: "tandem" | "platform";
  readonly disruption: "off" | "budget";
  readonly skip: readonly Stage[];
  /** `latest`: plan anew at every admission instead of replaying the recorded plan. */
  readonly planLatest: boolean;
  /** True for `--headless`: the engine computes for another pod's API server and has none of its own. */
  readonly headless?: true;
  /** True for a pod that only joins Ray's cluster: the leader's engine starts its workers there. */
  readonly joins?: true;
  /** True where the engine's command is a script, so that arguments cannot be appended. */
  readonly opaque: boolean;
  /** True where a script or a file hides the parallel sizes: `parallelism` then holds ones that nobody vouches for. */
  readonly sizesHidden?: boolean;
  /** Tokens of a KV block, from the arguments or the engine's default. */
  readonly blockSize?: number;
  /** Requests that an instance runs at once, at most, where its arguments say. */
  readonly maxSequences?: number;
  /** First port of the KV connector. */
  readonly kvPort?: number;
  /** SGLang's transfer backend. */
  readonly transferBackend?: string;
  /** Where the engine publishes KV events by arguments of the user's own. */
  readonly events?: EventPorts;
  /** True where `port` is only the engine's default, and a script may say otherwise. */
  readonly portAssumed?: true;
  /** `kv_connector_module_path`, for engine versions that do not register the connector themselves. */
  readonly connectorModule?: string;
}
