/** Volcano: plugins that are on, queues that are open, PodGroups that mean what they say, one scheduler for a gang. */
import {
  annotationOf,
  isObject,
  keyOf,
  labelOf,
  type JsonObject,
  type KubeObject,
  type Pod,
  type Workload,
} from "../../kinds/kube.ts";
import { ANNOTATION, LABEL, VOLCANO } from "../../kinds/names.ts";
import { denied, type Verdict } from "../../kinds/verdict.ts";
import { cellName, podCell } from "../../gang/members.ts";
import { cellKey } from "../../workload/cell.ts";
import { templateOf } from "../../workload/template.ts";
import { good, idle, listed, worst, type Check, type Complaint } from "../check.ts";
import { itemsOf, type Facts } from "../facts.ts";

const textOr = (value: unknown, otherwise: string): string =>
  typeof value === "string" && value !== "" ? value : otherwise;

const specOf = (object: KubeObject): JsonObject => (isObject(object["spec"]) ? object["spec"] : {});

/** Workloads that carry Tandem's label, on themselves or on their pods. */
export const ourWorkloads = (facts: Facts): readonly Workload[] =>
  [...itemsOf(facts.objects.Deployment), ...itemsOf(facts.objects.StatefulSet)].filter(
    (object) =>
      labelOf(object, LABEL.model) !== undefined ||
      labelOf(templateOf(object)?.template ?? {}, LABEL.model) !== undefined,
  ) as Workload[];

/** Without `gang` nothing is held together; without the other a hard topology is as good as none. */
function plugins(facts: Facts): Verdict {
  const wantsTopology = itemsOf(facts.objects.PodGroup).filter((group) => isObject(specOf(group)["networkTopology"]));
  const complaints = itemsOf(facts.volcano).flatMap(({ source, plugins: on }): Complaint[] => [
    ...(on.includes("gang") ? [] : [off(`${source} does not enable gang`)]),
    ...(on.includes("network-topology-aware")
      ? []
      : [
          {
            ...off(`${source} does not enable network-topology-aware${demand(wantsTopology)}`),
            mild: wantsTopology.length === 0,
          },
        ]),
  ]);
  return worst(
    complaints,
    `gang and network-topology-aware are enabled in ${listed(itemsOf(facts.volcano).map(({ source }) => source))}`,
  );
}

const off = (message: string): Complaint => ({ reason: "VolcanoPluginOff", message });

const demand = (groups: readonly KubeObject[]): string =>
  groups.length === 0 ? "" : `, which PodGroup ${listed(groups.map(keyOf))} relies on`;

/** Queues by name, and who asks for them. */
function asked(facts: Facts): ReadonlyMap<string, readonly string[]> {
  const groups = itemsOf(facts.objects.PodGroup).map(
    (group) => [textOr(specOf(group)["queue"], "default"), `PodGroup ${keyOf(group)}`] as const,
  );
  const workloads = ourWorkloads(facts).flatMap((workload) => {
    const queue = annotationOf(workload, ANNOTATION.queue);
    return queue === undefined ? [] : [[queue, `${workload.kind} ${keyOf(workload)}`] as const];
  });
  const byQueue = Map.groupBy([...groups, ...workloads], ([queue]) => queue);
  return new Map([...byQueue].map(([queue, askers]) => [queue, askers.map(([, asker]) => asker)]));
}

function queues(facts: Facts): Verdict {
  const wanted = asked(facts);
  if (wanted.size === 0) return idle("nobody asks for a queue");
  const known = new Map(itemsOf(facts.objects.Queue).map((queue) => [queue.metadata.name ?? "", queue]));
  const complaints = [...wanted].flatMap(([name, askers]) => {
    const trouble = queueTrouble(known.get(name));
    return trouble === undefined
      ? []
      : [{ reason: "QueueClosed" as const, message: `queue ${name} ${trouble}, asked for by ${listed(askers)}` }];
  });
  return worst(complaints, `open: ${listed([...wanted.keys()])}`);
}

/** A queue whose status nobody wrote yet counts as open: Volcano's controller opens it. */
function queueTrouble(queue: KubeObject | undefined): string | undefined {
  if (queue === undefined) return "does not exist";
  const status = isObject(queue["status"]) ? queue["status"] : {};
  const state = textOr(status["state"], "Open");
  return state === "Open" ? undefined : `is ${state}`;
}

