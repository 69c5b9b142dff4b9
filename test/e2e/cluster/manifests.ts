/** The manifests that users install, rendered by the harness' kubectl, and fitted to a cluster without a service network. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseObjects } from "../../../src/cli/input.ts";
import type { JsonObject, KubeObject } from "../../../src/kinds/kube.ts";
import { kubernetesBinaries } from "./binaries.ts";
import { kubectlOf } from "./kubectl.ts";
import { REPOSITORY } from "./paths.ts";

/** YAML of a kustomization below `manifests/`, as `overlays/dev`. */
export async function renderText(kustomization: string): Promise<string> {
  const kubectl = kubectlOf((await kubernetesBinaries()).kubectl, { home: tmpdir() });
  const { code, stdout, stderr } = await kubectl(["kustomize", join(REPOSITORY, "manifests", kustomization)]);
  if (code !== 0) throw new Error(`kubectl kustomize ${kustomization}: ${stderr}`);
  return stdout;
}

export const render = async (kustomization: string): Promise<KubeObject[]> =>
  parseObjects(await renderText(kustomization), kustomization);

const isWebhook = ({ kind }: KubeObject): boolean => kind.endsWith("WebhookConfiguration");

/**
 * The webhook configurations of `objects`, reaching `url` (as `https://127.0.0.1:PORT`) instead of a Service. Without
 * `ca` (PEM) the bundle is left for the controller to fill.
 */
export function webhooksByUrl(objects: readonly KubeObject[], url: string, ca?: string): KubeObject[] {
  const bundle = ca === undefined ? {} : { caBundle: Buffer.from(ca).toString("base64") };
  return objects.filter(isWebhook).map((object) => ({
    ...object,
    webhooks: (object["webhooks"] as JsonObject[]).map((hook) => {
      const { service } = hook["clientConfig"] as { service: { path: string } };
      return { ...hook, clientConfig: { url: `${url}${service.path}`, ...bundle } };
    }),
  }));
}

/** Identities and rights of `objects`, without the pods and what stands before them: kwok would pretend to run those. */
export const withoutPods = (objects: readonly KubeObject[]): KubeObject[] =>
  objects.filter(
    (object) => !isWebhook(object) && !["Deployment", "Service", "PodDisruptionBudget"].includes(object.kind),
  );
