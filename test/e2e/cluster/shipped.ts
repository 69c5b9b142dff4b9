/** The scheduler configuration that the manifests ship, read as it is and fitted to a cluster without a service network. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import type { JsonObject } from "../../../src/kinds/kube.ts";
import { REPOSITORY } from "./paths.ts";

const FILE = join(REPOSITORY, "manifests", "components", "second-scheduler", "scheduler-configuration.yaml");

/** Who answers in the place of `https://tandem-webhook.tandem-system.svc:443`. */
export interface Answering {
  /** As `https://127.0.0.1:9443`. */
  readonly url: string;
  /** Certificate authority, PEM. */
  readonly ca: string;
}

export interface ShippedOptions {
  readonly kubeconfig: string;
  /** Undefined: without any extender. */
  readonly extender: Answering | undefined;
  /** Requests a second of the scheduler's client; default: kube-scheduler's own 50. */
  readonly qps?: number;
}

/** Only where things are is changed: addresses, authority, kubeconfig, no lease, and the scheduler goes by its usual name. */
export function shippedConfiguration({ kubeconfig, extender, qps }: ShippedOptions): JsonObject {
  const shipped = parse(readFileSync(FILE, "utf8")) as JsonObject & { extenders: readonly JsonObject[] };
  const clientConnection = { kubeconfig, ...(qps === undefined ? {} : { qps, burst: 2 * qps }) };
  const base = { ...shipped, clientConnection, leaderElection: { leaderElect: false }, profiles: [{}] };
  return { ...base, extenders: extender === undefined ? [] : shipped.extenders.map((one) => answering(one, extender)) };
}

const answering = (entry: JsonObject, { url, ca }: Answering): JsonObject => ({
  ...entry,
  urlPrefix: `${url}${new URL(String(entry["urlPrefix"])).pathname}`,
  tlsConfig: { caData: Buffer.from(ca).toString("base64") },
});
