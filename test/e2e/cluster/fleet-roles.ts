/**
 * Tandem's controller and extender beside a fleet: real processes under their ServiceAccounts, with the configuration of
 * the dev overlay. No webhook is registered, so that filling the cluster calls none; the controller acts everywhere.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import type { Cluster } from "./control-plane.ts";
import { render, withoutPods } from "./manifests.ts";
import { eventually, type Running } from "./process.ts";
import type { Answering } from "./shipped.ts";
import { configurationOf, startRole } from "./tandem.ts";
import { freePorts } from "../../support/ports.ts";

export interface FleetRole {
  readonly running: Running;
  /** URL of its metrics. */
  readonly metrics: string;
}

export interface FleetExtender extends FleetRole {
  readonly answering: Answering;
}

export interface FleetRoles {
  /** Resolves when it is ready. */
  startController(set?: readonly string[]): Promise<FleetRole>;
  /** The controller must have run before: it makes the certificate. */
  startExtender(set?: readonly string[]): Promise<FleetExtender>;
}

const SECRET = "/api/v1/namespaces/tandem-system/secrets/tandem-webhook-tls";

async function authority(cluster: Cluster): Promise<string> {
  return eventually("the controller's certificate", async () => {
    const secret = (await cluster.api.get(SECRET)) as KubeObject & { data?: Record<string, string> };
    const ca = secret.data?.["ca.crt"];
    return ca === undefined ? undefined : Buffer.from(ca, "base64").toString("utf8");
  });
}

/** Identities, rights and configuration; starts nothing. */
export async function installFleet(cluster: Cluster): Promise<FleetRoles> {
  const objects = await render("overlays/dev");
  await cluster.apply(withoutPods(objects));
  const file = join(cluster.folder, "tandem.yaml");
  writeFileSync(file, configurationOf(objects));
  return {
    startController: (set = []) =>
      startRole(cluster, {
        role: "controller",
        roles: "controller",
        file,
        set: ["controller.alternativeNames=127.0.0.1", "controller.webhookConfiguration=", ...set],
      }),
    startExtender: async (set = []) => {
      const [port = 0] = await freePorts(1);
      const own = [`admission.listen=127.0.0.1:${port}`, ...set];
      const role = await startRole(cluster, { role: "admission", roles: "admission,extender", file, set: own });
      return { ...role, answering: { url: `https://127.0.0.1:${port}`, ca: await authority(cluster) } };
    },
  };
}
