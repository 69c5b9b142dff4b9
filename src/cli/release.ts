/** `tandem release`: lets go of the workloads of a namespace, or of all; the step before uninstalling. */
import type { Command } from "commander";
import { setTimeout as pause } from "node:timers/promises";
import { strip } from "../admission/admit.ts";
import { createKubeClient, type KubeClient } from "../cluster/client.ts";
import type { Config } from "../config/schema.ts";
import { kindOf, type Action } from "../controller/action.ts";
import { disownOperations, releasePlan, type ReleasePlan } from "../controller/release.ts";
import type { KubeObject, Pod, Workload } from "../kinds/kube.ts";
import { KubeError } from "../kinds/kube-error.ts";
import { FIELD_MANAGER, LWS, OWNERSHIP, VOLCANO } from "../kinds/names.ts";
import { pluralOf } from "../kinds/resource.ts";
import type { Verdict } from "../kinds/verdict.ts";
import { systemClock } from "../telemetry/process.ts";
import type { Register } from "./index.ts";
import { collect, readConfig, UsageError } from "./input.ts";

interface ReleaseOptions {
  readonly namespace?: string;
  readonly dryRun?: boolean;
  readonly settle: string;
  readonly config?: string;
  readonly set?: readonly string[];
}

const EXAMPLE = `
Example:
  tandem release --namespace team-a --dry-run

Exit codes: 0 all let go, 1 something could not be, 2 bad usage.`;

export const registerRelease: Register = (program: Command, exit) => {
  program
    .command("release")
    .description("Lets go: strips what was injected, deletes what was made; the step before uninstalling.")
    .option("-n, --namespace <ns>", "only this namespace (default: all)")
    .option("--dry-run", "only say what would be done, and which workloads would roll")
    .option("--settle <seconds>", "pause for API servers to see that the webhooks are set aside", "10")
    .option("-c, --config <file>", "configuration file")
    .option("--set <path=value>", "sets one key of the configuration; repeatable", collect)
    .addHelpText("after", EXAMPLE)
    .action(async (options: ReleaseOptions) => {
      exit(await release(options));
    });
};

async function release(options: ReleaseOptions): Promise<number> {
  const settle = Number(options.settle);
  if (!(settle >= 0 && settle <= 600)) throw new UsageError(`--settle ${options.settle}: give seconds from 0 to 600`);
  const config = readConfig(options);
  const client = await createKubeClient(config.cluster, { clock: systemClock, manager: FIELD_MANAGER.release });
  try {
    const failed = await carryOut(client, config, { ...options, settle });
    return failed === 0 ? 0 : 1;
  } finally {
    client.close();
  }
}

const progress = (line: string): void => void process.stderr.write(`${line}\n`);
const result = (line: string): void => void process.stdout.write(`${line}\n`);

interface Run {
  readonly namespace?: string;
  readonly dryRun?: boolean;
  /** Seconds. */
  readonly settle: number;
}

/** Gives the number of actions that failed. */
async function carryOut(client: KubeClient, config: Config, run: Run): Promise<number> {
  const plan = await gather(client, config, run.namespace);
  if (run.dryRun === true) {
    for (const action of [...plan.webhooks, ...plan.rest]) result(lineOf(action.key, action.verdict));
    for (const note of plan.notes) result(lineOf(note.subject ?? "", note));
    return 0;
  }
  let failed = await perform(client, plan.webhooks);
  // With a webhook that still reaches them, whatever follows would be undone.
  if (failed > 0) return failed;
  if (plan.webhooks.length > 0) {
    progress(`waiting ${run.settle} s for API servers to see that the webhooks are set aside`);
    await pause(run.settle * 1000);
  }
  const { notes, failed: left } = await letGo(client, config, run.namespace);
  failed += left;
  for (const note of notes) result(lineOf(note.subject ?? "", note));
  return failed;
}

/** Rounds in which what was written meanwhile by others (a rollout writes status all the time) is tried again. */
const ROUNDS = 5;
const BETWEEN_ROUNDS_MS = 500;

/** Strips, unlabels, deletes. Every round decides on what is there then, so what is done is not done twice. */
async function letGo(
  client: KubeClient,
  config: Config,
  namespace: string | undefined,
): Promise<{ notes: readonly Verdict[]; failed: number }> {
  for (let round = 1; ; round += 1) {
    const { rest, notes } = await gather(client, config, namespace);
    const failed = await perform(client, rest);
    if (failed === 0 || round === ROUNDS) return { notes, failed };
    await pause(BETWEEN_ROUNDS_MS);
  }
}

const lineOf = (key: string, verdict: Verdict): string => `${key}: ${verdict.message}`;

async function gather(client: KubeClient, config: Config, namespace: string | undefined): Promise<ReleasePlan> {
  const inside = namespace === undefined ? {} : { namespace };
  const list = (apiVersion: string, kind: string, selector?: string): Promise<readonly KubeObject[]> =>
    client.list({ apiVersion, plural: pluralOf(kind), ...inside }, selector);
  const owned = `${OWNERSHIP.label}=${OWNERSHIP.value}`;
  const [webhooks, deployments, statefulSets, groups, pods, configMaps, services, budgets, podGroups] =
    await Promise.all([
      ourWebhooks(client, config),
      list("apps/v1", "Deployment"),
      list("apps/v1", "StatefulSet"),
      list(LWS.apiVersion, "LeaderWorkerSet").catch(noneWithoutApi),
      list("v1", "Pod"),
      list("v1", "ConfigMap", owned),
      list("v1", "Service", owned),
      list("policy/v1", "PodDisruptionBudget", owned).catch(noneWithoutApi),
      list(VOLCANO.podGroupApiVersion, "PodGroup", owned).catch(noneWithoutApi),
    ]);
  return releasePlan({
    namespace,
    webhooks,
    workloads: [...deployments, ...statefulSets, ...groups] as unknown as readonly Workload[],
    pods: pods as readonly Pod[],
    owned: [...podGroups, ...configMaps, ...services, ...budgets],
    strip,
  });
}

function noneWithoutApi(error: unknown): readonly KubeObject[] {
  if (error instanceof KubeError && error.status === 404) return [];
  throw error;
}

async function ourWebhooks(client: KubeClient, config: Config): Promise<readonly KubeObject[]> {
  const name = config.controller.webhookConfiguration;
  if (name === "") return [];
  const kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
  const found = await Promise.all(
    kinds.map((kind) => client.get({ apiVersion: "admissionregistration.k8s.io/v1", plural: pluralOf(kind), name })),
  );
  return found.filter((configuration) => configuration !== undefined);
}

async function perform(client: KubeClient, actions: readonly Action[]): Promise<number> {
  let failed = 0;
  for (const action of actions) {
    try {
      await write(client, action);
      result(lineOf(action.key, action.verdict));
    } catch (error) {
      failed += 1;
      progress(`${action.key}: ${kindOf(action)} not released: ${(error as Error).message}`);
    }
  }
  return failed;
}

async function write(client: KubeClient, action: Action): Promise<void> {
  if (action.do === "remove") await client.remove(action.ref, action.uid);
  if (action.do !== "patch") return;
  const after = await client.patch(action.ref, action.type, action.body);
  const disown = disownOperations(after);
  if (disown === undefined) return;
  // Somebody wrote meanwhile: their write stands, and the leftover is only a name in the field list.
  await client.patch(action.ref, "json", disown).catch((error: unknown) => {
    if (!(error instanceof KubeError) || error.status !== 409) throw error;
  });
}
