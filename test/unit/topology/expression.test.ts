import t from "tap";
import type { HyperNode, Node } from "../../../src/kinds/kube.ts";
import { domainExpression, topologyTree, type DomainExpression } from "../../../src/topology/tree.ts";
import { exact, fabric, hyperNode, node } from "../../support/placement.ts";

const RACKS = [
  node("a", { labels: { rack: "1", gpu: "h100", zone: "x" } }),
  node("b", { labels: { rack: "1", gpu: "h100", zone: "x" } }),
  node("c", { labels: { rack: "2", gpu: "h100", zone: "x" } }),
  node("d", { labels: { rack: "3", gpu: "h100", zone: "y" } }),
];
const selected = (name: string, labels: Record<string, string>): HyperNode =>
  hyperNode(name, 1, [{ type: "Node", selector: { labelMatch: { matchLabels: labels } } }]);

function expression(
  name: string,
  nodes: readonly Node[],
  hyperNodes: readonly HyperNode[],
): DomainExpression | undefined {
  const tree = topologyTree(nodes, { kind: "hypernodes", hyperNodes });
  return domainExpression(tree.domain(name) ?? tree.root, tree, nodes);
}

t.test("by the selector's key that tells exactly the nodes", (t) => {
  const leaves = [
    selected("r1", { gpu: "h100", rack: "1" }),
    selected("r2", { rack: "2" }),
    selected("r3", { rack: "3" }),
  ];
  t.same(expression("r1", RACKS, leaves), { key: "rack", values: ["1"] });
  const above = [...leaves, hyperNode("s", 2, exact("HyperNode", "r1", "r2"))];
  t.same(expression("s", RACKS, above), { key: "rack", values: ["1", "2"] }, "a domain above is those below it");
  t.equal(expression("cluster", RACKS, above), undefined, "the root needs none");
  t.end();
});

t.test("by the label levels", (t) => {
  const tree = topologyTree(RACKS, { kind: "labels", levels: ["rack", "zone"] });
  t.same(domainExpression(tree.domain("1") ?? tree.root, tree, RACKS), { key: "rack", values: ["1"] });
  t.same(domainExpression(tree.domain("x") ?? tree.root, tree, RACKS), { key: "zone", values: ["x"] });
  const twice = [...RACKS, node("e", { labels: { rack: "1", zone: "y" } })];
  const both = topologyTree(twice, { kind: "labels", levels: ["rack", "zone"] });
  t.same(
    domainExpression(both.domain("x/1") ?? both.root, both, twice),
    { key: "kubernetes.io/hostname", values: ["a", "b"] },
    "rack 1 of zone y has the same value",
  );
  t.end();
});

t.test("else by hostnames, as the labels have them", (t) => {
  const [first, second] = [node("n1", { labels: { "kubernetes.io/hostname": "ip-1" } }), node("n2")];
  const hyperNodes = [hyperNode("h", 1, exact("Node", "n1"))];
  t.same(expression("h", [first, second], hyperNodes), { key: "kubernetes.io/hostname", values: ["ip-1"] });
  delete first.metadata.labels?.["kubernetes.io/hostname"];
  t.equal(expression("h", [first, second], hyperNodes), undefined, "a node without the label cannot be named");
  t.end();
});

t.test("of at most 256 names", (t) => {
  for (const [size, expected] of [
    [256, 256],
    [257, undefined],
  ] as const) {
    const { nodes, hyperNodes } = fabric(2, size);
    t.equal(expression("rack-0", nodes, hyperNodes)?.values.length, expected);
  }
  t.end();
});
