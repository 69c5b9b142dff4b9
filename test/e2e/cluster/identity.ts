/** Who may call the test cluster: tokens of the control plane, and the kubeconfig files that carry them. */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Tokens {
  /** In system:masters. */
  readonly admin: string;
  readonly scheduler: string;
  /** File for `--token-auth-file`. */
  readonly file: string;
}

/** Tokens of an administrator and of the scheduler, written where the API server reads them. */
export function writeTokens(folder: string): Tokens {
  const token = (): string => randomBytes(24).toString("hex");
  const [admin, scheduler] = [token(), token()];
  const file = join(folder, "tokens.csv");
  const lines = [`${admin},admin,admin,"system:masters"`, `${scheduler},system:kube-scheduler,scheduler`];
  writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o600 });
  return { admin, scheduler, file };
}

/** Key pair that signs the tokens of ServiceAccounts. */
export function writeServiceAccountKeys(folder: string): { privateKey: string; publicKey: string } {
  const keys = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  const files = { privateKey: join(folder, "sa-private.pem"), publicKey: join(folder, "sa-public.pem") };
  writeFileSync(files.privateKey, keys.privateKey, { mode: 0o600 });
  writeFileSync(files.publicKey, keys.publicKey);
  return files;
}

/** A kubeconfig file (JSON, which is YAML) for one user; returns its path. */
export function writeKubeconfig(path: string, server: { url: string; ca: string }, token: string): string {
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "e2e",
        cluster: { server: server.url, "certificate-authority-data": Buffer.from(server.ca).toString("base64") },
      },
    ],
    users: [{ name: "e2e", user: { token } }],
    contexts: [{ name: "e2e", context: { cluster: "e2e", user: "e2e", namespace: "default" } }],
    "current-context": "e2e",
  };
  writeFileSync(path, JSON.stringify(config, undefined, 2), { mode: 0o600 });
  return path;
}
