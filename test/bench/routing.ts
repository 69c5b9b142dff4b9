/**
 * Routing policies in virtual time: Kthena's published scene and its short case, a real trace on engines that do both, and
 * on prefill and decode engines. `npm run bench:routing -- --help`.
 */
import { existsSync, writeFileSync } from "node:fs";
import { plot } from "../../src/cli/simulate/plot.ts";
import { summary } from "../../src/cli/simulate/report.ts";
import type { Topology } from "../../src/simulator/routing/fleet.ts";
import { POLICIES } from "../../src/simulator/routing/policies/index.ts";
import { parsed } from "../support/arguments.ts";
import { targetsOf } from "./routing/targets.ts";
import type { Ask, BenchRow, Plan, Told } from "./routing/worker.ts";
import { onThreads } from "./threads.ts";

const WORKER = new URL("./routing/worker.ts", import.meta.url);
const TRACE = new URL("../../../shared/traces/mooncake_conversation.jsonl", import.meta.url).pathname;
const HELP = `Routing policies over simulated engines: throughput, time to first token, hit rate, goodput.

  --sections a,b,c,d  a Kthena's scene, b its short case, c a conversation trace on 8 engines at 50, 80 and 95 % of their
                      capacity, d the same on 4 prefill and 4 decode engines (all)
  --seeds N           runs of each (3; of c and d 5)
  --policies NAMES    of a, b and c (all)
  --trace FILE        in Mooncake's form (${TRACE.replace(/.*\/shared/, "../shared")})
  --svg FILE          a picture of the rows
  --json              machine-readable rows, and the targets (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:routing -- --sections a --seeds 1`;

const text = { type: "string" } as const;
const { values } = parsed({
  options: {
    sections: { ...text, default: "a,b,c,d" },
    ...{ seeds: text, policies: text, svg: text },
    trace: { ...text, default: TRACE },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const refuse = (message: string): never => {
  console.error(message);
  process.exit(2);
};
const SECTIONS: readonly Plan["section"][] = ["a", "b", "c", "d"];
/** Names after commas, each one of those. */
const namesOf = <T extends string>(flag: string, given: string, all: readonly T[]): readonly T[] =>
  given
    .split(",")
    .map((name) => all.find((each) => each === name) ?? refuse(`${flag} ${name}: accepted are ${all.join(", ")}`));
const sections = namesOf("--sections", values.sections, SECTIONS);
const policies = values.policies === undefined ? POLICIES : namesOf("--policies", values.policies, POLICIES);
if (!existsSync(values.trace)) refuse(`--trace ${values.trace}: no such file`);
const seedsOf = (usual: number): number[] => {
  const count = values.seeds === undefined ? usual : Number(values.seeds);
  if (!Number.isInteger(count) || count < 1) refuse("--seeds takes a positive integer");
  return Array.from({ length: count }, (_, seed) => seed + 1);
};

const BOTH: Topology = { both: 8, prefill: 0, decode: 0 };
const SPLIT: Topology = { both: 0, prefill: 4, decode: 4 };
const THREE: Topology = { both: 3, prefill: 0, decode: 0 };
const LOADS = [0.5, 0.8, 0.95];

const scenePlans = (section: "a" | "b", replay: string): Plan[] =>
  seedsOf(3).flatMap((seed) =>
    policies.map((policy) => ({ section, policy, replay, topology: THREE, load: 1, capacityRps: 0, seed })),
  );

type TracePolicy = Pick<Plan, "policy" | "variant">;

const tracePlans = (section: "c" | "d", topology: Topology, capacityRps: number, all: readonly TracePolicy[]): Plan[] =>
  LOADS.flatMap((load) =>
    seedsOf(5).flatMap((seed) =>
      all.map((policy) => ({ section, ...policy, replay: values.trace, topology, load, capacityRps, seed })),
    ),
  );

const WAYS: readonly TracePolicy[] = [
  { policy: "tandem" },
  { policy: "tandem", variant: { name: "tandem-always", router: { prefill: { policy: "always" } } } },
  ...(["kthena-prefix", "kthena-kv", "llm-d", "least-request"] as const).map((policy) => ({ policy })),
];

async function plans(): Promise<readonly Plan[]> {
  const asks: Ask[] = [BOTH, SPLIT].map((topology) => ({ kind: "capacity", trace: values.trace, topology }));
  const needed = sections.some((section) => section === "c" || section === "d");
  const told = needed ? await onThreads<Told>(asks, { worker: WORKER, told: () => undefined }) : [];
  const [both, split] = told.map((each) => (each.kind === "capacity" ? each.rps : 0));
  if (needed) console.error(`capacity: ${both} requests/s on 8 engines, ${split} on 4 prefill and 4 decode engines`);
  const of = {
    a: () => scenePlans("a", "kthena-long"),
    b: () => scenePlans("b", "kthena-short"),
    c: () =>
      tracePlans(
        "c",
        BOTH,
        both ?? 0,
        policies.map((policy) => ({ policy })),
      ),
    d: () => tracePlans("d", SPLIT, split ?? 0, WAYS),
  };
  return sections.flatMap((section) => of[section]());
}

const asks = (await plans()).map((plan) => ({ kind: "run", plan }) as const);
const rows: BenchRow[] = [];
let done = 0;
const answers = await onThreads<Told>(asks, {
  worker: WORKER,
  told: (_, number) => {
    const { policy, seed, section, load } = (asks[number] as (typeof asks)[number]).plan;
    done += 1;
    if (process.stderr.isTTY)
      process.stderr.write(`\r${done} of ${asks.length}: ${section} ${policy} ${load} seed ${seed}      `);
  },
});
for (const told of answers) if (told.kind === "row") rows.push(told.row);
if (process.stderr.isTTY) process.stderr.write("\n");
const targets = targetsOf(rows);
if (values.svg !== undefined) writeFileSync(values.svg, plot(rows));
if (values.json) console.log(JSON.stringify({ rows, targets }, null, 2));
else {
  console.log(summary(rows as Parameters<typeof summary>[0]));
  console.table(targets);
}
