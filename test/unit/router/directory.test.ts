/** Which endpoints may serve a model, by readiness, role and what the legs of their connectors want. */
import t from "tap";
import type { Connector, Endpoint, Role } from "../../../src/kinds/endpoint.ts";
import { fleetOf, modelsOf } from "../../../src/router/directory.ts";
import { routedNamespaces } from "../../../src/workload/tenancy.ts";

const endpoint = (id: string, role: Role, connector: Connector, engine: string): Endpoint => ({
  ...{ id, role, address: `${id}:80`, name: id, namespace: "a", service: "m", group: "m", cell: "0", instance: id },
  ...{ dataParallelRank: 0, models: ["m"], draining: false, ready: true, bootId: id },
  compatibility: { connector, engine, tag: "", fabric: "" },
});

const names = (all: readonly { endpoint: Endpoint }[]): string[] => all.map(({ endpoint: { id } }) => id);

for (const [connector, engine, prefill, decode] of [
  ["nixl", "vllm", ["p"], ["d", "b"]],
  ["mooncake", "vllm-ascend", ["p"], ["d", "b"]],
  ["mooncake", "vllm", ["p"], ["d", "b"]],
  ["mooncake-layerwise", "vllm-ascend", ["p"], ["d", "b"]],
  ["sglang", "sglang", ["p"], ["d", "b"]],
  ["none", "vllm", [], ["d", "b"]],
] as const)
  t.test(`${connector} of ${engine}`, (t) => {
    const all = (["prefill", "decode", "both"] as const).map((role) => ({
      endpoint: endpoint(role.slice(0, 1), role, connector, engine),
      stats: undefined,
    }));
    const fleet = fleetOf(all, "m");
    t.same(names(fleet.prefill), prefill);
    t.same(names(fleet.decode), decode);
    t.equal(fleet.modelKnown, true);
    t.equal(fleetOf(all, "other").modelKnown, false);
    t.end();
  });

t.test("what is not ready or drains gets nothing", (t) => {
  const decode = endpoint("d", "decode", "nixl", "vllm");
  const all = [
    { ...decode, ready: false },
    { ...decode, draining: true },
  ].map((one) => ({ endpoint: one, stats: undefined }));
  t.same(fleetOf(all, "m"), { modelKnown: true, ambiguous: false, prefill: [], decode: [] });
  t.end();
});

t.test("namespaces are tenants: their engines never serve one request together", (t) => {
  const of = (id: string, role: Role, namespace: string) => ({
    endpoint: { ...endpoint(id, role, "nixl", "vllm"), namespace },
    stats: undefined,
  });
  const all = [of("ap", "prefill", "a"), of("ad", "decode", "a"), of("bp", "prefill", "b"), of("bd", "decode", "b")];
  const seen = (namespace?: string): unknown => {
    const { ambiguous, modelKnown, prefill, decode } = fleetOf(all, "m", namespace);
    return { ambiguous, modelKnown, names: [...names(prefill), ...names(decode)] };
  };
  t.match(seen(), { ambiguous: true }, "nobody says whose it is");
  t.same(seen("a"), { ambiguous: false, modelKnown: true, names: ["ap", "ad"] });
  t.same(seen("b"), { ambiguous: false, modelKnown: true, names: ["bp", "bd"] });
  t.same(seen("c"), { ambiguous: false, modelKnown: false, names: [] });
  t.same(seen(""), { ambiguous: false, modelKnown: false, names: [] });
  t.same([modelsOf(all), modelsOf(all, "a"), modelsOf(all, "c")], [["m"], ["m"], []]);
  t.end();
});

t.test("the router routes to namespaces that have opted in, and that are its own", (t) => {
  const namespaces = ["a", "b"].map((name) => ({
    ...{ apiVersion: "v1", kind: "Namespace" },
    metadata: { name, labels: name === "a" ? { on: "yes" } : {} },
  }));
  const routed = (optIn: string, only: string[]): string[] =>
    ["a", "b", "c"].filter(routedNamespaces({ optIn, only, namespaces }));
  t.same(routed("", []), ["a", "b", "c"]);
  t.same(routed("on=yes", []), ["a"]);
  t.same(routed("", ["b"]), ["b"]);
  t.same(routed("on=yes", ["b"]), [], "one that opted out again");
  t.end();
});