/** Volcano reads minTaskMember only where minMember is at least its sum (pkg/scheduler/api/job_info.go). */
function sums(facts: Facts): Verdict {
  const complaints = itemsOf(facts.objects.PodGroup).flatMap((group): Complaint[] => {
    const { minMember, minTaskMember } = specOf(group);
    const sum = Object.values(isObject(minTaskMember) ? minTaskMember : {}).reduce<number>(
      (all, one) => all + Number(one),
      0,
    );
    if (sum <= Number(minMember ?? 0)) return [];
    return [
      {
        reason: "PodGroupSums",
        message: `PodGroup ${keyOf(group)}: minTaskMember sums to ${sum}, minMember is ${String(minMember)}`,
      },
    ];
  });
  return worst(complaints, "minTaskMember counts in every PodGroup");
}

/** Pods of one cell under two schedulers: neither sees the other half of the gang. */
function oneScheduler(facts: Facts): Verdict {
  const pods = [...(itemsOf(facts.objects.Pod) as readonly Pod[]), ...ourWorkloads(facts).flatMap(templatePod)];
  const cells = Map.groupBy(pods, (pod) => {
    const cell = podCell(pod);
    return cell === undefined ? "" : cellKey(cell);
  });
  cells.delete("");
  if (cells.size === 0) return idle("there are no pods or workloads of Tandem");
  const complaints = [...cells.values()].flatMap((members): Complaint[] => {
    const names = [...new Set(members.map(({ spec }) => spec.schedulerName ?? "default-scheduler"))].sort();
    const [first] = members;
    if (names.length < 2 || first === undefined) return [];
    const cell = `${first.metadata.namespace ?? "default"}/${cellName(podCell(first))}`;
    return [{ reason: "SchedulersDiffer", message: `${cell} is left to ${names.join(" and ")}` }];
  });
  return worst(complaints, "each cell is left to one scheduler");
}

/** The pods a workload will have; its own labels stand in for those that admission would copy. */
function templatePod(workload: Workload): Pod[] {
  const template = templateOf(workload)?.template;
  if (template === undefined) return [];
  const { namespace, labels } = workload.metadata;
  const own = Object.fromEntries(Object.entries(labels ?? {}).filter(([key]) => key.startsWith("tandem.sh/")));
  const metadata = {
    ...(namespace === undefined ? {} : { namespace }),
    labels: { ...own, ...template.metadata?.labels },
  };
  return [{ apiVersion: "v1", kind: "Pod", metadata, spec: template.spec }];
}

/** Volcano's switch for several schedulers that share the pods by a hash of their owners' names (pkg/util/sharding). */
const SHARDING = "MULTI_SCHEDULER_ENABLE";

function sharded(facts: Facts): Verdict {
  const deployments = [...itemsOf(facts.objects.Deployment), ...itemsOf(facts.objects.StatefulSet)];
  const found = deployments.filter((workload) =>
    (templateOf(workload)?.template.spec.containers ?? []).some(({ env }) =>
      (env ?? []).some(({ name, value }) => name === SHARDING && value === "true"),
    ),
  );
  if (found.length > 0)
    return denied(
      "SchedulerSharded",
      `${SHARDING} is true in ${listed(found.map((workload) => `${workload.kind} ${keyOf(workload)}`))}`,
    );
  const schedulers = deployments.filter(isVolcanoScheduler);
  const names = schedulers.map((workload) => `${workload.kind} ${keyOf(workload)}`);
  if (schedulers.length > 1)
    return denied("SchedulerSharded", `several schedulers answer to ${VOLCANO.schedulerName}: ${listed(names)}`);
  return good(
    names.length === 0 ? "no scheduler of Volcano runs as a workload" : `one scheduler of Volcano: ${listed(names)}`,
  );
}

/** By the program that its container starts, or by its image: `vc-scheduler`. Its name may have been changed by a flag. */
const isVolcanoScheduler = (workload: KubeObject): boolean =>
  (templateOf(workload)?.template.spec.containers ?? []).some(({ image = "", command = [], args = [] }) => {
    const words = [...command, ...args].join(" ");
    const named = /--scheduler-name[= ](\S+)/.exec(words)?.[1] ?? VOLCANO.schedulerName;
    return /\bvc-scheduler\b/.test(`${image} ${words}`) && named.split(",").includes(VOLCANO.schedulerName);
  });

export const VOLCANO_CHECKS: readonly Check[] = [
  { name: "volcano-plugins", needs: ["volcano"], judge: plugins },
  { name: "queue", needs: ["Queue"], judge: queues },
  { name: "podgroup-sums", needs: ["PodGroup"], judge: sums },
  { name: "scheduler-name", needs: [], judge: oneScheduler },
  { name: "multi-scheduler", needs: ["Deployment"], judge: sharded },
];
