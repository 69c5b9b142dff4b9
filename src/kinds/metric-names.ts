/** Every metric by name: its kind, its labels and what it says. The other half of the one names file, `names.ts`. */

export interface MetricSpec {
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly labels: readonly string[];
  readonly buckets?: readonly number[];
}

const LATENCY_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Every metric, declared once. */
export const METRICS = {
  tandem_admission_requests_total: {
    type: "counter",
    help: "Admission reviews answered.",
    labels: ["webhook", "kind", "outcome"],
  },
  tandem_admission_verdicts_total: {
    type: "counter",
    help: "Verdicts of admission stages and checks.",
    labels: ["outcome", "reason"],
  },
  tandem_admission_duration_seconds: {
    type: "histogram",
    help: "Time to answer an admission review.",
    labels: ["webhook"],
    buckets: LATENCY_SECONDS,
  },
  tandem_autoscaler_keda_calls_total: {
    type: "counter",
    help: "Calls of KEDA's external scaler answered, by method and gRPC code.",
    labels: ["method", "code"],
  },
  tandem_extender_verdicts_total: {
    type: "counter",
    help: "Nodes judged for the scheduler.",
    labels: ["verb", "reason"],
  },
  tandem_extender_holds: {
    type: "gauge",
    help: "Pods for which room is kept that they are not bound to yet.",
    labels: [],
  },
  tandem_extender_duration_seconds: {
    type: "histogram",
    help: "Time to answer an extender call.",
    labels: ["verb"],
    buckets: LATENCY_SECONDS,
  },
  tandem_controller_writes_total: {
    type: "counter",
    help: "Writes to the API server by the controller.",
    labels: ["kind", "outcome"],
  },
  tandem_controller_verdicts_total: {
    type: "counter",
    help: "Verdicts that the controller acted on; reason PodMissed counts pods that admission missed.",
    labels: ["outcome", "reason"],
  },
  tandem_controller_reconcile_duration_seconds: {
    type: "histogram",
    help: "Time of one pass of the controller.",
    labels: [],
    buckets: LATENCY_SECONDS,
  },
  tandem_autoscaler_desired_replicas: {
    type: "gauge",
    help: "Instances that a workload is to have.",
    labels: ["namespace", "workload"],
  },
  tandem_autoscaler_recommended_replicas: {
    type: "gauge",
    help: "Instances that it would have were nothing in the way, by the last reason that had a say in the number.",
    labels: ["namespace", "workload", "reason"],
  },
  tandem_autoscaler_draining_replicas: {
    type: "gauge",
    help: "Instances that get no new work because they are to be scaled in.",
    labels: ["namespace", "workload"],
  },
  tandem_autoscaler_frozen: {
    type: "gauge",
    help: "1 where the replicas stand although another number was wanted, by the reason.",
    labels: ["namespace", "workload", "reason"],
  },
  tandem_autoscaler_demand: {
    type: "gauge",
    help: "Tokens a second that a role of a group has to compute: prompt tokens for prefill, generated tokens for decode.",
    labels: ["group", "role"],
  },
  tandem_autoscaler_capacity: {
    type: "gauge",
    help: "Tokens a second that one instance of a role can compute.",
    labels: ["group", "role"],
  },
  tandem_autoscaler_forecast: {
    type: "gauge",
    help: "Of the demand, what each forecast adds: trend, burst.",
    labels: ["group", "role", "kind"],
  },
  tandem_autoscaler_backlog_seconds: {
    type: "gauge",
    help: "Time that a role takes for what waits for it.",
    labels: ["group", "role"],
  },
  tandem_autoscaler_panicking: {
    type: "gauge",
    help: "1 while a role is scaled by its last moments and gives up nothing.",
    labels: ["group", "role"],
  },
  tandem_autoscaler_drains_total: {
    type: "counter",
    help: "Instances scaled in, by how their drain ended: idle, late (requests were left when its time was over), unserving (not ready).",
    labels: ["end"],
  },
  tandem_autoscaler_writes_total: {
    type: "counter",
    help: "Writes to the API server by the autoscaler, by what became of them: done, conflict, failed.",
    labels: ["kind", "outcome"],
  },
  tandem_autoscaler_round_seconds: {
    type: "histogram",
    help: "Time of one round over all groups, by phase: observe, decide. Both hold the processor all along.",
    labels: ["phase"],
    buckets: LATENCY_SECONDS,
  },
  tandem_autoscaler_wake_seconds: {
    type: "histogram",
    help: "Time from a router's word that requests wait for a group until what was decided is written.",
    labels: [],
    buckets: LATENCY_SECONDS,
  },
  tandem_autoscaler_failures_total: {
    type: "counter",
    help: "Groups, or whole rounds, that failed for a bug or a bad answer, by phase: observe, decide, act.",
    labels: ["phase"],
  },
  tandem_cluster_watch_restarts_total: {
    type: "counter",
    help: "Watches that had to be begun again.",
    labels: ["kind"],
  },
  tandem_cluster_objects: { type: "gauge", help: "Objects in the store.", labels: ["kind"] },
  tandem_router_requests_total: {
    type: "counter",
    help: "Requests by what became of them.",
    labels: ["outcome", "reason"],
  },
  tandem_router_streams: { type: "gauge", help: "ext_proc streams open now.", labels: [] },
  tandem_router_pick_duration_seconds: {
    type: "histogram",
    help: "Time from the last body byte to the pick, without the prefill leg.",
    labels: [],
    buckets: [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05],
  },
  tandem_router_prefill_legs_total: {
    type: "counter",
    help: "Prefill legs by what became of them.",
    labels: ["outcome"],
  },
  tandem_router_decode_deserted_total: {
    type: "counter",
    help: "Decode legs whose prefill was lost behind them: ended by the router, where no answer began but an empty stream.",
    labels: ["connector"],
  },
  tandem_router_kv_stranded_total: {
    type: "counter",
    help: "Prefilled prompts whose client went away before decode was sent: their blocks stay pinned until the lease ends.",
    labels: ["connector"],
  },
  tandem_router_callbacks_total: {
    type: "counter",
    help: "Calls of decode engines for the prefill of their request, by status: 404 for one that nobody waits for.",
    labels: ["status"],
  },
  tandem_router_local_prefills_total: {
    type: "counter",
    help: "Requests prefilled on their decode endpoint, by reason: cheaper, noPartner, unsplit (an API, a batch or several answers that engines cannot split), refused, keptNothing.",
    labels: ["reason"],
  },
  tandem_router_prefill_duration_seconds: {
    type: "histogram",
    help: "Time of a successful prefill leg.",
    labels: [],
    buckets: LATENCY_SECONDS,
  },
  tandem_router_cached_tokens_total: {
    type: "counter",
    help: "Prompt tokens predicted to be cached (kind predicted), reported as cached by engines (kind actual), predicted of those prompts that were reported of (kind expected), and all (kind prompt).",
    labels: ["kind"],
  },
  tandem_router_answer_tokens_total: {
    type: "counter",
    help: "Tokens by what engines said in their answers, kind prompt, cached or completion; profile exact.",
    labels: ["kind"],
  },
  tandem_router_first_token_seconds: {
    type: "histogram",
    help: "Time from the last byte of a request to the first of its answer's body; profile exact.",
    labels: [],
    buckets: LATENCY_SECONDS,
  },
  tandem_router_first_token_ratio: {
    type: "histogram",
    help: "Time to the first token, over what the pick expected; profile exact.",
    labels: [],
    buckets: [0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 4, 10, 20, 100],
  },
  tandem_router_cache_forecasts_total: {
    type: "counter",
    help: "Answers that told how much of their prompt was cached, by what was expected: right (within 32 tokens or a tenth), over or under.",
    labels: ["outcome"],
  },
  tandem_router_history_trust: {
    type: "gauge",
    help: "Share of what was sent to an endpoint before that is believed to be cached there, 0 to 1: of the endpoint that is believed least, and the mean of all.",
    labels: ["stat"],
  },
  tandem_router_counted_windows_total: {
    type: "counter",
    help: "Windows over an engine's counters of prefix cache hits, by what they came to: judged, foreign (much of the traffic was not this router's, so that little is said), told (answers said what was cached), idle, reset (the engine began anew).",
    labels: ["outcome"],
  },
  tandem_router_zero_hit_warnings_total: {
    type: "counter",
    help: "Times that cached prefixes were expected again and again and none was hit, by the likely cause: blockSize, tokenizer, prefixCaching, events.",
    labels: ["cause"],
  },
  tandem_router_output_token_seconds: {
    type: "histogram",
    help: "Mean time of an output token after the first, of each answer that says how many it has; profile exact.",
    labels: [],
    buckets: LATENCY_SECONDS,
  },
  tandem_router_tokenizations_total: {
    type: "counter",
    help: "Prompts whose tokens were wanted, by who was asked (tokenizer, engine, request, none) and outcome: made in time, late, full, unable, failed.",
    labels: ["how", "outcome"],
  },
  tandem_router_tokenize_duration_seconds: {
    type: "histogram",
    help: "Time until the tokens of a prompt were here, in time or late.",
    labels: ["how"],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1],
  },
  tandem_router_tokenizer_ready: {
    type: "gauge",
    help: "1 where the tokenizer of an entry of router.tokenizer.models is read.",
    labels: ["model"],
  },
  tandem_router_tokenizer_cache_bytes: {
    type: "gauge",
    help: "Memory for tokens of pieces of prompts, in all threads.",
    labels: [],
  },
  tandem_router_token_agreement_total: {
    type: "counter",
    help: "Prompts whose tokens were made here or asked for, by whether the engine counted as many: same or other.",
    labels: ["how", "outcome"],
  },
  tandem_router_served_elsewhere_total: {
    type: "counter",
    help: "Requests that the proxy sent to another endpoint than the one picked.",
    labels: [],
  },
  tandem_router_endpoints: { type: "gauge", help: "Endpoints known, by role and state.", labels: ["role", "state"] },
  tandem_router_held_requests: {
    type: "gauge",
    help: "Requests that wait for the first engine of a group that is started.",
    labels: [],
  },
  tandem_router_holds_total: {
    type: "counter",
    help: "Requests that waited so, by what became of them: released, expired, left (the client went away), ended (the router did), full (not held at all).",
    labels: ["outcome"],
  },
  tandem_router_hold_duration_seconds: {
    type: "histogram",
    help: "Time that requests waited so.",
    labels: [],
    buckets: [0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 600],
  },
  tandem_autoscaler_routers: {
    type: "gauge",
    help: "Replicas of the router whose statistics were read in the last round.",
    labels: [],
  },
  tandem_autoscaler_router_failures_total: {
    type: "counter",
    help: "Calls to replicas of the router that failed, by path.",
    labels: ["path"],
  },
  tandem_autoscaler_prometheus_failures_total: {
    type: "counter",
    help: "Queries of autoscaler.prometheus that failed, or found no value.",
    labels: [],
  },
  tandem_router_replicas: {
    type: "gauge",
    help: "Replicas of the router that are heard of, itself included.",
    labels: [],
  },
  tandem_router_replica_messages_total: { type: "counter", help: "Messages of other replicas.", labels: [] },
  tandem_router_replica_refused_total: {
    type: "counter",
    help: "Messages that were not heard, by reason: token, stranger (not an address of router.replicas.peers), form, tooMany.",
    labels: ["reason"],
  },
  tandem_router_replica_picks_total: {
    type: "counter",
    help: "Picks of other replicas, by outcome: recorded in the prefix index, or unknown where the endpoint is; one of more than 4096 blocks counts as several.",
    labels: ["outcome"],
  },
  tandem_router_replica_picks_lost_total: {
    type: "counter",
    help: "Picks that a replica was not told of: it was away for too long.",
    labels: [],
  },
  tandem_router_replica_failures_total: { type: "counter", help: "Replicas that could not be told.", labels: [] },
  tandem_router_index_full_total: {
    type: "counter",
    help: "Blocks that found no place in the prefix index, or gave theirs early: raise router.index.maxBytes.",
    labels: [],
  },
  tandem_router_index_blocks: { type: "gauge", help: "Blocks in the prefix index.", labels: [] },
  tandem_router_event_streams: {
    type: "gauge",
    help: "Streams of KV events, one for each data-parallel rank of an engine, by state: live, replaying, blind.",
    labels: ["state"],
  },
  tandem_router_event_blocks_total: {
    type: "counter",
    help: "Blocks that engines told of, kind stored or removed, and kind cleared: caches that were cleared.",
    labels: ["kind"],
  },
  tandem_router_event_ignored_total: {
    type: "counter",
    help: "Events, or blocks of them, that are not believed, by reason: group (no full attention), masked (tokens of left-out blocks), parent or block (not known here), size, memory, full (raise router.events.maxBytes), unknown (kind of event), strange (no event at all).",
    labels: ["reason"],
  },
  tandem_router_event_breaks_total: {
    type: "counter",
    help: "Breaks in streams of KV events, by kind: gaps, lost (history that cannot be had again), restarts, duplicates, garbage.",
    labels: ["kind"],
  },
  tandem_router_event_index_blocks: { type: "gauge", help: "Blocks in the table of KV events.", labels: [] },
  tandem_router_event_index_bytes: {
    type: "gauge",
    help: "Bytes beside that table, in which the engines' own names of blocks are kept.",
    labels: [],
  },
  tandem_thread_restarts_total: {
    type: "counter",
    help: "Threads beside the serving one that failed and were started again, by what happened: crashed or hung.",
    labels: ["thread", "cause"],
  },
  tandem_scrape_failures_total: { type: "counter", help: "Scrapes of engine metrics that failed.", labels: [] },
} as const satisfies Readonly<Record<string, MetricSpec>>;

export type MetricName = keyof typeof METRICS;
