/** The audit log of the test cluster's API server: what admission told it, and who wrote what when. */
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeObject } from "../../../src/kinds/kube.ts";

export interface AuditEvent {
  readonly verb: string;
  readonly user: { readonly username: string; readonly extra?: Readonly<Record<string, readonly string[]>> };
  /** RFC 3339, by the API server's clock: when the request came, and when it was answered. */
  readonly requestReceivedTimestamp: string;
  readonly stageTimestamp: string;
  readonly objectRef: { readonly resource: string; readonly namespace?: string; readonly name?: string };
  readonly responseStatus?: { readonly code: number };
  readonly annotations?: Readonly<Record<string, string>>;
  /** Of the autoscaler's writes of its Lease alone. */
  readonly requestObject?: KubeObject;
}

/** Its user name. */
export const AUTOSCALER = "system:serviceaccount:tandem-system:tandem-autoscaler";
const WRITES = ["create", "update", "patch", "delete"];

const POLICY = {
  apiVersion: "audit.k8s.io/v1",
  kind: "Policy",
  omitStages: ["RequestReceived"],
  rules: [
    {
      level: "Request",
      users: [AUTOSCALER],
      verbs: WRITES,
      resources: [{ group: "coordination.k8s.io", resources: ["leases"] }],
    },
    { level: "Metadata", users: [AUTOSCALER], verbs: WRITES },
    {
      level: "Metadata",
      verbs: ["create", "update", "patch"],
      resources: [{ group: "apps" }, { group: "", resources: ["pods"] }],
    },
    { level: "None" },
  ],
};

const logOf = (folder: string): string => join(folder, "audit.log");

/** Flags of kube-apiserver; its policy is written into the cluster's folder. */
export function auditFlags(folder: string): Record<string, string> {
  const policy = join(folder, "audit-policy.yaml");
  writeFileSync(policy, JSON.stringify(POLICY));
  return { "audit-policy-file": policy, "audit-log-path": logOf(folder) };
}

/** All events so far; empty without an audit log. An event stands there before its request is answered. */
export function auditEvents(folder: string): AuditEvent[] {
  if (!existsSync(logOf(folder))) return [];
  const lines = readFileSync(logOf(folder), "utf8").split("\n");
  // The last line may be half written.
  return lines.slice(0, -1).map(parsed);
}

const parsed = (line: string): AuditEvent => JSON.parse(line) as AuditEvent;
const TAIL_BYTES = 256 * 1024;

/** The last of them: some hundred. */
export function lastAuditEvents(folder: string): AuditEvent[] {
  const log = openSync(logOf(folder), "r");
  const from = Math.max(0, fstatSync(log).size - TAIL_BYTES);
  const tail = Buffer.alloc(TAIL_BYTES);
  const read = readSync(log, tail, 0, TAIL_BYTES, from);
  closeSync(log);
  const lines = tail.toString("utf8", 0, read).split("\n");
  return lines.slice(from === 0 ? 0 : 1, -1).map(parsed);
}

/** Which of the tokens of one ServiceAccount a request came with. */
export const credentialOf = ({ user }: AuditEvent): string =>
  user.extra?.["authentication.kubernetes.io/credential-id"]?.[0] ?? "";

/** The credential of a kubeconfig that `kubeconfigFor` wrote. */
export function credentialIn(kubeconfig: string): string {
  const { users } = JSON.parse(readFileSync(kubeconfig, "utf8")) as { users: { user: { token: string } }[] };
  const claims = Buffer.from(users[0]?.user.token.split(".")[1] ?? "", "base64url").toString("utf8");
  return `JTI=${(JSON.parse(claims) as { jti: string }).jti}`;
}
