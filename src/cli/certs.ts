/** `tandem certs`: a development authority and serving certificate, for webhooks outside a cluster. */
import type { Command } from "commander";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { issueAuthority, issueServing } from "../certs/issue.ts";
import { systemClock, systemRandom } from "../telemetry/process.ts";
import type { Register } from "./index.ts";
import { collect, UsageError } from "./input.ts";

interface CertsOptions {
  readonly out: string;
  readonly name?: readonly string[];
}

const EXAMPLE = `
Example:
  tandem certs --out certs/dev --name localhost --name 127.0.0.1

The authority's key is not kept: what clients are told to trust can sign nothing else.`;

export const registerCerts: Register = (program: Command, exit) => {
  program
    .command("certs")
    .description("Makes development certificates: tls.crt, tls.key and ca.crt.")
    .option("--out <directory>", "where they are written", "certs/dev")
    .option("--name <name>", "DNS name or address the webhooks are reached by; repeatable", collect)
    .addHelpText("after", EXAMPLE)
    .action(async (options: CertsOptions) => {
      await makeDevelopment(options.out, options.name ?? ["localhost", "127.0.0.1", "::1"]);
      process.stderr.write(`${options.out}: tls.crt, tls.key, ca.crt\n`);
      exit(0);
    });
};

/** The authority's key is thrown away: nothing else can ever be signed by what a developer told a cluster to trust. */
async function makeDevelopment(directory: string, names: readonly string[]): Promise<void> {
  const context = { now: systemClock.now(), id: () => systemRandom.id() };
  const authority = await issueAuthority(context);
  const serving = await issueServing(context, authority, names);
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "ca.crt"), authority.certificate);
    writeFileSync(join(directory, "tls.crt"), serving.certificate);
    writeFileSync(join(directory, "tls.key"), serving.key, { mode: 0o600 });
  } catch (error) {
    throw new UsageError(`${directory}: cannot be written: ${(error as Error).message}`);
  }
}
