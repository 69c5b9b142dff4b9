import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { admitAll } from "../../../src/cli/admit.ts";
import type { KubeObject, StringMap } from "../../../src/kinds/kube.ts";
import { isDenied, isWarned } from "../../../src/kinds/verdict.ts";
import { nearest } from "../../../src/kinds/nearest.ts";
import { ALL_KEYS } from "../../../src/workload/keys.ts";

const OURS = { "tandem.sh/model": "m", "tandem.sh/role": "both" };

interface Metadata {
  readonly labels?: StringMap;
  readonly annotations?: StringMap;
}

const deployment = (own: Metadata, template: Metadata = {}, kind = "Deployment"): KubeObject => ({
  apiVersion: "apps/v1",
  kind,
  metadata: { name: "w", ...own },
  spec: { template: { metadata: template, spec: { containers: [{ name: "engine", image: "vllm/vllm-openai" }] } } },
});

const told = (object: KubeObject): string[] =>
  admitAll([object], loadConfig().admission, false).flatMap(({ result }) =>
    result.verdicts
      .filter((one) => isWarned(one) || isDenied(one))
      .map(({ reason, message }) => `${reason}: ${message}`),
  );

t.test("keys that nothing reads are warned about, with their place and the nearest key", (t) => {
  const template = (metadata: Metadata): KubeObject => deployment({ labels: OURS }, metadata);
  const table: [KubeObject, string[]][] = [
    [
      deployment({ labels: { "tandem.sh/modell": "m", "tandem.sh/role": "prefill" } }),
      [
        "UnknownKey: label tandem.sh/modell is unknown, did you mean tandem.sh/model?",
        "KeyMisplaced: tandem.sh/role is not read: the Deployment has no label tandem.sh/model",
      ],
    ],
    [
      deployment({ labels: { app: "x" }, annotations: { "tandem.sh/gang": "auto" } }),
      ["KeyMisplaced: tandem.sh/gang is not read: the Deployment has no label tandem.sh/model"],
    ],
    [
      deployment({ annotations: OURS }),
      [
        "UnknownKey: tandem.sh/model is read as label, not as annotation",
        "UnknownKey: tandem.sh/role is read as label, not as annotation",
      ],
    ],
    [
      deployment({}, { labels: OURS }),
      [
        "KeyMisplaced: tandem.sh/model of spec.template is not read for the Deployment: put it on the Deployment itself",
        "KeyMisplaced: tandem.sh/role of spec.template is not read for the Deployment: put it on the Deployment itself",
      ],
    ],
    [
      template({ annotations: { "tandem.sh/port": "8000", "tandem.sh/gagn": "off" } }),
      [
        "UnknownKey: annotation tandem.sh/gagn of spec.template is unknown, did you mean tandem.sh/gang?",
        "KeyMisplaced: tandem.sh/port of spec.template is not read for the Deployment: put it on the Deployment itself",
      ],
    ],
    [
      template({ labels: { ...OURS, "tandem.sh/cell": "1" } }),
      ["KeyMisplaced: tandem.sh/cell of spec.template is not read for the Deployment: put it on the Deployment itself"],
    ],
    [template({ labels: { ...OURS, "tandem.sh/group": "m", "tandem.sh/cell": "0" } }), []],
    [deployment({ labels: { "app.kubernetes.io/name": "x" }, annotations: { "example.com/model": "m" } }), []],
    [deployment({ labels: { "tandem.sh/modell": "m" } }, {}, "Service"), []],
    [
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { labels: { "tandem.sh/modle": "m" } },
        spec: { containers: [{ name: "e" }] },
      },
      ["UnknownKey: label tandem.sh/modle is unknown, did you mean tandem.sh/model?"],
    ],
  ];
  for (const [object, expected] of table) t.same(told(object), expected, JSON.stringify(object.metadata));
  t.end();
});

t.test("keys that mode route does not read are named in one warning", (t) => {
  const gang = { "tandem.sh/gang": "off", "tandem.sh/topology": "off", "tandem.sh/nodes-per-instance": "1" };
  const prefill = { ...OURS, "tandem.sh/role": "prefill" };
  const inMode = (mode: string, more: StringMap): KubeObject =>
    deployment({ labels: prefill, annotations: { "tandem.sh/mode": mode, ...more } });
  const route =
    "KeyUnused: mode route does not read tandem.sh/gang, tandem.sh/topology, tandem.sh/nodes-per-instance; only mode manage acts on that";
  t.same(told(inMode("route", gang)), [route]);
  t.same(told(deployment({ labels: OURS, annotations: gang })), [route], "by its role");
  t.same(told(inMode("route", { "tandem.sh/compat": "a", "tandem.sh/disruption": "budget" })), []);
  t.same(told(inMode("observe", gang)), []);
  t.same(told(inMode("manage", gang)), []);
  t.end();
});

t.test("of many strange keys a few are told", (t) => {
  const many = Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`tandem.sh/strange-${index}`, ""]));
  t.equal(told(deployment({ labels: OURS, annotations: many })).length, 8);
  t.end();
});

t.test("where Pods are admitted alone, a template may speak for itself", (t) => {
  const { admission } = loadConfig({ flags: { "admission.target": "pod" } });
  const [admitted] = admitAll([deployment({}, { labels: { ...OURS, "tandem.sh/gorup": "g" } })], admission, false);
  t.match(admitted?.result.verdicts, [{ reason: "NotOurs" }, { reason: "UnknownKey" }]);
  t.equal(admitted?.result.verdicts.length, 2);
  t.end();
});

t.test("the nearest key: of one slip, whichever it is", (t) => {
  const keys = ALL_KEYS.map(({ key }) => key);
  for (const slip of ["modle", "modell", "odel", "mdoel"])
    t.equal(nearest(`tandem.sh/${slip}`, keys), "tandem.sh/model");
  t.end();
});
