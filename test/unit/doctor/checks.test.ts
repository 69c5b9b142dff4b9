import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { CHECKS, examine, type Finding, type State } from "../../../src/doctor/checks.ts";
import type { ExtenderEntry, SchedulerConfiguration } from "../../../src/doctor/documents.ts";
import { objectsOf, type Facts } from "../../../src/doctor/facts.ts";
import type { VolcanoExtender } from "../../../src/doctor/volcano-plugin.ts";
import { HINTS } from "../../../src/kinds/hints.ts";
import type { KubeObject, Workload } from "../../../src/kinds/kube.ts";
import {
  authority,
  base64,
  endpoints,
  factsOf,
  HEALTHY,
  NOW,
  podGroup,
  queue,
  secret,
  SHIPPED,
  SHIPPED_VOLCANO,
  stranger,
  webhooks,
  without,
  withObjects,
} from "../../support/doctor.ts";
import { deployment, hyperNode, node, pod } from "../../support/placement.ts";

const DAY = 86_400_000;
const finding = (facts: Facts, check: string): Finding | undefined =>
  examine(facts).find((found) => found.check === check);

t.test("nothing is wrong with a healthy cluster, and every check looked at it", (t) => {
  const found = examine(factsOf(HEALTHY));
  t.same(
    found.filter(({ state }) => state !== "ok"),
    [],
  );
  t.equal(new Set(found.map(({ check }) => check)).size, CHECKS.length);
  t.end();
});

t.test("without any fact every check but those over what is there is skipped, and none passes", (t) => {
  const unknown = { known: false, why: "nobody knows" } as const;
  const facts = factsOf([], { volcano: unknown, schedulers: unknown, reached: new Map() });
  t.same([...new Set(examine(facts).map(({ state }) => state))], ["skip"]);
  t.end();
});

const scheduled = (change: Partial<ExtenderEntry>, rest: Partial<SchedulerConfiguration> = {}): Partial<Facts> => ({
  schedulers: { known: true, items: [{ ...SHIPPED, ...rest, extenders: [{ ...SHIPPED.extenders[0]!, ...change }] }] },
});
const percentage = (value: number | undefined): Partial<Facts> =>
  scheduled({}, { profiles: [{ name: "default-scheduler", percentage: value }] });
const plugins = (...names: string[]): Partial<Facts> => ({
  volcano: { known: true, items: [{ source: "conf", plugins: names }] },
});

const at = (milliseconds: number): Partial<Facts> => ({ now: NOW + milliseconds });
const gated = (minutes: number, annotations: Record<string, string> = {}, gate = "tandem.sh/gang"): KubeObject => {
  const { metadata, ...held } = pod("held", { spec: { schedulingGates: [{ name: gate }] } });
  return {
    ...held,
    metadata: { ...metadata, annotations, creationTimestamp: new Date(NOW - minutes * 60_000).toISOString() },
  };
};
const scheduler = (name: string, container: Record<string, unknown>): Workload => ({
  ...deployment(name),
  metadata: { name, namespace: "volcano-system" },
  spec: { template: { spec: { containers: [{ name: "scheduler", ...container }] } } },
});
const manyNodes = Array.from({ length: 100 }, (_, index) => node(`n${index}`));
const members = (...names: string[]): Parameters<typeof hyperNode>[2] =>
  names.map((name) => ({ type: "Node", selector: { exactMatch: { name } } }));
const required = deployment("p", { annotations: { "tandem.sh/topology": "required" } });
const labels = loadConfig({ text: "topology: { source: labels, levels: [rack] }", name: "t" });

/** A cluster that was asked for HyperNodes and has none. */
const flat = (objects: readonly KubeObject[]): Facts["objects"] => ({
  ...objectsOf(objects),
  HyperNode: { known: true, items: [] },
});

