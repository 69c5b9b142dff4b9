/** What the manifests say must fit what the program does: configuration keys, names, ports, rights. */
import t from "tap";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { readObjects, readText } from "../../../src/cli/input.ts";
import { parseListen } from "../../../src/config/listen.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Container, KubeObject, Workload } from "../../../src/kinds/kube.ts";

const BASE = join(import.meta.dirname, "..", "..", "..", "manifests", "base");
/** Files that are no objects of a cluster. */
const NO_OBJECTS = new Set(["kustomization.yaml", "tandem.yaml"]);
const config = loadConfig({ text: readText(join(BASE, "tandem.yaml")), name: "tandem.yaml" });
const objects = readObjects(
  readdirSync(BASE)
    .filter((file) => !NO_OBJECTS.has(file))
    .map((file) => join(BASE, file)),
);
const ofKind = (kind: string): KubeObject[] => objects.filter((object) => object.kind === kind);
const named = (kind: string, name: string): KubeObject => {
  const found = ofKind(kind).find(({ metadata }) => metadata.name === name);
  if (found === undefined) throw new Error(`no ${kind} ${name}`);
  return found;
};

interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
  resourceNames?: string[];
}
const rulesOf = (object: KubeObject): Rule[] => object["rules"] as Rule[];

interface Webhook {
  name: string;
  failurePolicy: string;
  timeoutSeconds: number;
  sideEffects: string;
  clientConfig: { service: { namespace: string; name: string; path: string } };
  namespaceSelector: { matchExpressions: { operator: string; values: string[] }[] };
  rules: { resources: string[]; operations: string[] }[];
}

const engine = (workload: KubeObject): Container => (workload as Workload).spec.template.spec.containers[0]!;
const portOf = (listen: string): number | undefined => parseListen(listen)?.port;

t.test("containers open the ports that the configuration listens on", (t) => {
  const ports: Record<string, string[]> = {
    admission: [config.admission.listen],
    controller: [],
    autoscaler: [],
    router: [config.router.listen, config.router.healthListen, config.router.replicas.listen],
  };
  for (const [component, listens] of Object.entries(ports)) {
    const expected = [...listens, config.metrics.listen, config.admin.listen].map(portOf);
    const container = engine(named("Deployment", `tandem-${component}`));
    t.same(
      container.ports?.map(({ containerPort }) => containerPort),
      expected,
      component,
    );
  }
  t.end();
});

t.test("pods are of the restricted kind and stop in time", (t) => {
  for (const workload of ofKind("Deployment") as Workload[]) {
    const { spec } = workload.spec.template;
    t.match(spec["securityContext"], { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    t.match(engine(workload)["securityContext"], {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    t.ok(spec.terminationGracePeriodSeconds! >= 30, workload.metadata.name ?? "");
  }
  t.end();
});

t.test("nobody gets a wildcard, and writing rights are the controller's and the autoscaler's alone", (t) => {
  const reading = new Set(["get", "list", "watch"]);
  const writers = ["tandem-controller", "tandem-autoscaler"];
  for (const role of [...ofKind("ClusterRole"), ...ofKind("Role")])
    for (const rule of rulesOf(role)) {
      t.notOk([...rule.apiGroups, ...rule.resources, ...rule.verbs].includes("*"), `${role.metadata.name ?? ""}: no *`);
      if (!writers.includes(role.metadata.name ?? "")) t.ok(rule.verbs.every((verb) => reading.has(verb)));
    }
  const secrets = ofKind("ClusterRole").flatMap(rulesOf);
  t.notOk(
    secrets.some(({ resources }) => resources.includes("secrets")),
    "no Secret outside tandem-system",
  );
  t.end();
});

/** Numbers, and nothing else of the workload. */
const isScale = (resource: string): boolean => resource.endsWith("/scale");

t.test("nobody may get what it only watches", (t) => {
  // Read one by one: the webhook configurations, the certificates' Secrets and the Leases, each by its name.
  for (const role of [...ofKind("ClusterRole"), ...ofKind("Role")])
    for (const rule of rulesOf(role).filter(
      ({ verbs, resources }) => verbs.includes("get") && !resources.every(isScale),
    ))
      t.ok(rule.resourceNames !== undefined, `${role.metadata.name ?? ""}: ${rule.resources.join()}`);
  t.end();
});

/** Its definition says which fields PodGroups have in this cluster. */
const PODGROUPS = "podgroups.scheduling.volcano.sh";

t.test("rights name the objects that the configuration names", (t) => {
  const names = (kind: string, name: string): string[] =>
    rulesOf(named(kind, name)).flatMap(({ resourceNames }) => resourceNames ?? []);
  t.same(names("Role", "tandem-admission"), [config.admission.certificates.secret]);
  const { secret } = config.admission.certificates;
  t.same(names("Role", "tandem-controller"), [secret, `${secret}-authority`, config.controller.lease]);
  t.same(names("ClusterRole", "tandem-controller"), [PODGROUPS, config.controller.webhookConfiguration]);
  t.equal(named("Role", "tandem-controller").metadata.namespace, config.controller.namespace);
  t.same(names("Role", "tandem-autoscaler"), [config.autoscaler.lease]);
  t.same(names("ClusterRole", "tandem-autoscaler"), []);
  t.end();
});

t.test("webhooks are narrow, open, fast, and lead to the Service in the certificate", (t) => {
  const { webhookConfiguration: name, service, namespace } = config.controller;
  const paths = {
    MutatingWebhookConfiguration: "/admission/mutate",
    ValidatingWebhookConfiguration: "/admission/validate",
  };
  for (const kind of ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] as const) {
    const hooks = named(kind, name)["webhooks"] as Webhook[];
    t.equal(hooks.length, 1);
    const hook = hooks[0]!;
    t.match(hook, { failurePolicy: "Ignore", sideEffects: "None", timeoutSeconds: 1 });
    t.match(hook.clientConfig.service, { namespace, name: service, path: paths[kind] });
    t.same(
      hook.rules.map(({ resources, operations }) => ({ resources, operations })),
      [
        { resources: ["deployments", "statefulsets"], operations: ["CREATE", "UPDATE"] },
        { resources: ["leaderworkersets"], operations: ["CREATE", "UPDATE"] },
        { resources: ["pods"], operations: ["CREATE"] },
      ],
    );
    t.same(hook.namespaceSelector.matchExpressions[0], {
      key: "kubernetes.io/metadata.name",
      operator: "NotIn",
      values: ["kube-system", "kube-node-lease", namespace],
    });
  }
  t.ok(named("Service", service));
  t.end();
});

t.test("with cert-manager all is configured as without, but for certificates", (t) => {
  const file = join(BASE, "..", "overlays", "cert-manager", "tandem.yaml");
  const other = loadConfig({ text: readText(file), name: file });
  t.equal(other.admission.certificates.issuer, "external");
  t.same({ ...other, admission: config.admission }, config);
  t.same({ ...other.admission, certificates: config.admission.certificates }, config.admission);
  t.end();
});
