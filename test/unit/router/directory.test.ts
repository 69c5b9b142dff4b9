/** Which endpoints may serve a model, by readiness, role and what the legs of their connectors want. */
import t from "tap";
import type { Connector, Endpoint, Role } from "../../../src/kinds/endpoint.ts";
import { fleetOf } from "../../../src/router/directory.ts";

const endpoint = (id: string, role: Role, connector: Connector, engine: string): Endpoint => ({
  ...{ id, role, address: `${id}:80`, name: id, namespace: "a", service: "m", group: "m", cell: "0", instance: id },
  ...{ dataParallelRank: 0, models: ["m"], draining: false, ready: true, bootId: id },
  compatibility: { connector, engine, tag: "", fabric: "" },
});

const names = (all: readonly { endpoint: Endpoint }[]): string[] => all.map(({ endpoint: { id } }) => id);

for (const [connector, engine, prefill, decode] of [
  ["nixl", "vllm", ["p"], ["d", "b"]],
  ["mooncake", "vllm-ascend", ["p"], ["d", "b"]],
  ["mooncake", "vllm", [], ["d", "b"]],
  ["mooncake-layerwise", "vllm-ascend", [], ["d", "b"]],
  ["sglang", "sglang", [], ["b"]],
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
  t.same(fleetOf(all, "m"), { modelKnown: true, prefill: [], decode: [] });
  t.end();
});
