/**
 * Every label, annotation, header, gate and field manager by name, in one place; metrics are in `metric-names.ts`.
 * `docs/reference/` lists exactly these; a test compares.
 */
export const PREFIX = "tandem.sh/";
export const STATUS_PREFIX = "status.tandem.sh/";
export const AUTOSCALING_PREFIX = "autoscaling.tandem.sh/";
export const ROUTING_PREFIX = "routing.tandem.sh/";

/** Prefixes of keys that have a meaning in the contract and are not acted on yet. */
export const RESERVED: readonly string[] = [ROUTING_PREFIX];

/** On workloads (by the user, copied to pod templates) and on pods (by us). */
export const LABEL = {
  model: "tandem.sh/model",
  role: "tandem.sh/role",
  group: "tandem.sh/group",
  cell: "tandem.sh/cell",
  instance: "tandem.sh/instance",
  nodeRank: "tandem.sh/node-rank",
  entry: "tandem.sh/entry",
} as const;

/** The user's intent, on workloads; the same keys on a Namespace are defaults. */
export const ANNOTATION = {
  mode: "tandem.sh/mode",
  engine: "tandem.sh/engine",
  container: "tandem.sh/container",
  port: "tandem.sh/port",
  rankPorts: "tandem.sh/rank-ports",
  parallelism: "tandem.sh/parallelism",
  dpMode: "tandem.sh/dp-mode",
  servedModel: "tandem.sh/served-model",
  accelerator: "tandem.sh/accelerator",
  acceleratorsPerPod: "tandem.sh/accelerators-per-pod",
  scheduler: "tandem.sh/scheduler",
  queue: "tandem.sh/queue",
  gang: "tandem.sh/gang",
  topology: "tandem.sh/topology",
  topologyTier: "tandem.sh/topology-tier",
  kvConnector: "tandem.sh/kv-connector",
  compat: "tandem.sh/compat",
  prefillRunner: "tandem.sh/prefill-runner",
  nodesPerInstance: "tandem.sh/nodes-per-instance",
  recovery: "tandem.sh/recovery",
  disruption: "tandem.sh/disruption",
  skip: "tandem.sh/skip",
  plan: "tandem.sh/plan",
} as const;

/** The user's intent about replicas: on workloads, and on a Namespace as defaults. The group is `LABEL.group`. */
export const AUTOSCALING = {
  mode: "autoscaling.tandem.sh/mode",
  minReplicas: "autoscaling.tandem.sh/min-replicas",
  maxReplicas: "autoscaling.tandem.sh/max-replicas",
  ttftSlo: "autoscaling.tandem.sh/ttft-slo",
  tpotSlo: "autoscaling.tandem.sh/tpot-slo",
  objective: "autoscaling.tandem.sh/objective",
  variants: "autoscaling.tandem.sh/variants",
  step: "autoscaling.tandem.sh/step",
  cost: "autoscaling.tandem.sh/cost",
  maxAccelerators: "autoscaling.tandem.sh/max-accelerators",
  prefillPerDecode: "autoscaling.tandem.sh/prefill-per-decode",
  capacity: "autoscaling.tandem.sh/capacity-tokens-per-second",
  kvTarget: "autoscaling.tandem.sh/kv-target",
  stableWindow: "autoscaling.tandem.sh/stable-window",
  panicWindow: "autoscaling.tandem.sh/panic-window",
  panicThreshold: "autoscaling.tandem.sh/panic-threshold",
  scaleInDelay: "autoscaling.tandem.sh/scale-in-delay",
  maxScaleOut: "autoscaling.tandem.sh/max-scale-out",
  maxScaleIn: "autoscaling.tandem.sh/max-scale-in",
  drainTimeout: "autoscaling.tandem.sh/drain-timeout",
  standby: "autoscaling.tandem.sh/standby",
  idleAfter: "autoscaling.tandem.sh/idle-after",
  activationReplicas: "autoscaling.tandem.sh/activation-replicas",
  schedule: "autoscaling.tandem.sh/schedule",
  fallback: "autoscaling.tandem.sh/fallback",
  paused: "autoscaling.tandem.sh/paused",
  pausedScaleIn: "autoscaling.tandem.sh/paused-scale-in",
  pausedScaleOut: "autoscaling.tandem.sh/paused-scale-out",
  actuator: "autoscaling.tandem.sh/actuator",
  forceReplicas: "autoscaling.tandem.sh/force-replicas",
} as const;

/** The autoscaler's answers. */
export const AUTOSCALING_STATUS = {
  /** On workloads: the instances that it would have. */
  recommendation: "autoscaling.tandem.sh/recommendation",
  /** On workloads: the replicas that it wrote last, and when. */
  lastScale: "autoscaling.tandem.sh/last-scale",
  /** On workloads: what holds it, written only on change. */
  status: "autoscaling.tandem.sh/status",
  /** On pods that are to go when they are idle. */
  draining: "autoscaling.tandem.sh/draining",
} as const;

