/** What gangs are placed by: the topology, and gates that somebody lifts. */
import { annotationOf, keyOf, type HyperNode, type Pod } from "../../kinds/kube.ts";
import { ANNOTATION, PREFIX, STATUS } from "../../kinds/names.ts";
import { denied, warned, type Verdict } from "../../kinds/verdict.ts";
import { topologySource, topologyTree, type TopologyTree } from "../../topology/tree.ts";
import { isBound } from "../../gang/devices.ts";
import { good, idle, listed, worst, type Check, type Complaint } from "../check.ts";
import { itemsOf, type Facts } from "../facts.ts";
import { ourWorkloads } from "./volcano.ts";

function treeOf({ objects, config }: Facts): TopologyTree {
  const hyperNodes = itemsOf(objects.HyperNode) as readonly HyperNode[];
  return topologyTree(itemsOf(objects.Node), topologySource(config.topology, hyperNodes));
}

/** Without a tree every node is as close as any other, and a required tier cannot be kept. */
function present(facts: Facts): Verdict {
  if (facts.config.topology.source === "none") return idle("topology.source is none");
  const { HyperNode: hyperNodes } = facts.objects;
  if (facts.config.topology.source === "hypernodes" && !hyperNodes.known) return idle(hyperNodes.why);
  const tree = treeOf(facts);
  if (tree.tiers.length > 0) return coverage(tree);
  const required = ourWorkloads(facts).filter((workload) => annotationOf(workload, ANNOTATION.topology) === "required");
  const what =
    facts.config.topology.source === "labels"
      ? "no node carries a label of topology.levels"
      : "there are no HyperNodes";
  if (required.length === 0) return warned("HyperNodesAbsent", what);
  return denied("HyperNodesAbsent", `${what}, and ${listed(required.map(keyOf))} requires a topology`);
}

function coverage(tree: TopologyTree): Verdict {
  const outside = tree.root.nodes.filter((node) => tree.leafOf(node) === tree.root);
  if (outside.length > 0)
    return warned(
      "HyperNodesAbsent",
      `${outside.length} of ${tree.root.nodes.length} nodes lie in no domain: ${listed(outside)}`,
    );
  return good(`${tree.root.nodes.length} nodes in ${tree.tiers.length} tiers`);
}

function sound(facts: Facts): Verdict {
  const complaints = treeOf(facts).verdicts.map(({ reason, message }): Complaint => ({ reason, message }));
  return worst(complaints, "every HyperNode was read whole");
}

/** Between two passes of the controller, and until a rollout has made the last pod, a gate is nothing to worry about. */
const HELD_TOO_LONG_MS = 600_000;

/** A gang without room waits by right, and says so; any other gate of ours should have been lifted. */
function held(facts: Facts): Verdict {
  const pods = (itemsOf(facts.objects.Pod) as readonly Pod[]).filter((pod) => isHeld(pod, facts.now));
  const complaints = pods.map((pod): Complaint => {
    const since = annotationOf(pod, STATUS.waiting);
    return since === undefined
      ? {
          reason: "PodsHeld",
          message: `${keyOf(pod)} is held by ${gatesOf(pod).join(", ")} since ${String(pod.metadata.creationTimestamp)}`,
        }
      : { reason: "PodsHeld", message: `${keyOf(pod)} waits for room since ${since}`, mild: true };
  });
  return worst(complaints, "no pod is held by a gate of Tandem for more than 10 minutes");
}

const gatesOf = ({ spec }: Pod): readonly string[] =>
  (spec.schedulingGates ?? []).map(({ name }) => name).filter((name) => name.startsWith(PREFIX));

const isHeld = (pod: Pod, now: number): boolean =>
  !isBound(pod) && gatesOf(pod).length > 0 && now - Date.parse(pod.metadata.creationTimestamp ?? "") > HELD_TOO_LONG_MS;

export const PLACEMENT_CHECKS: readonly Check[] = [
  { name: "topology", needs: ["Node"], judge: present },
  { name: "hypernodes", needs: ["HyperNode", "Node"], judge: sound },
  { name: "held-pods", needs: ["Pod"], judge: held },
];