const to = (rest: string): object => ({ urlPrefix: `https://tandem-webhook.tandem-system.svc${rest}` });
const PLUGIN = SHIPPED_VOLCANO.extenders![0]!;
const plugin = (change: Partial<VolcanoExtender>): Partial<Facts> => ({
  volcano: { known: true, items: [{ ...SHIPPED_VOLCANO, extenders: [{ ...PLUGIN, ...change }] }] },
});
const verbs = (...more: string[]): Partial<VolcanoExtender> => ({
  verbs: new Map([...PLUGIN.verbs, ...more.map((verb) => [verb, verb] as const)]),
});
const onlyVerbs = (...names: string[]): Partial<VolcanoExtender> => ({
  verbs: new Map(names.map((verb) => [verb, verb])),
});
const manyGroups = Array.from({ length: 201 }, (_, index) => ({
  ...podGroup({ minMember: 1 }),
  metadata: { name: `g-${index}`, namespace: "default" },
}));

const pinned = scheduled({ caData: authority.certificate });

type Row = [check: string, state: State, message: RegExp, objects: readonly KubeObject[], more?: Partial<Facts>];

const ROWS: readonly Row[] = [
  ["volcano-extender", "ok", /Volcano asks Tandem by conf/, HEALTHY],
  ["volcano-extender", "skip", /no configuration of Volcano names Tandem/, HEALTHY, plugins("gang")],
  [
    "volcano-extender-verbs",
    "fail",
    /onSessionOpenVerb sends the whole cluster/,
    HEALTHY,
    plugin(verbs("onSessionOpen")),
  ],
  ["volcano-extender-verbs", "fail", /jobReadyVerb without onSessionCloseVerb/, HEALTHY, plugin(onlyVerbs("jobReady"))],
  [
    "volcano-extender-verbs",
    "fail",
    /jobReadyVerb is "ready", which Tandem does not serve/,
    HEALTHY,
    plugin({ verbs: new Map([...PLUGIN.verbs, ["jobReady", "ready"]]) }),
  ],
  ["volcano-extender-verbs", "fail", /jobStarvingVerb is/, HEALTHY, plugin(verbs("jobStarving"))],
  ["volcano-extender-verbs", "fail", /managedResources is no list/, HEALTHY, plugin({ managedResources: undefined })],
  ["volcano-extender-silence", "fail", /no job of anybody is ready/, HEALTHY, plugin({ ignorable: true })],
  [
    "volcano-extender-silence",
    "fail",
    /pass the predicate unfiltered/,
    HEALTHY,
    plugin({ ignorable: true, ...onlyVerbs("predicate") }),
  ],
  ["volcano-extender-silence", "fail", /no pod with a managed device/, HEALTHY, plugin(verbs("allocateFunc"))],
  ["volcano-extender-silence", "warn", /no job of anybody with minResources/, HEALTHY, plugin(verbs("jobEnqueueable"))],
  ["volcano-extender-order", "fail", /does not stand after gang/, HEALTHY, plugin({ before: ["priority"] })],
  ["volcano-extender-cost", "ok", /few enough/, HEALTHY, plugin(verbs("predicate"))],
  [
    "volcano-extender-cost",
    "warn",
    /predicate and prioritize with 10\d nodes/,
    withObjects(...manyNodes),
    plugin(verbs("predicate", "prioritize")),
  ],
  ["volcano-extender-cost", "warn", /jobReady with 20\d PodGroups/, withObjects(...manyGroups)],
  ["volcano-extender-cost", "fail", /httpTimeout is 5s/, HEALTHY, plugin({ httpTimeout: "5s" })],
  ["volcano-extender-cost", "ok", /few enough/, HEALTHY, plugin({ httpTimeout: "" })],
  [
    "volcano-extender-reachable",
    "fail",
    /volcano: connection refused/,
    HEALTHY,
    { reached: new Map([[PLUGIN.urlPrefix, { ok: false, message: "connection refused" }]]) },
  ],
  ["volcano-extender-reachable", "skip", /nothing was called/, HEALTHY, { reached: new Map() }],
  [
    "webhooks",
    "fail",
    /there is no MutatingWebhookConfiguration tandem/,
    withObjects({ ...webhooks("Mutating"), metadata: { name: "other" } }).filter(
      ({ kind, metadata }) => kind !== "MutatingWebhookConfiguration" || metadata.name === "other",
    ),
  ],
  [
    "webhook-trust",
    "fail",
    /caBundle of validating\.tandem\.sh did not sign/,
    withObjects(webhooks("Validating", stranger.certificate)),
  ],
  ["webhook-trust", "fail", /caBundle of mutating\.tandem\.sh is empty/, withObjects(webhooks("Mutating", ""))],
  ["webhook-trust", "fail", /no readable tls\.crt/, withObjects({ ...secret(), data: { "tls.crt": base64("none") } })],
  ["webhook-trust", "skip", /no Secret was given/, without("Secret")],
  ["certificate", "fail", /expired at/, HEALTHY, at(31 * DAY)],
  ["certificate", "fail", /begins only at/, HEALTHY, at(-2 * DAY)],
  ["certificate", "warn", /9\d % of its life are over/, HEALTHY, at(28 * DAY)],
  ["certificate", "ok", /valid until/, HEALTHY, at(20 * DAY)],
  ["certificate", "fail", /does not carry the name tandem-webhook/, withObjects(secret(stranger))],
  [
    "webhook-endpoints",
    "fail",
    /Service tandem-system\/tandem-webhook has no ready endpoint/,
    withObjects(endpoints(false)),
  ],
  ["webhook-endpoints", "skip", /no EndpointSlice is known/, without("EndpointSlice")],
  [
    "volcano-plugins",
    "fail",
    /does not enable network-topology-aware, which PodGroup default\/tandem-m-0 relies on/,
    HEALTHY,
    plugins("gang"),
  ],
  [
    "volcano-plugins",
    "warn",
    /conf does not enable network-topology-aware$/,
    withObjects(podGroup({ minMember: 1, queue: "research" })),
    plugins("gang"),
  ],
  ["volcano-plugins", "fail", /does not enable gang/, HEALTHY, plugins("network-topology-aware")],
  [
    "queue",
    "fail",
    /queue research is Closed, asked for by PodGroup default\/tandem-m-0/,
    withObjects(queue("research", "Closed")),
  ],
  [
    "queue",
    "fail",
    /queue gone does not exist, asked for by Deployment default\/p/,
    withObjects(deployment("p", { annotations: { "tandem.sh/queue": "gone" } })),
  ],
  ["queue", "ok", /open: research/, withObjects(queue("research"))],
  [
    "podgroup-sums",
    "fail",
    /minTaskMember sums to 3, minMember is 2/,
    withObjects(podGroup({ minMember: 2, minTaskMember: { prefill: 1, decode: 2 } })),
  ],
  [
    "scheduler-name",
    "fail",
    /default\/m is left to default-scheduler and volcano/,
    withObjects(pod("d-1", { role: "decode", spec: { schedulerName: "volcano" } })),
  ],
  [
    "scheduler-name",
    "fail",
    /default\/m is left to default-scheduler and other/,
    withObjects(deployment("d", { role: "decode" }), pod("p-1", { spec: { schedulerName: "other" } })),
  ],
  [
    "scheduler-name",
    "ok",
    /one scheduler/,
    withObjects(pod("d-1", { model: "another", spec: { schedulerName: "volcano" } })),
  ],
  [
    "multi-scheduler",
    "fail",
    /MULTI_SCHEDULER_ENABLE is true in Deployment volcano-system\/vs/,
    withObjects(scheduler("vs", { env: [{ name: "MULTI_SCHEDULER_ENABLE", value: "true" }] })),
  ],
  [
    "multi-scheduler",
    "fail",
    /several schedulers answer to volcano: Deployment volcano-system\/a, /,
    withObjects(scheduler("a", { command: ["/vc-scheduler"] }), scheduler("b", { image: "vc-scheduler:1" })),
  ],
  [
    "multi-scheduler",
    "ok",
    /one scheduler of Volcano: Deployment volcano-system\/a/,
    withObjects(
      scheduler("a", { command: ["/vc-scheduler"] }),
      scheduler("b", { args: ["vc-scheduler", "--scheduler-name=batch"] }),
    ),
  ],
  [
    "topology",
    "fail",
    /no node carries a label of topology\.levels, and default\/p requires/,
    withObjects(required),
    { config: labels },
  ],
  [
    "topology",
    "fail",
    /there are no HyperNodes, and default\/p requires a topology/,
    [],
    { objects: flat(withObjects(required)) },
  ],
  ["topology", "warn", /there are no HyperNodes$/, [], { objects: flat(HEALTHY) }],
  ["topology", "skip", /no HyperNode was given/, without("HyperNode")],
  ["topology", "warn", /1 of 5 nodes lie in no domain: lonely/, withObjects(node("lonely"))],
  [
    "hypernodes",
    "fail",
    /rack-1: node r0n0 already belongs to rack-0/,
    withObjects(hyperNode("rack-1", 1, members("r0n0", "r1n0", "r1n1"))),
  ],
  [
    "hypernodes",
    "fail",
    /a cycle is cut here/,
    withObjects(hyperNode("rack-0", 1, [{ type: "HyperNode", selector: { exactMatch: { name: "spine-0" } } }])),
  ],
  [
    "hypernodes",
    "fail",
    /member node gone does not exist/,
    withObjects(hyperNode("rack-1", 1, members("gone", "r1n0", "r1n1"))),
  ],
  ["held-pods", "fail", /default\/held is held by tandem\.sh\/gang since/, withObjects(gated(11))],
  ["held-pods", "ok", /no pod is held/, withObjects(gated(9))],
  ["held-pods", "ok", /no pod is held/, withObjects(gated(60, {}, "kueue.x-k8s.io/admission"))],
  [
    "held-pods",
    "warn",
    /default\/held waits for room since/,
    withObjects(gated(11, { "status.tandem.sh/waiting": "2026-06-01T11:40:00Z" })),
  ],
  [
    "extender",
    "skip",
    /no scheduler configuration names Tandem's extender/,
    HEALTHY,
    scheduled({ urlPrefix: "https://hami.kube-system.svc:443" }),
  ],
  ["extender", "fail", /serves the extender under \/extender/, HEALTHY, scheduled(to("/extenders"))],
  ["extender", "warn", /the Service has port 443 alone/, HEALTHY, scheduled(to(":9443/extender"))],
  ["extender", "ok", /stands in/, HEALTHY, scheduled(to(".cluster.local/extender"))],
  [
    "extender-verbs",
    "fail",
    /filterVerb is "predicate"; Tandem serves filter/,
    HEALTHY,
    scheduled({ filterVerb: "predicate" }),
  ],
  ["extender-verbs", "fail", /prioritizeVerb is ""/, HEALTHY, scheduled({ prioritizeVerb: "" })],
  ["extender-verbs", "warn", /preemptVerb is ""/, HEALTHY, scheduled({ preemptVerb: "" })],
  [
    "extender-verbs",
    "fail",
    /preemptVerb is "evict"; Tandem serves preempt/,
    HEALTHY,
    scheduled({ preemptVerb: "evict" }),
  ],
  ["extender-verbs", "fail", /bindVerb is "assume"/, HEALTHY, scheduled({ bindVerb: "assume" })],
  ["extender-node-cache", "fail", /nodeCacheCapable/, HEALTHY, scheduled({ nodeCacheCapable: false })],
  ["extender-ignorable", "fail", /ignorable is true/, HEALTHY, scheduled({ ignorable: true })],
  ["extender-resources", "warn", /managedResources is empty/, HEALTHY, scheduled({ managedResources: [] })],
  [
    "extender-resources",
    "fail",
    /pods with nvidia\.com\/gpu pass by/,
    HEALTHY,
    scheduled({ managedResources: [{ name: "amd.com/gpu", ignoredByScheduler: false }] }),
  ],
  [
    "extender-resources",
    "fail",
    /ignoredByScheduler of nvidia\.com\/gpu/,
    HEALTHY,
    scheduled({ managedResources: [{ name: "nvidia.com/gpu", ignoredByScheduler: true }] }),
  ],
  ["extender-weight", "fail", /weight is missing/, HEALTHY, scheduled({ weight: undefined })],
  ["extender-weight", "warn", /weight 1 is below 5/, HEALTHY, scheduled({ weight: 1 })],
  ["extender-timeout", "fail", /missing, so 5s/, HEALTHY, scheduled({ httpTimeout: "" })],
  ["extender-timeout", "fail", /httpTimeout is 30s/, HEALTHY, scheduled({ httpTimeout: "30s" })],
  ["extender-timeout", "fail", /"2" is no duration/, HEALTHY, scheduled({ httpTimeout: "2" })],
  ["extender-timeout", "ok", /2 s/, HEALTHY, scheduled({ httpTimeout: "1s500ms" })],
  ["extender-tls", "fail", /enableHTTPS is not true/, HEALTHY, scheduled({ enableHttps: false })],
  ["extender-tls", "fail", /is not https/, HEALTHY, scheduled({ urlPrefix: "http://127.0.0.1:9443/extender" })],
  ["extender-tls", "fail", /has no CA/, HEALTHY, scheduled({ caFile: "" })],
  ["extender-tls", "fail", /insecure/, HEALTHY, scheduled({ insecure: true })],
  ["extender-tls", "fail", /caData holds no certificate/, without("Secret"), scheduled({ caData: "not a PEM" })],
  ["extender-tls", "fail", /caData did not sign/, HEALTHY, scheduled({ caData: stranger.certificate })],
  ["extender-tls", "warn", /about to be replaced/, without("Secret"), { ...pinned, ...at(230 * DAY) }],
  ["extender-tls", "ok", /verified/, HEALTHY, { ...pinned, ...at(20 * DAY) }],
  [
    "extender-nodes",
    "warn",
    /percentageOfNodesToScore of default-scheduler is missing/,
    HEALTHY,
    percentage(undefined),
  ],
  ["extender-nodes", "fail", /is 50/, [...HEALTHY, ...manyNodes], percentage(50)],
  [
    "extender-reachable",
    "fail",
    /connection refused/,
    HEALTHY,
    { reached: new Map([[SHIPPED.extenders[0]!.urlPrefix, { ok: false, message: "connection refused" }]]) },
  ],
  ["extender-reachable", "skip", /nothing was called/, HEALTHY, { reached: new Map() }],
];