/** Our answers. */
export const STATUS = {
  /** The recorded plan: what admission injected, from which profile version, over which template. */
  plan: "status.tandem.sh/plan",
  /** The workload's annotations that pods need at creation; on the pod template, where its presence says `manage`. */
  intent: "status.tandem.sh/intent",
  /** Facts of the WorkloadSpec that discovery reads off a pod: connector, parallel sizes, served models. */
  endpoint: "status.tandem.sh/endpoint",
  /** On node rank 0 of an instance over several pods of which all have been ready once: until then it loads. */
  served: "status.tandem.sh/served",
  /** On a pod that was made without a gate, because its cell stood: the uid of the record that said so. */
  follows: "status.tandem.sh/follows",
  /** Set on a pod that must get no new work. */
  drain: "status.tandem.sh/drain",
  /** Which labels the controller put on a live pod of a `route` workload: these, and no others, are taken off again. */
  labels: "status.tandem.sh/labels",
  /** On a pod of an instance over several pods: DNS name of the instance's leader, node rank 0. */
  leader: "status.tandem.sh/leader",
  /** On such a pod: its first data-parallel rank. */
  rankStart: "status.tandem.sh/dp-rank-start",
  /** On such a pod: the one argument that differs by node, as `--headless`. */
  nodeArgument: "status.tandem.sh/node-argument",
  /** On such a pod: a flag that its own address follows; the leader must bind to an address, not to a name. */
  addressArgument: "status.tandem.sh/address-argument",
  /** On such a pod on the host's network: first port of the instance's block. */
  portBase: "status.tandem.sh/port-base",
  /** On the Service of an instance: uids of its pods, in the order of their node ranks. */
  members: "status.tandem.sh/members",
  /** On a pod whose gate was lifted: the node that was planned for it, and when. Others take that room for used. */
  placement: "status.tandem.sh/placement",
  /** On a pod of a complete gang without room: since when it waits. */
  waiting: "status.tandem.sh/waiting",
  /** On a bound pod of a model with prefill engines: names of the topology domains of its node, the widest first, as `spine-0/leaf-3`. */
  domains: "status.tandem.sh/domains",
  /** On objects that the controller makes: hash of what it applied last, so that it writes only when that changes. */
  applied: "status.tandem.sh/applied",
} as const;

/** Value of `STATUS.drain` on the pods of an instance of which one is not ready: the others' readiness ends it. */
export const DRAIN_UNREADY = "instance-unready";

/** Value of `STATUS.drain` on the pods of an instance that is to be scaled in; the autoscaler alone writes it and takes it off. */
export const DRAIN_SCALE_IN = "scale-in";

/** On PodGroups, ConfigMaps and Services that the controller makes: only what carries it is ever changed or deleted. */
export const OWNERSHIP = { label: "tandem.sh/owned-by", value: "controller" } as const;

/** Scheduling gates of ours. A Pod carries them from its creation on, and the controller lifts them. */
export const GATE = {
  /** Held until the cell's minimum viable set has room, all of it. */
  gang: "tandem.sh/gang",
  /** Held until the pod has its instance and its node rank. */
  rank: "tandem.sh/rank",
} as const;

/** Ports that engines of several pods use among themselves, where nobody says otherwise. */
export const ENGINE_PORTS = {
  /** Handshake of vLLM's data parallelism. */
  dpRpc: 13389,
} as const;

/** Pods of one ReplicaSet with a lower one are deleted first when it is scaled in. */
export const POD_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost";

/** Labels by which pods of one template are told from those of another, by the kind of their workload. */
export const TEMPLATE_HASH: Readonly<Record<string, string>> = {
  Deployment: "pod-template-hash",
  StatefulSet: "controller-revision-hash",
  // Its inner StatefulSets of leaders and workers have revisions of their own.
  LeaderWorkerSet: "leaderworkerset.sigs.k8s.io/template-revision-hash",
};

/** LeaderWorkerSet's keys on its own pods (sigs.k8s.io/lws, api/leaderworkerset/v1), and the names of its environment. */
export const LWS = {
  apiVersion: "leaderworkerset.x-k8s.io/v1",
  name: "leaderworkerset.sigs.k8s.io/name",
  groupIndex: "leaderworkerset.sigs.k8s.io/group-index",
  /** 0 is the leader. */
  workerIndex: "leaderworkerset.sigs.k8s.io/worker-index",
  /** Pods of a group; an annotation. */
  size: "leaderworkerset.sigs.k8s.io/size",
  leaderEnv: "LWS_LEADER_ADDRESS",
  sizeEnv: "LWS_GROUP_SIZE",
  indexEnv: "LWS_WORKER_INDEX",
} as const;

/** Kthena's names for the same, so that start scripts written for it run unchanged. */
export const KTHENA_ENV = { leader: "ENTRY_ADDRESS", size: "GROUP_SIZE", index: "WORKER_INDEX" } as const;

