import t from "tap";
import type { HyperNode } from "../../../src/kinds/kube.ts";
import { distancesTo, placementCost } from "../../../src/topology/cost.ts";
import { topologyPicture } from "../../../src/topology/picture.ts";
import { labelLevels, topologyKeys, topologySource, topologyTree, ROOT_NAME } from "../../../src/topology/tree.ts";
import { exact, fabric, hyperNode, node, pod } from "../../support/placement.ts";

const names = (count: number): ReturnType<typeof node>[] =>
  Array.from({ length: count }, (_, index) => node(`n${index}`));

const tree = (nodes: ReturnType<typeof node>[], hyperNodes: HyperNode[]): ReturnType<typeof topologyTree> =>
  topologyTree(nodes, { kind: "hypernodes", hyperNodes });

t.test("distance counts the steps to the lowest common domain", (t) => {
  const { nodes, hyperNodes } = fabric(4, 2);
  const built = tree([...nodes, node("lonely")], hyperNodes);
  const rows: [string, string, number][] = [
    ["r0n0", "r0n0", 0],
    ["r0n0", "r0n1", 1],
    ["r0n0", "r1n0", 2],
    ["r0n0", "r2n0", 3],
    ["r0n0", "lonely", 3],
    ["r0n0", "unknown", 3],
  ];
  for (const [a, b, steps] of rows) {
    t.equal(built.distance(a, b), steps, `${a} to ${b}`);
    t.equal(built.distance(b, a), steps, `${b} to ${a}`);
  }
  t.equal(built.diameter, 3);
  t.same(built.verdicts, []);
  t.equal(built.path("r0n0"), "rack-0 / spine-0");
  t.equal(built.path("lonely"), ROOT_NAME);
  t.same(built.root.nodes.length, 9);
  t.end();
});

t.test("tiers may have gaps, and highestTierAllowed is the widest domain up to a tier", (t) => {
  const built = tree(names(4), [
    hyperNode("leaf", 2, exact("Node", "n0", "n1")),
    hyperNode("top", 7, [...exact("HyperNode", "leaf"), ...exact("Node", "n2")], "zone"),
  ]);
  t.same(built.tiers, [2, 7]);
  t.equal(built.domainOf("n0", 6)?.name, "leaf");
  t.equal(built.domainOf("n0", 7)?.name, "top");
  t.equal(built.domainOf("n2", 6), undefined, "hangs directly below tier 7");
  t.equal(built.domainOf("n3", 7), undefined, "in no domain");
  t.equal(built.tierOf("zone"), 7);
  t.equal(built.tierOf("2"), 2);
  t.equal(built.tierOf("rack"), undefined);
  t.equal(built.commonDomain(["n0", "n2"]).name, "top");
  t.equal(built.commonDomain(["n0", "n3"]).name, ROOT_NAME);
  t.end();
});

t.test("members by pattern and by label", (t) => {
  const nodes = [
    node("gpu-01", { labels: { rack: "a" } }),
    node("gpu-02", { labels: { rack: "a" } }),
    node("cpu-01", { labels: { rack: "b" } }),
  ];
  const built = tree(nodes, [
    hyperNode("by-pattern", 1, [{ type: "Node", selector: { regexMatch: { pattern: "^gpu-\\d+$" } } }]),
    hyperNode("by-label", 1, [{ type: "Node", selector: { labelMatch: { matchLabels: { rack: "b" } } } }]),
    hyperNode("empty", 1, [{ type: "Node", selector: { labelMatch: {} } }]),
  ]);
  t.same(built.domain("by-pattern")?.nodes, ["gpu-01", "gpu-02"]);
  t.same(built.domain("by-label")?.nodes, ["cpu-01"]);
  t.same(built.domain("empty")?.nodes, [], "an empty selector selects nothing, as in Volcano");
  t.end();
});

