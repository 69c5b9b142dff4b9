/** The kubectl of the harness, never the machine's: its own kubeconfig, its own cache. */
import { spawn } from "node:child_process";

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type Kubectl = (args: readonly string[], stdin?: string) => Promise<Output>;

/** Without a kubeconfig only what needs no server works: `kustomize`, `version --client`. */
export function kubectlOf(binary: string, options: { kubeconfig?: string; home: string }): Kubectl {
  const env = { HOME: options.home, PATH: process.env["PATH"] ?? "", KUBECONFIG: options.kubeconfig ?? "/dev/null" };
  return async (args, stdin) => {
    const child = spawn(binary, args, { env, stdio: ["pipe", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
    child.stdin.on("error", () => undefined).end(stdin ?? "");
    const code = await new Promise<number>((resolve, reject) =>
      child.once("error", reject).once("close", (code) => resolve(code ?? -1)),
    );
    return { code, stdout, stderr };
  };
}
