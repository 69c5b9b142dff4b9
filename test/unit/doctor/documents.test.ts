import t from "tap";
import { parse } from "yaml";
import { documentsOf, durationMs, isConfiguration, isOurs } from "../../../src/doctor/documents.ts";
import { BUILT_IN } from "../../../src/profiles/devices.ts";
import { SHIPPED } from "../../support/doctor.ts";

const VOLCANO_CONF = `actions: "enqueue, allocate, backfill"
tiers:
- plugins:
  - name: priority
  - name: gang
    enablePreemptable: false
- plugins:
  - name: predicates
  - name: network-topology-aware
    arguments: { weight: 10 }
`;

const configMap = (data: Record<string, unknown>): unknown => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "volcano-scheduler-configmap", namespace: "volcano-system" },
  data,
});

t.test("Volcano's configuration, as a file and in a ConfigMap", (t) => {
  const plugins = ["priority", "gang", "predicates", "network-topology-aware"];
  t.same(documentsOf(parse(VOLCANO_CONF), "file").volcano, [{ source: "file", plugins }]);
  t.same(documentsOf(configMap({ "volcano-scheduler.conf": VOLCANO_CONF }), "").volcano, [
    { source: "ConfigMap volcano-system/volcano-scheduler-configmap, volcano-scheduler.conf", plugins },
  ]);
  t.end();
});

t.test("Volcano's plugin extender, where it calls Tandem", (t) => {
  const conf = (given: unknown, ...before: string[]): unknown => ({
    actions: "allocate",
    tiers: [{ plugins: [...before.map((name) => ({ name })), { name: "extender", arguments: given }] }],
  });
  const found = (given: unknown, ...before: string[]): unknown =>
    documentsOf(conf(given, ...before), "file").volcano[0]?.extenders;
  const urlPrefix = { "extender.urlPrefix": "http://tandem-volcano.tandem-system.svc:9444/volcano/" };
  t.match(found({ ...urlPrefix, "extender.ignorable": "true", "extender.jobReadyVerb": "jobReady" }, "gang"), [
    {
      ignorable: true,
      verbs: new Map([["jobReady", "jobReady"]]),
      before: ["gang"],
      httpTimeout: "",
      managedResources: [],
    },
  ]);
  t.match(found({ ...urlPrefix, "extender.managedResources": "a,b" }), [{ managedResources: undefined, before: [] }]);
  t.equal(found({ "extender.urlPrefix": "http://other:80/x" }), undefined, "another's extender");
  for (const odd of [null, 3, {}, { "extender.urlPrefix": 3 }, { "extender.urlPrefix": "::" }])
    t.equal(found(odd), undefined);
  t.end();
});

t.test("a KubeSchedulerConfiguration: profiles override the percentage", (t) => {
  const { schedulers } = documentsOf(
    {
      kind: "KubeSchedulerConfiguration",
      percentageOfNodesToScore: 100,
      profiles: [{ schedulerName: "a", percentageOfNodesToScore: 10 }, {}],
      extenders: [{ urlPrefix: "https://h/extender", tlsConfig: { caData: Buffer.from("PEM").toString("base64") } }],
    },
    "file",
  );
  t.same(schedulers[0]?.profiles, [
    { name: "a", percentage: 10 },
    { name: "default-scheduler", percentage: 100 },
  ]);
  t.match(schedulers[0]?.extenders, [{ caData: "PEM", weight: undefined, httpTimeout: "", nodeCacheCapable: false }]);
  t.end();
});

t.test("what is no configuration is none, however odd", (t) => {
  for (const value of [null, 3, "x", [], {}, { kind: "Pod" }, { tiers: [] }, { kind: "ConfigMap", metadata: {} }])
    t.same(documentsOf(value, "file"), { volcano: [], schedulers: [] });
  const texts = { a: "kind: [", b: "actions: &a [*a]", c: 3, d: "kind: Pod", e: "actions: x\ntiers: y" };
  t.same(documentsOf(configMap(texts), ""), { volcano: [], schedulers: [] });
  const odd = {
    kind: "KubeSchedulerConfiguration",
    profiles: 3,
    extenders: [null, { managedResources: {}, tlsConfig: 1 }],
  };
  t.ok(isConfiguration(odd));
  t.match(documentsOf(odd, "file").schedulers, [{ extenders: [{ urlPrefix: "", managedResources: [] }] }]);
  t.end();
});

t.test("entries of others are not ours", (t) => {
  const entry = SHIPPED.extenders[0]!;
  t.ok(isOurs(entry));
  for (const urlPrefix of ["https://h:443", "https://h/scheduler", "extender", ""])
    t.notOk(isOurs({ ...entry, urlPrefix }));
  t.end();
});

t.test("durations in Go's notation", (t) => {
  for (const [text, ms] of [
    ["1s", 1000],
    ["1m30s", 90_000],
    ["500ms", 500],
    ["1.5s", 1500],
    ["0s", 0],
    ["2", undefined],
    ["", undefined],
    ["1 s", undefined],
    ["-1s", undefined],
  ] as const)
    t.equal(durationMs(text), ms, text);
  t.end();
});

t.test("the shipped configuration manages every device that a built-in profile asks for by one name", (t) => {
  const managed = new Set(SHIPPED.extenders[0]?.managedResources.map(({ name }) => name));
  const resources = BUILT_IN.map(({ resource }) => resource).filter((resource) => !resource.includes("*"));
  t.same(
    resources.filter((resource) => !managed.has(resource)),
    [],
  );
  t.end();
});