t.test("what is wrong is reported, and the rest stands", (t) => {
  const rows: { title: string; hyperNodes: HyperNode[]; reason: string; message: RegExp }[] = [
    {
      title: "bad pattern",
      hyperNodes: [hyperNode("a", 1, [{ type: "Node", selector: { regexMatch: { pattern: "n(?=1)" } } }])],
      reason: "HyperNodeInvalid",
      message: /look-around/,
    },
    {
      title: "cycle",
      hyperNodes: [
        hyperNode("a", 1, exact("HyperNode", "b")),
        hyperNode("b", 2, [...exact("HyperNode", "a"), ...exact("Node", "n0")]),
      ],
      reason: "HyperNodeInvalid",
      message: /a \(tier 1\): member b \(tier 2\) must be of a lower tier/,
    },
    {
      title: "itself",
      hyperNodes: [hyperNode("a", 1, exact("HyperNode", "a"))],
      reason: "HyperNodeInvalid",
      message: /must be of a lower tier/,
    },
    {
      title: "dangling HyperNode",
      hyperNodes: [hyperNode("a", 2, exact("HyperNode", "gone"))],
      reason: "HyperNodeDangling",
      message: /gone does not exist/,
    },
    {
      title: "dangling node",
      hyperNodes: [hyperNode("a", 1, exact("Node", "n0", "gone"))],
      reason: "HyperNodeDangling",
      message: /node gone does not exist/,
    },
    {
      title: "two owners of a node",
      hyperNodes: [hyperNode("a", 1, exact("Node", "n0")), hyperNode("b", 1, exact("Node", "n0", "n1"))],
      reason: "HyperNodeOverlaps",
      message: /b: node n0 already belongs to a/,
    },
    {
      title: "two parents",
      hyperNodes: [
        hyperNode("leaf", 1, exact("Node", "n0")),
        hyperNode("x", 2, exact("HyperNode", "leaf")),
        hyperNode("y", 2, exact("HyperNode", "leaf")),
      ],
      reason: "HyperNodeOverlaps",
      message: /y: member leaf already belongs to x/,
    },
    {
      title: "pattern for HyperNodes",
      hyperNodes: [hyperNode("a", 2, [{ type: "HyperNode", selector: { regexMatch: { pattern: "x" } } }])],
      reason: "HyperNodeInvalid",
      message: /exactMatch only/,
    },
  ];
  for (const { title, hyperNodes, reason, message } of rows) {
    const built = tree(names(3), hyperNodes);
    t.same(
      built.verdicts.map((verdict) => verdict.reason),
      [reason],
      title,
    );
    t.match(built.verdicts[0]?.message, message, title);
    t.equal(built.root.nodes.length, 3, `${title}: every node is in the tree`);
  }
  t.end();
});

t.test("a node named again further up the same branch is no overlap", (t) => {
  const built = tree(names(2), [
    hyperNode("leaf", 1, exact("Node", "n0")),
    hyperNode("top", 2, [...exact("HyperNode", "leaf"), ...exact("Node", "n0", "n1")]),
  ]);
  t.same(built.verdicts, []);
  t.equal(built.leafOf("n0").name, "leaf");
  t.same(built.domain("top")?.nodes, ["n0", "n1"]);
  t.end();
});

t.test("domains from node labels", (t) => {
  const nodes = [
    node("a", { labels: { rack: "1", zone: "x" } }),
    node("b", { labels: { rack: "1", zone: "x" } }),
    node("c", { labels: { rack: "1", zone: "y" } }),
    node("d", { labels: { zone: "y" } }),
    node("e"),
  ];
  const built = topologyTree(nodes, { kind: "labels", levels: ["rack", "zone"] });
  t.equal(built.distance("a", "b"), 1);
  t.equal(built.distance("a", "c"), 3, "rack 1 of zone x is not rack 1 of zone y");
  t.equal(built.distance("c", "d"), 2);
  t.equal(built.path("c"), "y/1 / y");
  t.equal(built.path("e"), ROOT_NAME);
  t.equal(built.tierOf("rack"), 1);
  t.end();
});

t.test("label levels stand in where there are no HyperNodes", (t) => {
  const given = { preset: "", levels: ["rack"] } as const;
  t.equal(topologySource({ source: "hypernodes", ...given, levels: ["rack"] }, []).kind, "labels");
  t.equal(
    topologySource({ source: "hypernodes", ...given, levels: ["rack"] }, [hyperNode("a", 1, [])]).kind,
    "hypernodes",
  );
  t.equal(topologySource({ source: "none", ...given, levels: ["rack"] }, []).kind, "none");
  t.end();
});

