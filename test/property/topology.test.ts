import fc from "fast-check";
import t from "tap";
import type { HyperNode } from "../../src/kinds/kube.ts";
import { distancesTo } from "../../src/topology/cost.ts";
import { compilePattern } from "../../src/topology/pattern.ts";
import { topologyTree } from "../../src/topology/tree.ts";
import { exact, hyperNode, node } from "../support/placement.ts";

/** Patterns that RE2 and JavaScript read alike, and in which nothing backtracks for long. */
const piece = fc.constantFrom("a", "b", "-", ".", "[ab]", "[^a]", "\\d", "(a|b)", "(?:ab|-)", "^", "$", "1");
const quantified = fc
  .tuple(piece, fc.constantFrom("", "", "?", "*", "+", "{2}", "{1,2}"))
  .map(([text, quantifier]) => (text === "^" || text === "$" ? text : text + quantifier));
const pattern = fc.array(fc.oneof(quantified, fc.constant("|")), { maxLength: 5 }).map((parts) => parts.join(""));
const text = fc.string({ unit: fc.constantFrom("a", "b", "-", "1", "2"), maxLength: 6 });

t.test("agrees with JavaScript's engine on the patterns they share", (t) => {
  fc.assert(
    fc.property(pattern, text, (source, subject) => {
      const compiled = compilePattern(source);
      return compiled.ok && compiled.matches(subject) === new RegExp(source).test(subject);
    }),
    { numRuns: 2000 },
  );
  t.end();
});

t.test("never throws, whatever the pattern", (t) => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom(..."ab([{*+?|\\^$])}-,1:PQEx<>i".split("")), maxLength: 12 }),
      (source) => {
        const compiled = compilePattern(source);
        if (compiled.ok) compiled.matches("node-1");
        return true;
      },
    ),
    { numRuns: 2000 },
  );
  t.end();
});

/** Any HyperNodes at all: overlapping, cyclic, dangling. */
const name = fc.integer({ min: 0, max: 6 });
const anyHyperNodes = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.array(name, { maxLength: 4 }), fc.array(name, { maxLength: 3 })), {
    maxLength: 6,
  })
  .map((rows) =>
    rows.map(([tier, nodes, children], index): HyperNode =>
      hyperNode(`h${index}`, tier, [
        ...exact("Node", ...nodes.map((one) => `n${one}`)),
        ...exact("HyperNode", ...children.map((one) => `h${one}`)),
      ]),
    ),
  );
const NODES = Array.from({ length: 6 }, (_, index) => node(`n${index}`));
const built = (hyperNodes: HyperNode[], nodes = NODES): ReturnType<typeof topologyTree> =>
  topologyTree(nodes, { kind: "hypernodes", hyperNodes });

t.test("every tree is a tree: each node below the root once, distances symmetric and ultrametric", (t) => {
  fc.assert(
    fc.property(anyHyperNodes, (hyperNodes) => {
      const tree = built(hyperNodes);
      const names = NODES.map(({ metadata }) => metadata.name ?? "");
      t.same(tree.root.nodes, names);
      for (const a of names)
        for (const b of names) {
          const d = tree.distance(a, b);
          if (d !== tree.distance(b, a) || d > tree.diameter || (d === 0) !== (a === b)) return false;
          if (names.some((c) => tree.distance(a, c) > Math.max(d, tree.distance(b, c)))) return false;
        }
      return true;
    }),
  );
  t.end();
});

t.test("the same tree for any order of nodes and HyperNodes", (t) => {
  fc.assert(
    fc.property(anyHyperNodes, (hyperNodes) => {
      const [a, b] = [built(hyperNodes), built(hyperNodes.toReversed(), NODES.toReversed())];
      t.same(
        NODES.map((one) => a.path(one.metadata.name ?? "")),
        NODES.map((one) => b.path(one.metadata.name ?? "")),
      );
      t.equal(a.verdicts.length, b.verdicts.length);
    }),
  );
  t.end();
});

t.test("mean distance to a set is the mean of the distances", (t) => {
  const set = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(anyHyperNodes, set, (hyperNodes, indices) => {
      const tree = built(hyperNodes);
      const nodes = indices.map((index) => `n${index}`);
      const { mean } = distancesTo(tree, nodes);
      return NODES.every(({ metadata }) => {
        const from = metadata.name ?? "";
        const expected = nodes.reduce((sum, to) => sum + tree.distance(from, to), 0) / nodes.length;
        return Math.abs(mean(from) - expected) < 1e-9;
      });
    }),
  );
  t.end();
});
