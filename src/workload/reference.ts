/** The reference page of labels and annotations, written from the key table. `npm run docs` writes it; a test compares. */
import {
  AUTOSCALING_PREFIX,
  AUTOSCALING_STATUS,
  GATE,
  LABEL,
  POD_DELETION_COST,
  RESERVED,
  STATUS,
  VOLCANO,
} from "../kinds/names.ts";
import { ALL_KEYS, type Key } from "./keys.ts";

const cell = (text: string): string => text.replaceAll("|", "\\|");

const MANAGE_ONLY = " Not read in mode `route`.";

const row = (key: Key<unknown>): string =>
  `| \`${key.key}\` | ${cell(key.accepts)} | ${cell(key.fallback)} | ${key.scope} | ${cell(key.meaning)}${key.manageOnly === true ? MANAGE_ONLY : ""} |`;

const isScaling = ({ key }: Key<unknown>): boolean => key.startsWith(AUTOSCALING_PREFIX);

const table = (keys: readonly Key<unknown>[]): string[] => [
  "| key | accepts | default | scope | meaning |",
  "|---|---|---|---|---|",
  ...keys.map(row),
];

const OURS: readonly (readonly [key: string, on: string, meaning: string])[] = [
  [STATUS.plan, "workload", "What admission injected, and over which template: the means to take it out again."],
  [STATUS.intent, "pod template", "The workload's annotations that pods need at creation; its presence says `manage`."],
  [STATUS.endpoint, "pod", "Connector, engine, sizes, port and model names, for discovery."],
  [STATUS.drain, "pod", "Gets no new work."],
  [STATUS.waiting, "pod", "Since when it waits for room, with the rest of its gang."],
  [STATUS.placement, "pod", "The node planned for it when its gate was lifted, and when; that room is taken."],
  [STATUS.follows, "pod", "Made without a gate, because its cell stood: the uid of the record that said so."],
  [STATUS.served, "pod", "Its instance over several pods has been ready once: from then on an unready member counts."],
  [
    STATUS.labels,
    "pod of a `route` workload, or one that admission missed",
    "Labels that the controller wrote, so that they can be taken off again.",
  ],
  [
    STATUS.domains,
    "pod of a model with prefill engines",
    "Topology domains of its node, the widest first: distances of KV transfers.",
  ],
  [STATUS.applied, "object made by the controller", "Hash of what was applied last."],
  [AUTOSCALING_STATUS.recommendation, "workload", "Instances that there would be in mode `auto`."],
  [AUTOSCALING_STATUS.lastScale, "workload", "Replicas that the autoscaler wrote last, and when."],
  [
    AUTOSCALING_STATUS.status,
    "workload",
    "JSON: mode, desired instances, why, and what holds them where something does; written only on change.",
  ],
  [AUTOSCALING_STATUS.draining, "pod", "Is to go when it is idle, and gets no new work."],
  [GATE.gang, "pod: a scheduling gate", "Held until there is room for the minimum viable set of its cell."],
  [GATE.rank, "pod: a scheduling gate", "Held until the pod of an instance over several pods has its place."],
  [STATUS.leader, "pod of such an instance", "Name of the leader; `TANDEM_DP_ADDRESS` refers to it."],
  [STATUS.rankStart, "pod of such an instance", "Its first data-parallel rank; `TANDEM_DP_RANK_START` refers to it."],
  [STATUS.nodeArgument, "pod of such an instance", "The argument that differs by node, as `--headless`."],
  [STATUS.addressArgument, "pod of such an instance", "The flag that its own address follows."],
  [
    STATUS.portBase,
    "pod of such an instance on the host's network, its Service",
    "First port of the instance's block.",
  ],
  [STATUS.members, "pod of such an instance, its Service", "uids of the pods, in the order of their ranks."],
  [
    POD_DELETION_COST,
    "pod of such an instance of a Deployment",
    "The same for all, so that they are scaled in together.",
  ],
  [LABEL.instance, "pod", "Engine instance over several pods; the pod's name where absent."],
  [LABEL.nodeRank, "pod", "Rank of the pod within its instance; 0 where absent."],
  [LABEL.entry, "pod", "`true`: may receive client requests."],
  [VOLCANO.groupName, "pod template, under Volcano", "PodGroup of the cell."],
  [VOLCANO.taskSpec, "pod template, under Volcano", "Role, for the PodGroup; as annotation and as label."],
  [VOLCANO.queueName, "pod template, under Volcano with gang off", "Queue of the PodGroups that Volcano makes."],
];

export function labelsReference(): string {
  return [
    "# Labels and annotations",
    "",
    "Written from the table in `src/workload/keys.ts` by `npm run docs`. An invalid value is denied with the key and what it accepts; an unknown `tandem.sh/` key is warned about. The webhooks see only objects that carry the label `tandem.sh/model`: where that key itself is misspelt or missing, `tandem admit`, which reads files, is who tells.",
    "",
    "## Labels, on the workload; Tandem copies them to its pod template",
    "",
    ...table(ALL_KEYS.filter(({ where }) => where === "label")),
    "",
    "## Annotations, on the workload; the same keys on its Namespace are defaults",
    "",
    ...table(ALL_KEYS.filter((key) => key.where === "annotation" && !isScaling(key))),
    "",
    "## Autoscaling: annotations, on the workload; the same keys on its Namespace are defaults",
    "",
    "Replicas are those of the workload: with `tandem.sh/nodes-per-instance` above 1 they are given in its multiples. A key of scope group may stand on any workload of the group. [Autoscaling](../autoscaling.md) shows a worked pair.",
    "",
    ...table(ALL_KEYS.filter(isScaling)),
    "",
    "## Reserved",
    "",
    `Keys with the prefix ${RESERVED.map((prefix) => `\`${prefix}\``).join(", ")} are accepted and mean nothing yet.`,
    "",
    "## Written by Tandem",
    "",
    "A `status.tandem.sh/` annotation that anybody else writes is warned about and not believed; on Pods it is taken off at their creation, and refused afterwards.",
    "",
    "| key | on | meaning |",
    "|---|---|---|",
    ...OURS.map(([key, on, meaning]) => `| \`${key}\` | ${on} | ${meaning} |`),
    "",
  ].join("\n");
}
