import t from "tap";
import { DeviceLedger, podDemand } from "../../../src/gang/devices.ts";
import { nodeVerdict } from "../../../src/gang/fit.ts";
import type { Node, NodeSelectorTerm, Pod } from "../../../src/kinds/kube.ts";
import { node, pod } from "../../support/placement.ts";

const judge = (asked: Pod, on: Node): string => {
  const ledger = new DeviceLedger();
  ledger.update([on], []);
  const { reason, message } = nodeVerdict(asked, on, podDemand(asked.spec), ledger);
  return reason === "NodeFits" ? reason : `${reason}: ${message}`;
};

const affinity = (...terms: NodeSelectorTerm[]): Partial<Pod["spec"]> => ({
  affinity: {
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } },
  },
});

type Operator = "In" | "NotIn" | "Exists" | "Gt";

const expression = (key: string, operator: Operator, ...values: string[]): NodeSelectorTerm => ({
  matchExpressions: [{ key, operator, values }],
});

t.test("whether a node carries a pod", (t) => {
  const taint = { key: "gpu", value: "yes", effect: "NoSchedule" };
  const rows: [title: string, Partial<Pod["spec"]>, Node, RegExp][] = [
    ["room", {}, node("n"), /^NodeFits$/],
    ["too few devices", {}, node("n", { gpus: 3 }), /^NodeLacksDevices: needs 4 nvidia.com\/gpu, 3 of 3 free$/],
    ["not ready", {}, node("n", { ready: false }), /^NodeUnschedulable: not ready/],
    ["cordoned", {}, node("n", { spec: { unschedulable: true } }), /^NodeUnschedulable: cordoned/],
    [
      "cordon tolerated",
      { tolerations: [{ key: "node.kubernetes.io/unschedulable", operator: "Exists" }] },
      node("n", { spec: { unschedulable: true } }),
      /^NodeFits$/,
    ],
    ["taint", {}, node("n", { spec: { taints: [taint] } }), /taint gpu=yes:NoSchedule is not tolerated/],
    ["equal", { tolerations: [{ key: "gpu", value: "yes" }] }, node("n", { spec: { taints: [taint] } }), /^NodeFits$/],
    ["other value", { tolerations: [{ key: "gpu", value: "no" }] }, node("n", { spec: { taints: [taint] } }), /taint/],
    ["everything", { tolerations: [{ operator: "Exists" }] }, node("n", { spec: { taints: [taint] } }), /^NodeFits$/],
    [
      "other effect",
      { tolerations: [{ key: "gpu", operator: "Exists", effect: "NoExecute" }] },
      node("n", { spec: { taints: [taint] } }),
      /taint/,
    ],
    ["only preferred", {}, node("n", { spec: { taints: [{ key: "x", effect: "PreferNoSchedule" }] } }), /^NodeFits$/],
    ["selector", { nodeSelector: { pool: "a" } }, node("n"), /^NodeNotSelected: .*pool=a/],
    ["selector holds", { nodeSelector: { pool: "a" } }, node("n", { labels: { pool: "a" } }), /^NodeFits$/],
    ["affinity", affinity(expression("pool", "In", "a", "b")), node("n", { labels: { pool: "b" } }), /^NodeFits$/],
    ["affinity fails", affinity(expression("pool", "NotIn", "b")), node("n", { labels: { pool: "b" } }), /affinity/],
    [
      "one term is enough",
      affinity(expression("x", "Exists"), expression("pool", "Exists")),
      node("n", { labels: { pool: "b" } }),
      /^NodeFits$/,
    ],
    ["an empty term matches nothing", affinity({}), node("n"), /affinity/],
    ["greater", affinity(expression("gpus", "Gt", "4")), node("n", { labels: { gpus: "8" } }), /^NodeFits$/],
    ["not greater", affinity(expression("gpus", "Gt", "8")), node("n", { labels: { gpus: "8" } }), /affinity/],
    ["greater than nothing", affinity(expression("gpus", "Gt", "8")), node("n"), /affinity/],
    [
      "by name",
      affinity({ matchFields: [{ key: "metadata.name", operator: "In", values: ["n"] }] }),
      node("n"),
      /^NodeFits$/,
    ],
  ];
  for (const [title, spec, on, expected] of rows) t.match(judge(pod("p", { spec }), on), expected, title);
  t.end();
});
