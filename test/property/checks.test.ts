/** No check throws, whatever JSON stands in the places it reads, in the object and in what is known of the cluster. */
import fc from "fast-check";
import t from "tap";
import { admitObject, admitPod, type AdmitResult } from "../../src/admission/admit.ts";
import { auditAnnotations, explain, summary } from "../../src/admission/explain.ts";
import { STAGES } from "../../src/admission/stages.ts";
import { loadConfig } from "../../src/config/load.ts";
import { globMatches } from "../../src/kinds/glob.ts";
import type { KubeObject, Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { isTemplate, podFromTemplate } from "../../src/workload/template.ts";

const { admission: settings } = loadConfig({
  text: `
admission:
  policy:
    - name: all
      keys: ["tandem.sh/*"]
      deniedKeys: [tandem.sh/skip]
      modes: [manage, route]
      queues: ["q*"]
      servedModels: ["*m*"]
      accelerators: [nvidia]
      schedulers: ["*"]
      maxAcceleratorsPerPod: 4
    - name: labelled
      namespaceSelector: { matchExpressions: [{ key: team, operator: NotIn, values: [a] }] }
      modes: [manage]
`,
});

const json = fc.jsonValue({ maxDepth: 3 });
const maybe = (likely: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 3, arbitrary: likely }, json);
const count = fc.constantFrom(0, 1, 2, 4, -1, 1.5, 1e21, "25%", "100%", "x%", "2");

const annotations = fc.record(
  {
    "tandem.sh/gang": fc.constantFrom("auto", "off", "prefill=2,decode=1", "prefill=999999"),
    "tandem.sh/topology": fc.constantFrom("required", "preferred"),
    "tandem.sh/topology-tier": fc.constantFrom("rack", "1", "9"),
    "tandem.sh/nodes-per-instance": fc.constantFrom("1", "2"),
    "tandem.sh/mode": fc.constantFrom("manage", "route", "observe"),
    "tandem.sh/queue": fc.constantFrom("q1", "r", "inference"),
    "autoscaling.tandem.sh/mode": fc.constantFrom("auto", "off"),
    "scheduling.volcano.sh/group-min-member": fc.constantFrom("1", "4", "-3", "x", "1e99"),
    "status.tandem.sh/plan": fc.string(),
    "status.tandem.sh/drain": fc.string(),
  },
  { requiredKeys: [] },
);

const workload = fc.record({
  apiVersion: fc.constant("apps/v1"),
  kind: fc.constantFrom("Deployment", "StatefulSet"),
  metadata: fc.record({
    name: fc.constant("w"),
    namespace: fc.constantFrom("a", "b"),
    labels: fc.constantFrom(
      { "tandem.sh/model": "m", "tandem.sh/role": "prefill" },
      { "tandem.sh/model": "m", "tandem.sh/role": "both", "kueue.x-k8s.io/queue-name": "q" },
    ),
    annotations,
  }),
  spec: fc.record({
    replicas: maybe(fc.constantFrom(0, 1, 4)),
    podManagementPolicy: json,
    progressDeadlineSeconds: maybe(fc.integer({ min: 0, max: 900 })),
    strategy: maybe(
      fc.record({ type: json, rollingUpdate: maybe(fc.record({ maxSurge: count, maxUnavailable: count })) }),
    ),
    template: fc.record({
      metadata: fc.constantFrom({}, { annotations: { "status.tandem.sh/intent": "{}" } }),
      spec: fc.record({
        schedulerName: fc.constantFrom("volcano", "default-scheduler"),
        containers: fc.tuple(
          fc.record({
            name: fc.constant("e"),
            image: fc.constant("vllm/vllm-openai"),
            startupProbe: maybe(fc.record({ failureThreshold: count, periodSeconds: count })),
          }),
        ),
      }),
    }),
  }),
});

const scaler = fc.record({
  kind: fc.constantFrom("HorizontalPodAutoscaler", "ScaledObject", "constructor"),
  metadata: fc.record({ name: fc.constant("s"), namespace: fc.constantFrom("a", "b") }),
  spec: maybe(
    fc.record({ scaleTargetRef: maybe(fc.record({ kind: json, name: fc.constant("w") })), minReplicas: json }),
  ),
});
const hyperNode = fc.record({
  kind: fc.constant("HyperNode"),
  metadata: fc.record({ name: fc.constant("h") }),
  spec: fc.record({
    tier: fc.integer({ min: 1, max: 3 }),
    members: fc.constant([]),
    tierName: fc.constantFrom("rack"),
  }),
});

/** True for what was decoded; every stage must then have a row. Throws where an explanation breaks its word. */
function isExplained(one: AdmitResult): boolean {
  const rows = explain(one);
  const names = new Set(rows.map(({ subject }) => subject));
  const silent = STAGES.filter(({ name }) => !names.has(name));
  const decoded = rows.some(({ reason }) => reason === "Decoded");
  if (decoded && silent.length > 0) throw new Error(`not explained: ${silent.map(({ name }) => name).join()}`);
  const long = Object.values(auditAnnotations(one)).filter((text) => text.length > 1024);
  if (long.length > 0 || summary(one).message === "") throw new Error("too long, or empty");
  return decoded;
}

t.test("admission of a workload and of its Pod answers, and explains every stage once at least", (t) => {
  let explained = 0;
  fc.assert(
    fc.property(
      workload,
      fc.array(scaler, { maxLength: 2 }),
      fc.array(hyperNode, { maxLength: 2 }),
      (given, scalers, nodes) => {
        const object = given as unknown as Workload;
        const snapshot = {
          ...EMPTY_SNAPSHOT,
          autoscalers: scalers as unknown as KubeObject[],
          hyperNodes: nodes as never[],
        };
        const result = admitObject(object, { snapshot: { ...snapshot, workloads: [object] }, settings, settled: true });
        const pod = isTemplate(object.spec.template)
          ? [admitPod(podFromTemplate(object, "w-0"), { snapshot, settings })]
          : [];
        for (const one of [result, ...pod]) if (isExplained(one)) explained++;
      },
    ),
    { numRuns: 400 },
  );
  t.ok(explained > 100, `${explained} were explained stage by stage`);
  t.end();
});

t.test("a pattern matches what a regular expression made of it matches", (t) => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "*", "."), maxLength: 8 });
  const escaped = (pattern: string): RegExp =>
    new RegExp(
      `^${pattern
        .split("*")
        .map((piece) => piece.replaceAll(".", "\\."))
        .join(".*")}$`,
    );
  fc.assert(
    fc.property(letters, letters, (pattern, text) => globMatches(pattern, text) === escaped(pattern).test(text)),
    { numRuns: 2000 },
  );
  t.end();
});
