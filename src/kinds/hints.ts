/** What to do about a reason: for every code that a person can act on. Printed by commands and in the reference. */
import type { Reason } from "./reasons.ts";

export const HINTS: Readonly<Partial<Record<Reason, string>>> = {
  // admission: the user's contract
  NotOurs: "Label the workload with tandem.sh/model and tandem.sh/role to have it admitted.",
  ModeRoute: "Set tandem.sh/mode to manage to have settings injected; that rolls the workload once.",
  InvalidLabel: "Give the label one of the accepted values; docs/reference/labels.md lists them.",
  InvalidAnnotation: "Give the annotation one of the accepted values; docs/reference/labels.md lists them.",
  PolicyForbids: "Use what the message allows, or ask the operator to widen admission.policy for the namespace.",
  NamespaceNotOptedIn: "Label the Namespace as admission.optIn says, then apply the workload again.",
  StatusForeign: "Take the annotation out of the manifest; Tandem writes its own.",
  UnknownKey: "Correct the key, or take it out.",
  KeyMisplaced: "Put the key on the workload itself, which needs the labels tandem.sh/model and tandem.sh/role.",
  KeyUnused: "Set tandem.sh/mode to manage, which rolls the workload once, or take the keys out.",
  GroupDisagrees: "Make the named key or setting equal on all workloads of the group, or give them different groups.",
  GangUnsatisfiable:
    "Lower the gang to the fewest instances that serve; make pods all at once (podManagementPolicy Parallel, startupPolicy LeaderCreated); raise maxSurge. Where several workloads share a role, set tandem.sh/gang on the last of them or on the Namespace.",
  GangUnderKueue: "Set tandem.sh/gang to off, or take the workload out of Kueue's queue.",
  DeadlineShort: "Raise spec.progressDeadlineSeconds to what the message says, or leave it out.",
  PartnerMissing: "Create the other role with the same tandem.sh/model and tandem.sh/group, or use role both.",
  ServedModelClaimed:
    "Give each service names of its own, or bind names to namespaces by servedModels in admission.policy.",
  AutoscalerContested:
    "Delete the other autoscaler, or turn autoscaling.tandem.sh/mode off; KEDA may ask Tandem with autoscaling.tandem.sh/actuator keda; keep the minimum at the gang.",
  ScalingContradict: "Give the numbers that the message names, or take one of the two keys out.",
  ReplicasKept:
    "Use kubectl scale, or set autoscaling.tandem.sh/force-replicas to true; leave replicas out of the manifest to be told no more.",
  StageSkipped: "Take the stage out of tandem.sh/skip to have it run.",
  PlanReplayed: "Set tandem.sh/plan to latest to take on what a newer Tandem would inject; that rolls the workload.",
  SchedulerContradict: "Take schedulerName out of the template, or set tandem.sh/scheduler to keep.",
  TopologyUnknown: "Name a tier that the HyperNodes have, or set tandem.sh/topology to preferred or off.",
  DevicesContradict: "Make request, tandem.sh/accelerator and parallel sizes agree, or leave the request out.",
  DevicesTooMany:
    "Ask for fewer. Where larger nodes are made on demand, as in a pool scaled to zero, select that pool by nodeSelector or required node affinity; or set tandem.sh/skip to devices and write the request yourself.",
  EngineOpaque:
    'Let the script pass on what the message names, or all of it: eval "exec vllm serve MODEL $TANDEM_ENGINE_ARGS".',
  EngineArgsUnevaluated: "Start the engine by eval, as the message says: the variable holds shell text.",
  EngineContradict: "Make the argument and the declaration equal, or leave the declaration out.",
  KvContradict:
    "Correct what the message names, or leave the transfer configuration out: Tandem writes the one of role and connector.",
  KvNotHandedOver:
    "Use role both, or start the engines as whole ones with mode route; or choose a connector that is handed over: nixl on vLLM, mooncake on vLLM-Ascend.",
  KvEngineIdShared: "Leave engine_id out, or make it of the pod's uid.",
  KvPortReserved: "Choose a kv_port outside the range that the message names.",
  MutationMissed: "Apply the object again when the webhook answers; look for another webhook that undoes the change.",
  AnnotationsFull: "Take other annotations off: the API server stores 256 KiB of them for an object.",
  PatchLarge: "Report it with the object: what Tandem adds is far smaller.",
  PatchUnsound: "Report it with the object; nothing was injected.",
  RequestMalformed: "Correct the object: a pod template with named containers is needed.",
  // placement
  NodeUnknown: "Wait for the node to be seen, or look whether Tandem may list nodes.",
  NodeLacksDevices: "Free devices, add nodes, or ask for fewer.",
  NodeOutsideDomain: "Widen tandem.sh/topology-tier, or set tandem.sh/topology to preferred.",
  NodeUnschedulable: "Uncordon the node, or tolerate its taint.",
  NodeNotSelected: "Change the pod's nodeSelector or affinity, or label the node.",
  NoDomainFits: "Free what the message names within one domain, lower the gang, or widen tandem.sh/topology-tier.",
  HyperNodeInvalid: "Correct the HyperNode; the message names the member.",
  HyperNodeDangling: "Take the member out, or create what it names.",
  HyperNodeOverlaps: "Let one HyperNode alone claim the member.",
  GangIncomplete: "Create the missing workloads of the cell, or raise their replicas.",
  // controller
  PodGroupAbsent: "Install Volcano's PodGroup API, or set tandem.sh/scheduler to keep.",
  SizesWaiting: "Create the partner role, or declare tandem.sh/parallelism where a script hides the sizes.",
  SizesFixed: "Set a new tandem.sh/compat on both roles.",
  PodMissed: "Delete the pod when the webhook answers again: its replacement gets everything.",
  WorkloadUnreadable: "Correct the workload as the message says; the webhook would have denied it.",
  WebhooksAbsent: "Install the webhooks, or set controller.webhookConfiguration to what they are called.",
  CertificatesForeign: "Delete the Secret to have a new one made, or name another by admission.certificates.secret.",
  // doctor
  ClusterUnreachable: "Check the kubeconfig, and what its user may read.",
  WebhookUntrusted: "See that the controller runs: it writes caBundle; with cert-manager, that its annotation stands.",
  WebhookSilent: "Look at the pods behind the Service (app.kubernetes.io/component=admission).",
  CertificateUnusable:
    "See that the controller runs and may write the Secret; delete a broken one to have it made anew.",
  CertificateOverdue: "See that the controller runs and holds its Lease; it renews after two thirds of a life.",
  VolcanoPluginOff: "Add the plugin to a tier of volcano-scheduler.conf (- name: network-topology-aware).",
  QueueClosed: "Create or open the Queue, or name another by tandem.sh/queue.",
  PodGroupSums: "Raise minMember to the sum of minTaskMember.",
  SchedulersDiffer: "Set tandem.sh/scheduler equal on all workloads of the group, or take schedulerName out.",
  SchedulerSharded: "Run one scheduler of Volcano, without MULTI_SCHEDULER_ENABLE.",
  HyperNodesAbsent: "Create HyperNodes, have Volcano discover them, or set topology.source to labels with a preset.",
  PodsHeld:
    "Create what the cell lacks, free devices, and see that the controller runs; tandem release lifts every gate.",
  ExtenderVerbs:
    "Set filterVerb to filter, prioritizeVerb to prioritize and preemptVerb to preempt; bindVerb to bind only where extender.bind is on.",
  ExtenderWholeNodes: "Set nodeCacheCapable to true.",
  ExtenderIgnorable: "Set ignorable to false, and name the devices in managedResources so that no other pod waits.",
  ExtenderUnmanaged: "List every device resource in managedResources, with ignoredByScheduler false.",
  ExtenderWeight: "Set weight to 5 or more.",
  ExtenderSlow: "Set httpTimeout to 1s.",
  ExtenderUnverified:
    "Set enableHTTPS, and caData to the caBundle of the webhook configuration; restart the scheduler then.",
  ExtenderUnreachable: "Look at the pods behind the Service, at urlPrefix, and at network policies.",
  VolcanoVerbs: "Take the verbs from manifests/components/volcano-extender/volcano-scheduler.conf.",
  VolcanoSilence: "Set extender.ignorable to false, and take out allocateFuncVerb and jobEnqueueableVerb.",
  VolcanoOrder: "List extender after gang, in the same tier.",
  VolcanoVerbCostly:
    "Take out predicateVerb and prioritizeVerb; jobReadyVerb is of use only with device profiles that have podGroup: instance. Keep httpTimeout at 1s or less.",
  NodesSampled: "Set percentageOfNodesToScore to 100.",
  // router
  NoPartner:
    "Look at the group's prefill pods: one must be ready and compatible; several answers of one prompt, and its own probabilities, cannot be split.",
  HoldFull: "Raise router.hold, or keep an engine (autoscaling.tandem.sh/min-replicas).",
  HoldExpired: "Look at the group's pods: none got ready in time, or nobody started one.",
  NoEndpoint: "Look at the group's pods: none is ready, of the right role and compatible.",
  ModelUnknown: "Request a model that is served, or add the name by tandem.sh/served-model.",
  BodyInvalid: "Send what the OpenAI API of the path accepts.",
  BodyTooSlow: "Send the body faster, or raise router.bodyTimeoutMs.",
  BodyTooLarge: "Send a shorter prompt, or raise router.maxBodyBytes.",
  MediaTypeUnsupported: "Send application/json without content encoding.",
  Saturated: "Try again later, or add replicas.",
  PrefillLost: "Look at the logs of the prefill endpoint that the message names.",
  PrefillFailed: "Look at the logs of the prefill endpoint that the message names.",
};

export const hintOf = (reason: Reason): string | undefined => HINTS[reason];
