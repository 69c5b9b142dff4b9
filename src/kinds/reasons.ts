/**
 * The reason catalogue: every stable code a Verdict may carry, with what it means.
 *
 * `docs/reference/reasons.md` is generated from this table. A code, once released, keeps its meaning.
 */
export const REASONS = {
  // admission: the user's contract
  NotOurs: "The object carries no tandem.sh/model label, or its mode is off.",
  ModeRoute: "Mode route or observe: discovered, nothing injected.",
  Decoded: "The contract was read; the message says what it came to.",
  InvalidLabel: "A tandem.sh/ label has a value outside the accepted ones.",
  InvalidAnnotation: "A tandem.sh/ annotation has a value outside the accepted ones.",
  PolicyForbids: "The operator's policy does not let this namespace set the key or ask for the value.",
  NamespaceNotOptedIn: "The namespace lacks the label of admission.optIn, so nothing is done there.",
  StatusForeign: "A status.tandem.sh/ annotation that Tandem did not write; it is not believed.",
  UnknownKey: "A tandem.sh/ key that Tandem does not know; the nearest known key is named.",
  GroupDisagrees:
    "A group- or cell-scoped key, or a fact both sides must share, differs between workloads of the group.",
  StageSkipped: "The stage is named in tandem.sh/skip.",
  StageNothingToDo: "The stage found everything as wanted, or has nothing to do here.",
  PlanReplayed: "The template is unchanged, so the recorded plan was applied again.",
  Stripped: "What Tandem injected was taken out again.",
  GangUnsatisfiable:
    "The gang is larger than what can stand together: too few replicas, pods made one by one, or a rolling update.",
  GangUnderKueue: "A gang is asked for under Kueue, which admits pods one by one.",
  DeadlineShort: "progressDeadlineSeconds is shorter than the time a pod may take until it is ready.",
  PartnerMissing: "The group has workloads of one role only.",
  ServedModelClaimed: "Another service answers to the same model name.",
  AutoscalerContested: "An HPA or a ScaledObject scales the workload against tandem.sh/gang or autoscaling.tandem.sh.",
  // admission: stages
  SchedulingInjected: "Scheduler name, labels and mode facts were written to the template.",
  SchedulerContradict: "The pod template names another scheduler than tandem.sh/scheduler; the template's stands.",
  GangInjected: "The workload joins the PodGroup of its cell.",
  TopologyInjected: "Affinities keep the cell close together.",
  TopologyUnknown: "tandem.sh/topology-tier names a tier that no HyperNode has; no affinity is written.",
  DevicesInjected: "Device requests and what belongs to them were added.",
  DevicesContradict: "The device request contradicts the accelerator profile or the engine's parallel sizes.",
  EngineInjected: "Engine settings were added.",
  EngineOpaque: "The engine's command is a script; settings are given as environment only.",
  EngineContradict: "The engine's arguments contradict a declaration.",
  KvInjected: "The KV transfer configuration was added.",
  KvContradict: "The KV transfer arguments contradict the role or the connector.",
  KvEngineIdShared: "A literal engine_id would be shared by several replicas.",
  KvPortReserved: "The KV port lies in a range that the transfer library uses itself.",
  MutationMissed: "The object reached validation without what admission injects.",
  AnnotationsFull:
    "With Tandem's annotations the object would exceed what the API server stores, so nothing is injected.",
  PatchUnsound: "The patch did not give the planned object and was not sent.",
  RequestMalformed: "The request could not be decoded.",
  // placement
  NodeFits: "The node fits; the number is its distance to the group.",
  NodeUnknown: "The node is not in the store.",
  NodeLacksDevices: "The node has fewer free devices than the pod asks for.",
  NodeOutsideDomain: "The node lies outside the domain the cell is confined to.",
  NodeUnschedulable: "The node is cordoned, not ready, or carries a taint that is not tolerated.",
  NodeNotSelected: "The node does not match the pod's node selector or required affinity.",
  NoDomainFits: "No domain of the allowed tier has room for the whole gang.",
  Placed: "The pod was given this node.",
  ClusterNotSynced: "The store has not been filled yet.",
  HyperNodeInvalid:
    "A HyperNode cannot be read in part: bad pattern or selector, or a member that is not of a lower tier.",
  HyperNodeDangling: "A HyperNode names a node or a HyperNode that does not exist.",
  HyperNodeOverlaps: "A node or a HyperNode is claimed by two HyperNodes; the first of the closest tier has it.",
  GangIncomplete:
    "The pod waits: pods of the minimum viable set of its cell do not exist yet, or a scheduling gate holds it.",
  // controller
  PodGroupApplied: "The PodGroup of the cell was written.",
  PodGroupAbsent: "Volcano's PodGroup API is not installed; the gang is not enforced by Volcano.",
  SizesPublished: "The ConfigMap with both roles' parallel sizes was written.",
  PodGroupRemoved: "The cell is gone, or holds no gang together, and so is its PodGroup.",
  SizesWaiting: "The partner role, or a role's parallel sizes, are not known yet.",
  SizesFixed: "Parallel sizes differ from those published for this tandem.sh/compat; they need a new value.",
  PodLabelled: "Labels were written to a live pod.",
  PodUnlabelled: "Labels that the controller had written to a live pod were taken off again.",
  WorkloadUnreadable: "A stored workload breaks its contract, so the controller leaves it alone.",
  WebhooksAbsent: "No webhook of ours reaches the namespace, so the controller leaves it alone.",
  CertificatesIssued: "New certificates were made, or their authority was published.",
  CertificatesForeign: "The Secret with the certificates is not the controller's, and is left alone.",
  Released: "Tandem let go of the object.",
  // router
  Picked: "The endpoint had the lowest cost.",
  LocalPrefill: "Prefill runs on the decode endpoint: remote prefill would cost more, or is not to be had.",
  NoEndpoint: "No endpoint that is ready, of the right role and compatible serves this model.",
  ModelUnknown: "No endpoint serves the requested model.",
  BodyInvalid: "The request body is not what the API wants.",
  BodyTooLarge: "The request body exceeds the limit.",
  MediaTypeUnsupported: "The request body has a media type or encoding that is not accepted.",
  Saturated: "Every endpoint, or the router, is at its limit.",
  PrefillRefused: "A prefill endpoint refused the connection; the next was tried.",
  PrefillLost: "A prefill endpoint was lost after the request was sent.",
  PrefillFailed: "The prefill leg failed and may not be tried again.",
} as const satisfies Readonly<Record<string, string>>;

export type Reason = keyof typeof REASONS;
