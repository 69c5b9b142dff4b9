import t from "tap";
import { readEdges, violation, type Edge } from "../support/architecture.ts";

const edge = (from: string, to: string, external = false): Edge => ({ from, to, external });

t.test("the sources obey the law of imports", (t) => {
  const edges = readEdges(new URL("../../src", import.meta.url).pathname);
  t.ok(edges.length > 100, `read ${edges.length} imports`);
  t.same(edges.map(violation).filter(Boolean), []);
  t.end();
});

t.test("forbidden edges are found", (t) => {
  const forbidden = [
    edge("admission/plan.ts", "router/pick/cost.ts"),
    edge("admission/plan.ts", "cluster/store.ts"),
    edge("cluster/store.ts", "extender/decide.ts"),
    edge("kinds/kube.ts", "workload/spec.ts"),
    edge("kinds/kube.ts", "ports.ts"),
    edge("profiles/devices.ts", "workload/spec.ts"),
    edge("workload/spec.ts", "gang/plan.ts"),
    edge("router/pick/cost.ts", "router/extproc/codec.ts"),
    edge("router/pick/cost.ts", "simulator/engine.ts"),
    edge("extender/decide.ts", "main.ts"),
    edge("simulator/engine.ts", "cluster/client.ts"),
    edge("admission/plan.ts", "node:fs", true),
    edge("router/pick/cost.ts", "undici", true),
    edge("router/http2/connection.ts", "node:net", true),
    edge("profiles/devices.ts", "fastify", true),
  ];
  for (const each of forbidden) t.type(violation(each), "string", `${each.from} -> ${each.to}`);
  t.end();
});

t.test("allowed edges are allowed", (t) => {
  const allowed = [
    edge("main.ts", "router/extproc/server.ts"),
    edge("cli/demo.ts", "simulator/engine.ts"),
    edge("admission/routes.ts", "fastify", true),
    edge("admission/plan.ts", "workload/spec.ts"),
    edge("gang/plan.ts", "topology/tree.ts"),
    edge("router/extproc/server.ts", "router/http2/server.ts"),
    edge("router/http2/server.ts", "node:tls", true),
    edge("router/extproc/stream.ts", "router/pick/cost.ts"),
    edge("cluster/client.ts", "@kubernetes/client-node", true),
    edge("config/load.ts", "kinds/kube.ts"),
    edge("simulator/engine.ts", "router/pick/cost.ts"),
  ];
  for (const each of allowed) t.equal(violation(each), undefined, `${each.from} -> ${each.to}`);
  t.end();
});
