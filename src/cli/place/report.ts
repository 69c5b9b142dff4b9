/** What `tandem place` found out: as a table with the tree below it, as JSON, and what is to be complained of. */
import { cellName } from "../../gang/members.ts";
import type { Placement, PlacementPlan } from "../../gang/place.ts";
import { keyOf, type Pod } from "../../kinds/kube.ts";
import { hintOf } from "../../kinds/hints.ts";
import { isDenied, isWarned, type Verdict } from "../../kinds/verdict.ts";
import { topologyPicture } from "../../topology/picture.ts";
import type { Admitted } from "../../simulator/cluster.ts";
import type { PlaceResult } from "../place.ts";
import { columns } from "../table.ts";
import { countText, deviceCounts } from "./devices.ts";

const reasonOf = ({ reason, message }: Verdict): string => `${reason}: ${message}`;

interface PlaceJson {
  readonly pods: readonly Readonly<Record<"name" | "namespace" | "node" | "domain" | "tier" | "reason", unknown>>[];
  readonly gangs: readonly Readonly<Record<"group" | "namespace" | "placed" | "reason", unknown>>[];
}

/** The stable form of `-o json`. `domain` is the smallest that holds the pod's whole cell. */
export const placeJson = ({ plan }: PlaceResult): PlaceJson => ({
  pods: plan.pods.map(({ pod, node, domain, tier, verdict }) => ({
    name: pod.metadata.name ?? "",
    namespace: pod.metadata.namespace ?? "default",
    ...{ node, domain, tier },
    reason: reasonOf(verdict),
  })),
  gangs: plan.gangs.map((gang) => ({
    group: cellName(gang),
    namespace: gang.key.split("/")[0] ?? "",
    placed: gang.placed,
    reason: reasonOf(gang.verdict),
  })),
});

export function placeTable(result: PlaceResult): string {
  const { plan, tree, bound, nodes } = result;
  const standing = [...bound, ...plan.pods.flatMap(withNode)];
  // Pods without a node count for what is asked for, and hold nothing.
  const counts = deviceCounts(nodes, [
    ...standing,
    ...plan.pods.filter(({ node }) => node === null).map(({ pod }) => pod),
  ]);
  return [
    columns([["POD", "NODE", "DOMAIN", "TIER", "REASON"], ...plan.pods.map((placement) => rowOf(placement, plan))]),
    ...plan.gangs.map(
      (gang) => `gang ${cellName(gang)}: ${gang.placed ? "placed" : "not placed"}. ${gang.verdict.message}`,
    ),
    ...refusals(plan.pods),
    "",
    topologyPicture(tree, standing, (names) => countText(counts(names))),
    "",
  ].join("\n");
}

const rowOf = ({ pod, node, domain, tier, verdict }: Placement, plan: PlacementPlan): readonly string[] => [
  keyOf(pod),
  node ?? "-",
  domain ?? "-",
  tier === null ? "-" : String(tier),
  shortReason(verdict, plan),
];

/** What is said of the whole gang stands once, below the table. */
function shortReason(verdict: Verdict, { gangs }: PlacementPlan): string {
  const { reason, message } = verdict;
  const gang = gangs.find(({ verdict }) => message.endsWith(verdict.message));
  if (gang === undefined) return reasonOf(verdict);
  return `${reason}: ${message.slice(0, -gang.verdict.message.length)}see gang ${cellName(gang)} below`;
}

const withNode = ({ pod, node }: Placement): Pod[] =>
  node === null ? [] : [{ ...pod, spec: { ...pod.spec, nodeName: node } }];

/** For pods without a node: why nodes were refused, each reason once with how often it was met. */
function refusals(placements: readonly Placement[]): readonly string[] {
  const texts = placements
    .filter(({ node, refused }) => node === null && refused.length > 0)
    .map(({ refused }) => {
      const groups = [...Map.groupBy(refused, ({ reason }) => reason)].sort(([, a], [, b]) => b.length - a.length);
      return groups.map(([reason, all]) => `${all.length} ${reason} (${all[0]?.message ?? ""})`).join(", ");
    });
  const counted = [...Map.groupBy(texts, (text) => text)];
  return counted.map(([text, pods]) => `nodes refused to ${pods.length} pod${pods.length === 1 ? "" : "s"}: ${text}`);
}

/** For stderr: what is wrong with the topology, what admission refused or warns of, and what to do about pods without a node. */
export function complaints({ tree, refused, warned, plan }: PlaceResult): string {
  const reasons = new Set(plan.pods.filter(({ node }) => node === null).map(({ verdict }) => verdict.reason));
  const hints = [...reasons].flatMap((reason) => hintOf(reason) ?? []);
  const lines = [
    ...tree.verdicts.map((verdict) => `warning: ${reasonOf(verdict)}`),
    ...warned.flatMap((admitted) => said(admitted, isWarned).map((line) => `warning: ${line}`)),
    ...refused.flatMap((admitted) => said(admitted, isDenied)),
    ...hints.map((hint) => `hint: ${hint}`),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

const said = ({ before, verdicts }: Admitted, which: (verdict: Verdict) => boolean): readonly string[] =>
  verdicts.filter(which).map((verdict) => `${before.kind} ${keyOf(before)}: ${reasonOf(verdict)}`);
