/** The component that lets Volcano ask Tandem: one port from the listener to the scheduler's configuration. */
import t from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { parseListen } from "../../../src/config/listen.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { UNREAD, VERBS } from "../../../src/extender/volcano/verbs.ts";
import type { Workload } from "../../../src/kinds/kube.ts";
import { readObjects } from "../../../src/cli/input.ts";

const MANIFESTS = join(import.meta.dirname, "..", "..", "..", "manifests");
const COMPONENT = join(MANIFESTS, "components", "volcano-extender");
const yaml = (file: string): unknown => parse(readFileSync(join(COMPONENT, file), "utf8"));

interface Operation {
  readonly path: string;
  readonly value: { readonly name: string; readonly value?: string; readonly containerPort?: number };
}

const operations = (): readonly Operation[] => {
  const { patches } = yaml("kustomization.yaml") as { patches: { patch: string }[] };
  return parse(patches[0]?.patch ?? "") as Operation[];
};

interface Plugin {
  readonly name: string;
  readonly arguments?: Record<string, unknown>;
}

const plugin = (): Record<string, unknown> => {
  const { tiers } = yaml("volcano-scheduler.conf") as { tiers: { plugins: Plugin[] }[] };
  return tiers.flatMap(({ plugins }) => plugins).find(({ name }) => name === "extender")?.arguments ?? {};
};

t.test("off unless configured", (t) => {
  t.equal(loadConfig({ text: "", name: "t" }).extender.volcanoListen, "");
  const { spec } = readObjects([join(MANIFESTS, "base", "admission.yaml")])[0] as Workload;
  t.notMatch(JSON.stringify(spec.template), /9444|VOLCANO/);
  t.end();
});

t.test("listener, container, Service, policy and configuration agree on the port", (t) => {
  const [env, opened] = operations();
  t.equal(env?.value.name, "TANDEM_EXTENDER_VOLCANO_LISTEN");
  const port = parseListen(env?.value.value ?? "")?.port;
  t.equal(opened?.value.containerPort, port);
  const service = yaml("service.yaml") as {
    metadata: { name: string };
    spec: { ports: object[]; sessionAffinity: string };
  };
  t.match(service.spec, { ports: [{ port, targetPort: opened?.value.name }], sessionAffinity: "ClientIP" });
  const url = new URL(String(plugin()["extender.urlPrefix"]));
  t.equal(url.host, `${service.metadata.name}.tandem-system.svc:${port}`);
  t.end();
});

t.test("the policy keeps the base's ports open, and this one for Volcano's scheduler alone", (t) => {
  type Rule = { readonly from?: unknown[]; readonly ports: { readonly port: string }[] };
  const { spec } = yaml("network-policy.yaml") as { spec: { ingress: readonly Rule[] } };
  const open = spec.ingress.filter(({ from }) => from === undefined).flatMap(({ ports }) => ports);
  t.same(
    open.map(({ port }) => port),
    ["webhook", "metrics"],
  );
  const rest = spec.ingress.filter(({ from }) => from !== undefined);
  t.same(
    rest.flatMap(({ ports }) => ports.map(({ port }) => port)),
    ["volcano"],
  );
  t.end();
});

t.test("the shipped configuration asks for verbs that are served, by their own names", (t) => {
  const asked = Object.entries(plugin()).filter(([key]) => key.endsWith("Verb"));
  const served = new Set([...Object.keys(VERBS), ...Object.keys(UNREAD)]);
  for (const [key, verb] of asked) {
    t.equal(key, `extender.${String(verb)}Verb`);
    t.ok(served.has(String(verb)), key);
  }
  t.equal(asked.length, 5);
  t.end();
});
