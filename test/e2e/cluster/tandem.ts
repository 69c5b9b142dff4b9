/**
 * Tandem itself in the test cluster: the bundled program, one process a role as the manifests run it, each under the
 * ServiceAccount and with the configuration of the dev overlay; only addresses differ.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject, KubeObject } from "../../../src/kinds/kube.ts";
import type { Cluster } from "./control-plane.ts";
import { render, webhooksByUrl, withoutPods } from "./manifests.ts";
import { REPOSITORY } from "./paths.ts";
import { eventually, ready, startProcess, type Running } from "./process.ts";
import { freePorts } from "../../support/ports.ts";

const NAMESPACE = "tandem-system";
export const PROGRAM = join(REPOSITORY, "dist", "tandem.js");

export interface Tandem {
  /** `ip:port` of ext_proc. */
  readonly router: string;
  /** `https://ip:port` of webhooks and extender. */
  readonly webhooks: string;
  readonly authority: string;
  readonly metrics: Readonly<Record<Role, string>>;
  readonly logs: () => string;
  /** Ends one role and leaves the others. */
  readonly stopRole: (role: Role) => Promise<void>;
  readonly stop: () => Promise<void>;
}

type Role = "admission" | "controller" | "router" | "autoscaler";

/** Runs a command of the program as an administrator would. */
export const tandem = (cluster: Cluster, args: readonly string[]): string =>
  execFileSync(process.execPath, [PROGRAM, ...args], {
    encoding: "utf8",
    env: { PATH: process.env["PATH"], KUBECONFIG: cluster.kubeconfig },
    maxBuffer: 64 * 1024 * 1024,
  });

export function buildProgram(): void {
  execFileSync(process.execPath, [join(REPOSITORY, "scripts", "build.ts")], { stdio: "inherit" });
}

/** Installs the dev overlay and starts its roles; resolves when all are ready and the webhooks are registered. */
export async function startTandem(cluster: Cluster, settings: readonly string[] = []): Promise<Tandem> {
  const objects = await render("overlays/dev");
  await cluster.apply(withoutPods(objects));
  const file = join(cluster.folder, "tandem.yaml");
  writeFileSync(file, configurationOf(objects));
  const [webhook = 0, extProc = 0, health = 0] = await freePorts(3);
  const webhooks = `https://127.0.0.1:${webhook}`;
  await cluster.apply(webhooksByUrl(objects, webhooks));
  const start = (role: Role, roles: string, set: readonly string[]): ReturnType<typeof startRole> =>
    startRole(cluster, { role, roles, file, set: [...set, ...settings] });
  const started = await Promise.all([
    start("controller", "controller", ["controller.alternativeNames=127.0.0.1"]),
    start("admission", "admission,extender", [`admission.listen=127.0.0.1:${webhook}`]),
    start("router", "router", [
      `router.listen=127.0.0.1:${extProc}`,
      `router.healthListen=127.0.0.1:${health}`,
      // Of the Pod, where there is one.
      "router.callbacks.advertise=127.0.0.1",
    ]),
  ]);
  const authority = await eventually("the webhooks' authority", () => authorityOf(cluster));
  return {
    router: `127.0.0.1:${extProc}`,
    webhooks,
    authority,
    metrics: Object.fromEntries(started.map(({ role, metrics }) => [role, metrics])) as Tandem["metrics"],
    logs: () => started.map(({ running }) => `--- ${running.name}\n${running.tail()}`).join("\n"),
    stopRole: async (role) => {
      await started.find((one) => one.role === role)?.running.stop();
    },
    stop: async () => {
      await Promise.all(started.map(({ running }) => running.stop()));
    },
  };
}

/** `tandem.yaml` of rendered manifests. */
export function configurationOf(objects: readonly KubeObject[]): string {
  const map = objects.find(
    ({ kind, metadata }) => kind === "ConfigMap" && metadata.name?.startsWith("tandem-configuration"),
  );
  return (map?.["data"] as JsonObject | undefined)?.["tandem.yaml"] as string;
}

export interface RoleSpec {
  readonly role: Role;
  /** Value of `--role`. */
  readonly roles: string;
  readonly file: string;
  readonly set: readonly string[];
  /** Beside the environment of this process. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Path of the kubeconfig, made from that of its ServiceAccount; default: that itself. */
  readonly kubeconfigOf?: (own: string) => string;
}

/** One process; resolves when it is ready. */
export async function startRole(
  cluster: Cluster,
  { role, roles, file, set, environment = {}, kubeconfigOf = (own) => own }: RoleSpec,
): Promise<{ role: Role; running: Running; metrics: string; kubeconfig: string }> {
  const kubeconfig = kubeconfigOf(await cluster.kubeconfigFor(NAMESPACE, `tandem-${role}`));
  const [metrics = 0, admin = 0] = await freePorts(2);
  const settings = [
    `cluster.kubeconfig=${kubeconfig}`,
    `metrics.listen=127.0.0.1:${metrics}`,
    `admin.listen=127.0.0.1:${admin}`,
    ...set,
  ];
  const args = [PROGRAM, "serve", "--config", file, "--role", roles, ...settings.flatMap((each) => ["--set", each])];
  const program = { name: `tandem-${role}`, command: process.execPath, args };
  const running = startProcess({ ...program, folder: cluster.folder, environment });
  await ready(running, async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok);
  return { role, running, metrics: `http://127.0.0.1:${metrics}/metrics`, kubeconfig };
}

/** The bundle that the controller wrote into the webhook configuration. */
export async function authorityOf(cluster: Cluster): Promise<string | undefined> {
  const path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/tandem";
  const { webhooks } = (await cluster.api.get(path)) as unknown as {
    webhooks: { clientConfig: { caBundle?: string } }[];
  };
  const bundle = webhooks[0]?.clientConfig.caBundle;
  return bundle === undefined ? undefined : Buffer.from(bundle, "base64").toString("utf8");
}
