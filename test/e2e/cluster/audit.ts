/** The audit log of the test cluster's API server: which annotations it kept of what admission told it. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface AuditEvent {
  readonly verb: string;
  readonly objectRef: { readonly resource: string; readonly namespace?: string; readonly name?: string };
  readonly responseStatus?: { readonly code: number };
  readonly annotations?: Readonly<Record<string, string>>;
}

const POLICY = {
  apiVersion: "audit.k8s.io/v1",
  kind: "Policy",
  omitStages: ["RequestReceived"],
  rules: [
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
  return lines.slice(0, -1).map((line) => JSON.parse(line) as AuditEvent);
}
