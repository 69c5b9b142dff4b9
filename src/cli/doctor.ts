/** `tandem doctor`: what silently disables Tandem, on a cluster or in files. Reads, and never writes. */
import { readFileSync } from "node:fs";
import { createKubeClient, type KubeClient } from "../cluster/client.ts";
import type { Config } from "../config/schema.ts";
import { examine, findingOf, type Finding } from "../doctor/checks.ts";
import { gather } from "../doctor/client.ts";
import { documentsOf, isConfiguration, type Documents } from "../doctor/documents.ts";
import { objectsOf, someOf, type Facts } from "../doctor/facts.ts";
import { KubeError } from "../kinds/kube-error.ts";
import type { KubeObject } from "../kinds/kube.ts";
import { denied } from "../kinds/verdict.ts";
import { systemClock } from "../telemetry/process.ts";
import type { Register } from "./index.ts";
import { collect, objectsIn, readConfig, readDocuments, UsageError } from "./input.ts";
import { checkShape } from "./shapes.ts";
import { columns } from "./table.ts";

interface DoctorOptions {
  readonly filename?: readonly string[];
  readonly cluster?: boolean;
  readonly output: string;
  readonly config?: string;
  readonly set?: readonly string[];
}

const EXAMPLE = `
Examples:
  tandem doctor                                              the cluster of the kubeconfig
  tandem doctor --cluster -f /etc/kubernetes/scheduler.yaml  and kube-scheduler's configuration
  tandem doctor -f scheduler-configuration.yaml -f volcano-scheduler.conf -f nodes.yaml

Files may hold Kubernetes objects, Lists, a KubeSchedulerConfiguration, or Volcano's volcano-scheduler.conf.

Exit codes: 0 no check failed, 1 one failed, 2 bad usage or unreadable input.`;

export const registerDoctor: Register = (program, exit) => {
  program
    .command("doctor")
    .description("Checks a cluster or a configuration: one line a check, with a hint.")
    .option("-f, --filename <file>", "files or folders to check instead of a cluster, - for stdin; repeatable", collect)
    .option("--cluster", "with -f: the cluster too")
    .option("-o, --output <format>", "table or json", "table")
    .option("-c, --config <file>", "configuration file of Tandem")
    .option("--set <path=value>", "sets one key of the configuration; repeatable", collect)
    .addHelpText("after", EXAMPLE)
    .action(async (options: DoctorOptions) => {
      exit(await doctor(options));
    });
};

async function doctor(options: DoctorOptions): Promise<number> {
  const { filename = [], output, cluster = filename.length === 0 } = options;
  if (output !== "table" && output !== "json") throw new UsageError(`-o ${output}: accepted are table, json`);
  const config = readConfig(options);
  const given = readGiven(filename);
  const findings = cluster ? await examineCluster(given, config) : examine(factsOfFiles(given, config));
  const text = output === "json" ? `${JSON.stringify({ checks: findings }, null, 2)}\n` : table(findings);
  process.stdout.write(text);
  process.stderr.write(`${summary(findings)}\n`);
  return findings.some(({ state }) => state === "fail") ? 1 : 0;
}

interface Given {
  readonly objects: readonly KubeObject[];
  readonly documents: Documents;
}

function readGiven(paths: readonly string[]): Given {
  const all = readDocuments(paths);
  const configurations = all.filter(({ value }) => isConfiguration(value));
  const objects = all.filter((document) => !configurations.includes(document)).flatMap(objectsIn);
  for (const object of objects) checkShape(object);
  const found = [
    ...configurations.map(({ value, place }) => documentsOf(value, place)),
    ...objects.map((object) => documentsOf(object, "")),
  ];
  return {
    objects,
    documents: {
      volcano: found.flatMap(({ volcano }) => volcano),
      schedulers: found.flatMap(({ schedulers }) => schedulers),
    },
  };
}

const factsOfFiles = ({ objects, documents }: Given, config: Config): Facts => ({
  now: systemClock.now(),
  config,
  objects: objectsOf(objects),
  volcano: someOf(documents.volcano, "no volcano-scheduler.conf was given"),
  schedulers: someOf(documents.schedulers, "no KubeSchedulerConfiguration was given"),
  reached: new Map(),
});

/** A server that does not answer is a finding too, the only one. */
async function examineCluster(given: Given, config: Config): Promise<readonly Finding[]> {
  try {
    return await examineBy(await createKubeClient(config.cluster, { clock: systemClock }), given, config);
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    return [findingOf(denied("ClusterUnreachable", error.message, { subject: "api-server" }))];
  }
}

async function examineBy(client: KubeClient, { documents }: Given, config: Config): Promise<readonly Finding[]> {
  try {
    await client.transport.call({ method: "GET", path: "/version" });
    const post = (path: string, body: unknown): Promise<unknown> =>
      client.transport.call({ method: "POST", path, body });
    // Certificates and gates are judged by the clock of the API server, which set their dates.
    return examine(
      await gather({ reader: client, config, now: client.serverNow() ?? systemClock.now(), post, documents, readCa }),
    );
  } finally {
    client.close();
  }
}

/** The file lies where the scheduler runs, which may be another machine. */
function readCa(path: string): string {
  try {
    return path === "" ? "" : readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

const table = (findings: readonly Finding[]): string =>
  `${columns(findings.map(({ check, state, message, hint }) => [state, check, hint === null ? message : `${message}. ${hint}`]))}\n`;

function summary(findings: readonly Finding[]): string {
  const count = (wanted: Finding["state"]): number => findings.filter(({ state }) => state === wanted).length;
  return `${count("ok")} ok, ${count("warn")} warned, ${count("fail")} failed, ${count("skip")} not checked`;
}
