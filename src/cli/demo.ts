/**
 * `tandem demo`: the whole system on this machine, nothing else needed. A local cluster in the process, the real
 * admission, placement and router, simulated engines on loopback, real HTTP/2 between a gateway and the router.
 * Ends by itself; exit code 0 only if every step did what it should.
 */
import { LocalCluster, topologyPicture, type Admitted, type Scheduled } from "../simulator/cluster.ts";
import { SILENT_LOG } from "../telemetry/log.ts";
import { FORMATS } from "./admit.ts";
import { problemsOf, type DemoOutcome } from "./demo/check.ts";
import { manifestPath } from "./demo/manifests.ts";
import {
  changesOnly,
  differences,
  heading,
  placementLine,
  podAt,
  summaryLine,
  summaryOf,
  type Print,
} from "./demo/report.ts";
import { runTraffic, type DemoUrls } from "./demo/run.ts";
import type { DemoRequest } from "./demo/traffic.ts";
import type { Register } from "./index.ts";
import { collect, readConfig, readObjects } from "./input.ts";
import { countText, deviceCounts } from "./place/devices.ts";
import { createPorts } from "./roles/ports.ts";

interface DemoOptions {
  readonly filename?: readonly string[];
  readonly json?: boolean;
  readonly keep?: boolean;
  readonly config?: string;
  readonly set?: readonly string[];
}

const FILES = ["cluster-16-nodes.yaml", "qwen3-32b-nvidia.yaml"];

/** Ports of this run's own, so that a demo never meets another program; a client may see what was chosen. */
const SETTINGS = ["router.listen=127.0.0.1:0", "router.healthListen=", "router.explainHeaders=true"];

const EXAMPLE = `
Example:
  tandem demo
  tandem demo -f manifests/examples/cluster-16-nodes.yaml -f mine.yaml
  tandem demo --keep            leaves it running, to send requests of your own
  tandem demo --json | jq .summary`;

export const registerDemo: Register = (program, exit) => {
  program
    .command("demo")
    .description("Shows the whole system on this machine: admission, placement, routing. Nothing else is needed.")
    .option(
      "-f, --filename <file>",
      "objects instead of the examples, Nodes with devices among them; repeatable",
      collect,
    )
    .option("--json", "prints one JSON object instead of text")
    .option("--keep", "leaves it running until Ctrl-C")
    .option("-c, --config <file>", "configuration file")
    .option("--set <path=value>", "sets one key of the configuration; repeatable", collect)
    .addHelpText("after", EXAMPLE)
    .action(async (options: DemoOptions) => exit(await demo(options)));
};

async function demo(options: DemoOptions): Promise<number> {
  const config = readConfig({ ...options, set: [...SETTINGS, ...(options.set ?? [])] });
  const print: Print = options.json === true ? () => undefined : (line) => process.stdout.write(`${line}\n`);
  const files = options.filename ?? FILES.map((file) => manifestPath("examples", file));
  const cluster = new LocalCluster(readObjects(files), config);
  const admitted = showAdmission(cluster, print);
  const scheduled = showPlacement(cluster, print);
  const outcome = await runTraffic({
    cluster,
    print,
    ports: createPorts(config, SILENT_LOG),
    whileRunning: async (ran, at, example) => {
      showSummary(ran, print);
      if (options.keep === true) await waitForUser(at, example);
    },
  });
  const problems = problemsOf({ ...outcome, admitted, scheduled });
  if (options.json === true) process.stdout.write(`${JSON.stringify(report(outcome, scheduled, problems), null, 2)}\n`);
  for (const problem of problems) process.stderr.write(`demo: ${problem}\n`);
  return problems.length === 0 ? 0 : 1;
}

/** The first object's change in full; of the others only what differs from it. */
function showAdmission(cluster: LocalCluster, print: Print): readonly Admitted[] {
  const admitted = cluster.admitWorkloads();
  print(heading(1, "Admission: what Tandem adds to each Deployment"));
  showChanges(admitted, print);
  const pods = cluster.createPods();
  print("\n...and to each Pod at its creation:");
  showChanges(firstOfEach(pods), print);
  return [...admitted, ...pods];
}

function showChanges(admitted: readonly Admitted[], print: Print): void {
  const [first, ...others] = admitted;
  if (first === undefined) return;
  print(`\n${nameOf(first)}\n${changeOf(first)}`);
  for (const other of others)
    print(`\n${nameOf(other)}: the same, but for\n${differences(changeOf(other), changeOf(first))}`);
}

const nameOf = ({ before }: Admitted): string => `${before.kind} ${before.metadata.name ?? ""}`;

const changeOf = ({ before, after, verdicts }: Admitted): string =>
  changesOnly(FORMATS["diff"]?.([{ before, result: { object: after, verdicts, touched: [] } }]) ?? "");

/** One pod of each owner. */
function firstOfEach(pods: readonly Admitted[]): readonly Admitted[] {
  const byOwner = Map.groupBy(pods, ({ before }) => before.metadata.ownerReferences?.[0]?.name ?? "");
  return [...byOwner.values()].flatMap((group) => group.slice(0, 1));
}

function showPlacement(cluster: LocalCluster, print: Print): readonly Scheduled[] {
  const scheduled = cluster.schedule();
  print(heading(2, "Placement: where each Pod went, and why"));
  const { nodes, pods } = cluster.snapshot();
  const counts = deviceCounts(nodes, pods);
  print(topologyPicture(cluster.tree(), pods, (names) => countText(counts(names))));
  print("");
  for (const each of scheduled) print(placementLine(each));
  return scheduled;
}

function showSummary({ results, baseline }: DemoOutcome, print: Print): void {
  print(heading(4, "Summary: the same requests, by cache and load against round robin"));
  print(summaryLine("Tandem", summaryOf(results)));
  print(summaryLine("round robin", summaryOf(baseline)));
}

const report = (outcome: DemoOutcome, scheduled: readonly Scheduled[], problems: readonly string[]): object => ({
  frontend: outcome.frontend,
  placement: scheduled.map(({ pod, node, verdict }) => ({ pod: pod.metadata.name, node, reason: verdict.message })),
  requests: outcome.results.map((result) => ({
    ...result,
    prefillPod: podAt(result.prefill, outcome.fleet),
    decodePod: podAt(result.decode, outcome.fleet),
  })),
  summary: { tandem: summaryOf(outcome.results), roundRobin: summaryOf(outcome.baseline) },
  problems,
});

function waitForUser({ requests: url, admin }: DemoUrls, example: DemoRequest): Promise<void> {
  const { model } = JSON.parse(example.body.toString()) as { model: string };
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }], max_tokens: 16 });
  process.stderr.write(
    `\nRunning at ${url}; Ctrl-C ends it. For example:\n  curl -s ${url}/v1/chat/completions -H 'content-type: application/json' -d '${body}'\n  npx tandem explain request --url ${admin}\n`,
  );
  return new Promise((resolve) => {
    process.once("SIGINT", () => resolve());
    process.once("SIGTERM", () => resolve());
  });
}