/** Gateway API Inference Extension: pools of engines behind a gateway. */
export const INFERENCE_POOL = { kind: "InferencePool", apiVersion: "inference.networking.k8s.io/v1" } as const;

/** Volcano's keys that we inject by design. */
export const VOLCANO = {
  groupName: "scheduling.k8s.io/group-name",
  taskSpec: "volcano.sh/task-spec",
  queueName: "scheduling.volcano.sh/queue-name",
  podGroupApiVersion: "scheduling.volcano.sh/v1beta1",
  podGroupDefinition: "podgroups.scheduling.volcano.sh",
  hyperNodeApiVersion: "topology.volcano.sh/v1alpha1",
  schedulerName: "volcano",
} as const;

export const FIELD_MANAGER = {
  controller: "tandem-controller",
  release: "tandem-release",
  autoscaler: "tandem-autoscaler",
} as const;

/** Environment of the engine container; documented names, so that a start script can read every setting. */
export const ENGINE_ENV = {
  kvTransferConfig: "TANDEM_KV_TRANSFER_CONFIG",
  tpSize: "TANDEM_TP_SIZE",
  dpSize: "TANDEM_DP_SIZE",
  dpLocal: "TANDEM_DP_LOCAL",
  dpRankStart: "TANDEM_DP_RANK_START",
  dpAddress: "TANDEM_DP_ADDRESS",
  dpRpcPort: "TANDEM_DP_RPC_PORT",
  nodes: "TANDEM_NODES",
  nodeRank: "TANDEM_NODE_RANK",
  instance: "TANDEM_INSTANCE",
  nodeArgument: "TANDEM_NODE_ARGUMENT",
  addressArgument: "TANDEM_ADDRESS_ARGUMENT",
  podIp: "TANDEM_POD_IP",
  portBase: "TANDEM_PORT_BASE",
  kvPort: "TANDEM_KV_PORT",
  ppSize: "TANDEM_PP_SIZE",
  pcpSize: "TANDEM_PCP_SIZE",
  expertParallel: "TANDEM_EXPERT_PARALLEL",
  host: "TANDEM_HOST",
  disaggregationMode: "TANDEM_DISAGGREGATION_MODE",
  transferBackend: "TANDEM_TRANSFER_BACKEND",
  podName: "TANDEM_POD_NAME",
  kvEventsConfig: "TANDEM_KV_EVENTS_CONFIG",
  engineArgs: "TANDEM_ENGINE_ARGS",
} as const;

/** Headers between Envoy, the router and engines. Lower case, as HTTP/2 carries them. */
export const HEADER = {
  /** Where the request goes: `ip:port`, with fallbacks after commas. */
  destination: "x-gateway-destination-endpoint",
  destinationSubset: "x-gateway-destination-endpoint-subset",
  destinationServed: "x-gateway-destination-endpoint-served",
  prefiller: "x-prefiller-host-port",
  encoders: "x-encoder-hosts-ports",
  dataParallel: "x-data-parallel-host-port",
  /** vLLM takes a data-parallel rank from it: with internal load balancing a client would choose its rank. */
  dataParallelRank: "x-data-parallel-rank",
  kvCacheSource: "x-kv-cache-source-host-port",
  requestId: "x-request-id",
  /** Names the model where no body does; body-based routers of gateways set it too. The client's word, as the body's is. */
  model: "x-gateway-model-name",
  /** Ours, on the answer: which endpoints served, what was predicted. */
  decodeEndpoint: "x-tandem-decode-endpoint",
  prefillEndpoint: "x-tandem-prefill-endpoint",
  predictedCachedTokens: "x-tandem-predicted-cached-tokens",
  /** Cached tokens that the prefill endpoint itself reported. */
  cachedTokens: "x-tandem-cached-tokens",
  reason: "x-tandem-reason",
  /** The terms of the chosen cost, in milliseconds. */
  cost: "x-tandem-cost",
} as const;

/** gRPC metadata of the ext_proc stream, set by Envoy for a route and out of clients' reach: the namespace it serves. */
export const NAMESPACE_METADATA = "x-tandem-namespace";

/** Removed from every request, whatever path it takes: a client must never choose where it is sent. */
export const UNTRUSTED_HEADERS: readonly string[] = [
  HEADER.destination,
  HEADER.destinationSubset,
  HEADER.destinationServed,
  HEADER.prefiller,
  HEADER.encoders,
  HEADER.dataParallel,
  HEADER.dataParallelRank,
  HEADER.kvCacheSource,
  HEADER.decodeEndpoint,
  HEADER.prefillEndpoint,
  HEADER.predictedCachedTokens,
  HEADER.cachedTokens,
  HEADER.reason,
  HEADER.cost,
];

/** Dynamic metadata namespace of the endpoint picker protocol. */
export const LB_METADATA_NAMESPACE = "envoy.lb";
export const SUBSET_METADATA_NAMESPACE = "envoy.lb.subset_hint";
