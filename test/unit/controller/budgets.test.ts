import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { budgetActions } from "../../../src/controller/budgets.ts";
import { contractsOf } from "../../../src/controller/contracts.ts";
import type { Action } from "../../../src/controller/action.ts";
import type { KubeObject, StringMap, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";

interface Given {
  readonly role?: string;
  readonly replicas?: number;
  readonly annotations?: StringMap;
  readonly labels?: StringMap;
}

const workload = (name: string, { role = "decode", replicas = 2, annotations = {}, labels = {} }: Given): Workload => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: {
    ...{ name, namespace: "a", uid: `uid-${name}` },
    labels: { "tandem.sh/model": "m", "tandem.sh/role": role, ...labels },
    annotations: { "tandem.sh/disruption": "budget", ...annotations },
  },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m"] }] },
    },
  },
});

function plan(given: Readonly<Record<string, Given>>, budgets: readonly KubeObject[] = []): readonly Action[] {
  const acts = (): boolean => true;
  const workloads = Object.entries(given).map(([name, each]) => workload(name, each));
  const contracts = contractsOf({ ...EMPTY_SNAPSHOT, workloads }, { config: loadConfig(), acts });
  return budgetActions({ budgets, contracts, acts });
}

const applied = (actions: readonly Action[]): readonly KubeObject[] =>
  actions.flatMap((action) => (action.do === "apply" ? [action.object] : []));

type Limit = Partial<Record<"minAvailable" | "maxUnavailable", number | undefined>>;
type Limits = Record<string, Limit>;

function limits(given: Readonly<Record<string, Given>>, budgets: readonly KubeObject[] = []): Limits {
  return Object.fromEntries(
    applied(plan(given, budgets)).map(({ metadata, spec }) => {
      const { minAvailable, maxUnavailable } = spec as Limit;
      const name = metadata.ownerReferences?.[0]?.name ?? "";
      return [name, minAvailable === undefined ? { maxUnavailable } : { minAvailable }];
    }),
  );
}

const prefill = (replicas: number, more: Given = {}): Given => ({ role: "prefill", replicas, ...more });
const decode = (replicas: number, more: Given = {}): Given => ({ role: "decode", replicas, ...more });
const set = (text: string): Given => ({ annotations: { "tandem.sh/gang": text } });
const over = (pods: number): Given => ({ annotations: { "tandem.sh/nodes-per-instance": String(pods) } });

const TABLE: readonly (readonly [string, Readonly<Record<string, Given>>, Limits])[] = [
  [
    "one at a time above the minimum, none at it",
    { p: prefill(1), d: decode(8) },
    { p: { minAvailable: 1 }, d: { minAvailable: 7 } },
  ],
  [
    "a minimum that is asked for",
    { p: prefill(3, set("prefill=2,decode=3")), d: decode(3, set("prefill=2,decode=3")) },
    { p: { minAvailable: 2 }, d: { minAvailable: 3 } },
  ],
  [
    "an instance goes whole: one pod away, if the role can spare its instance",
    { p: prefill(4, over(4)), d: decode(8, over(4)) },
    { p: { minAvailable: 4 }, d: { minAvailable: 7 } },
  ],
  ["pods that make no whole instance protect nobody", { d: decode(5, over(4)) }, { d: { minAvailable: 4 } }],
  ["a role scaled to nothing", { p: prefill(0), d: decode(2) }, { p: { minAvailable: 0 }, d: { minAvailable: 1 } }],
  [
    "two workloads of a role: the minimum stands although each spares one",
    { d1: decode(1), d2: decode(3) },
    { d1: { minAvailable: 0 }, d2: { minAvailable: 2 } },
  ],
  [
    "two workloads of a role: one of them spares none, for else both could go at once",
    { d1: decode(1), d2: decode(1) },
    { d1: { minAvailable: 1 }, d2: { minAvailable: 0 } },
  ],
  [
    "cells do not stand in for each other",
    { d1: decode(1), d2: decode(3, { labels: { "tandem.sh/cell": "1" } }) },
    { d1: { minAvailable: 1 }, d2: { minAvailable: 2 } },
  ],
  [
    "no gang",
    { p: prefill(1, set("off")), d: decode(1, set("off")) },
    { p: { maxUnavailable: 1 }, d: { maxUnavailable: 1 } },
  ],
  [
    "the gang is left alone",
    { d: decode(1, { annotations: { "tandem.sh/skip": "gang" } }) },
    { d: { maxUnavailable: 1 } },
  ],
  ["role both alone", { b: { role: "both", replicas: 1 } }, { b: { maxUnavailable: 1 } }],
  ["mode route", { d: decode(1, { annotations: { "tandem.sh/mode": "route" } }) }, { d: { maxUnavailable: 1 } }],
  ["not asked for", { d: decode(1, { annotations: { "tandem.sh/disruption": "off" } }) }, {}],
];

t.test("what may be away follows from the minimum viable set", (t) => {
  for (const [name, given, wanted] of TABLE) t.same(limits(given), wanted, name);
  t.end();
});

t.test("what stands under somebody else's budget is not counted on", (t) => {
  const theirs: KubeObject = {
    ...{ apiVersion: "policy/v1", kind: "PodDisruptionBudget" },
    metadata: { name: "theirs", namespace: "a" },
    spec: { maxUnavailable: "100%", selector: { matchLabels: { app: "d2" } } },
  };
  t.same(limits({ d1: decode(1), d2: decode(3) }, [theirs]), { d1: { minAvailable: 1 } });
  t.end();
});

t.test("the number follows the replicas, and says when a drain has to wait", (t) => {
  const stored = applied(plan({ d: decode(3) }));
  t.same(plan({ d: decode(3) }, stored), []);
  t.same(limits({ d: decode(2) }, stored), { d: { minAvailable: 1 } });
  const [least] = plan({ d: decode(1) }, stored);
  t.match(least?.verdict.message, "needs all 1; scale out before a drain");
  t.match(plan({ d: decode(3) })[0]?.verdict.message, "one of 3 pods may be evicted at a time");
  t.end();
});