t.test("presets name the levels of vendors and clouds, closest first; own levels win", (t) => {
  t.same(labelLevels({ source: "labels", preset: "aws", levels: ["rack"] }), ["rack"]);
  const source = topologySource({ source: "labels", preset: "topograph", levels: [] }, []);
  const labels = (domain: string, tier0: string, tier1: string): Record<string, string> => ({
    "accelerator.topograph.run/domain": domain,
    "fabric.topograph.run/tier-0": tier0,
    "fabric.topograph.run/tier-1": tier1,
  });
  const built = topologyTree(
    [
      node("a", { labels: labels("nvl-1", "leaf-1", "spine-1") }),
      node("b", { labels: labels("nvl-1", "leaf-1", "spine-1") }),
      node("c", { labels: labels("nvl-2", "leaf-1", "spine-1") }),
      node("d", { labels: labels("nvl-3", "leaf-2", "spine-1") }),
    ],
    source,
  );
  t.equal(built.path("a"), "nvl-1 / leaf-1 / spine-1");
  t.same(
    ["b", "c", "d"].map((other) => built.distance("a", other)),
    [1, 2, 3],
  );
  const old = topologySource({ source: "hypernodes", preset: "topograph-0.1", levels: [] }, []);
  t.same(old, {
    kind: "labels",
    levels: ["accelerator", "block", "spine", "datacenter"].map((level) => `network.topology.nvidia.com/${level}`),
  });
  t.same(labelLevels({ source: "labels", preset: "aws", levels: [] })[0], "topology.k8s.aws/network-node-layer-3");
  t.end();
});

t.test("topology keys tell the HyperNodes of a tier apart, closest first", (t) => {
  const labelled = (name: string, tier: number, labels: Record<string, string>): HyperNode =>
    hyperNode(name, tier, [{ type: "Node", selector: { labelMatch: { matchLabels: labels } } }]);
  t.same(
    topologyKeys([
      labelled("s", 2, { spine: "0" }),
      labelled("a", 1, { rack: "0", type: "h100" }),
      labelled("b", 1, { rack: "1", type: "h100" }),
    ]),
    ["rack", "spine"],
  );
  const found = hyperNode("hypernode-x-tier1-abcde", 1, exact("Node", "n0"), "volcano.sh/tor");
  found.metadata.labels = { "volcano.sh/network-topology-source": "label", "volcano.sh/tor": "tor1" };
  t.same(topologyKeys([found]), ["volcano.sh/tor"], "made by Volcano's discovery");
  t.end();
});

t.test("the cost of a placement is its mean distance", (t) => {
  const { nodes, hyperNodes } = fabric(4, 2);
  const built = tree(nodes, hyperNodes);
  t.equal(placementCost(built, ["r0n0"]), 0);
  t.equal(placementCost(built, ["r0n0", "r0n0"]), 0);
  t.equal(placementCost(built, ["r0n0", "r0n1", "r1n0"]), (1 + 2 + 2) / 3);
  const { mean, spread, meanFrom } = distancesTo(built, ["r0n0", "r0n0", "r2n0"]);
  t.same(spread("r0n0"), [2, 0, 0, 1]);
  t.equal(mean("r0n0"), 1);
  t.equal(meanFrom(built.leafOf("r0n0")), (1 + 1 + 3) / 3);
  t.end();
});

t.test("the picture draws what carries pods and counts the rest", (t) => {
  const { nodes, hyperNodes } = fabric(3, 2);
  const picture = topologyPicture(tree(nodes, hyperNodes), [pod("a", { nodeName: "r0n1" }), pod("waiting")]);
  t.equal(
    picture,
    [
      "cluster",
      "├─ spine-0 (tier 2, spine)",
      "│  ├─ rack-0 (tier 1, rack)",
      "│  │  ├─ r0n1",
      "│  │  │  └─ default/a",
      "│  │  └─ 1 more node without pods",
      "│  └─ rack-1 (tier 1, rack): 2 nodes, no pods",
      "└─ spine-1 (tier 2, spine): 2 nodes, no pods",
    ].join("\n"),
  );
  t.end();
});