for (const [check, state, message, objects, more] of ROWS)
  t.test(`${check}: ${message.source}`, (t) => {
    const found = finding(factsOf(objects, more), check);
    t.equal(found?.state, state);
    t.match(found?.message, message);
    if (state === "warn" || state === "fail") t.equal(found?.hint, HINTS[found?.reason as keyof typeof HINTS]);
    if (state === "warn" || state === "fail") t.type(found?.hint, "string");
    t.end();
  });

t.test("every check is made to fail or warn by a row", (t) => {
  const covered = new Set(ROWS.filter(([, state]) => state === "fail" || state === "warn").map(([check]) => check));
  t.same(
    CHECKS.map(({ name }) => name).filter((name) => !covered.has(name)),
    ["volcano-extender"],
  );
  t.end();
});

t.test("objects that say nothing, or nonsense, stop no check", (t) => {
  const odd = [undefined, null, 3, "x", [], {}, [null], [3, {}]];
  const kinds = [
    "PodGroup",
    "Queue",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "EndpointSlice",
    "Secret",
  ];
  for (const value of odd) {
    const objects = kinds.map((kind) => ({
      apiVersion: "v1",
      kind,
      metadata: { name: kind === "Secret" ? "tandem-webhook-tls" : "tandem", namespace: "tandem-system" },
      ...{ spec: value, status: value, webhooks: value, endpoints: value, data: value },
    }));
    t.equal(examine(factsOf(withObjects(...objects))).length, CHECKS.length, JSON.stringify(value));
  }
  t.end();
});
