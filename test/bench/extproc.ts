/**
 * The ext_proc engine beside a grpc-go server that does the same work: `npm run bench:extproc -- --help`.
 *
 * Each server is a process on a core of its own, the load (which speaks ext_proc as Envoy does) another on the other core.
 * CPU is what the scheduler charged to the server. First the picks of both are compared; then runs alternate, and the
 * medians are shown. Absolute figures of a shared machine say little: compare only within one run.
 */
import { compare, type Plan, type Row } from "./extproc/compare.ts";
import { growth } from "./extproc/growth.ts";
import { WORKS, type Setting } from "./extproc/setting.ts";
import { parsed } from "../support/arguments.ts";

const HELP = `The ext_proc engine beside a grpc-go server that does the same work.

  --quick           16 KB bodies and 100 endpoints alone, two short rounds: within a minute once the peer is built
  --growth          instead: what a request costs as endpoints, index and bodies grow
  --bodies LIST     sizes of bodies in KiB (2,16,64,1024)
  --endpoints LIST  numbers of endpoints, of work \`pick\` (10,100,1000)
  --rounds N        runs of each server, alternating (5)
  --seconds N       length of one run (2)
  --seed N          of bodies and index (1)
  --json            machine-readable rows (docs/reference/benchmarks.md)

Example:
  npm run --silent bench:extproc -- --quick --json`;

const { values } = parsed({
  options: {
    quick: { type: "boolean", default: false },
    growth: { type: "boolean", default: false },
    bodies: { type: "string" },
    endpoints: { type: "string" },
    rounds: { type: "string" },
    seconds: { type: "string" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

function positive(name: "rounds" | "seconds" | "seed", fallback: number): number {
  const value = Number(values[name] ?? fallback);
  if (Number.isInteger(value) && value >= 1) return value;
  console.error(`--${name} ${values[name] ?? ""}: give a positive integer`);
  process.exit(2);
}

function list(name: "bodies" | "endpoints", fallback: readonly number[]): readonly number[] {
  const given = values[name]?.split(",").map(Number) ?? fallback;
  const least = name === "bodies" ? 1 : 6;
  if (given.every((value) => Number.isInteger(value) && value >= least)) return given;
  console.error(`--${name} ${values[name] ?? ""}: give integers of at least ${least}, separated by commas`);
  process.exit(2);
}

const KIB = 1024;
const BLOCKS = 1_000_000;
/** 1 MB bodies a thousand times a second would be 16 Gbit/s both ways. */
const rateOf = (bodyBytes: number): number => (bodyBytes > 64 * KIB ? 50 : 1000);

function planOf(): Plan {
  const seed = positive("seed", 1);
  const bodies = list("bodies", values.quick ? [16] : [2, 16, 64, 1024]);
  const settings = WORKS.flatMap((work) =>
    bodies.flatMap((kib) => {
      const sizes = work === "echo" ? [100] : list("endpoints", values.quick ? [100] : [10, 100, 1000]);
      return sizes.map((endpoints): Setting => ({ seed, endpoints, blocks: BLOCKS, bodyBytes: kib * KIB, work }));
    }),
  );
  return {
    settings,
    rounds: positive("rounds", values.quick ? 2 : 5),
    seconds: positive("seconds", values.quick ? 1 : 2),
    rateOf,
    warmMost: 12_000,
  };
}

const tell = (line: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`${line}\n`);
};

/** Pairs of rows, Tandem's first. */
function ratios(rows: readonly Row[]): object[] {
  return rows.flatMap((ours) => {
    const same = (row: Row): boolean =>
      (["work", "bodyBytes", "endpoints", "ratePerSecond"] as const).every((key) => row[key] === ours[key]);
    const peer = rows.find((row) => row.stack === "grpc-go" && same(row));
    if (ours.stack !== "tandem" || peer === undefined) return [];
    const to = (key: "streamsPerSecondPerCore" | "cpuMicrosPerStream" | "p50Ms" | "p99Ms"): string =>
      `${(ours[key] / peer[key]).toFixed(2)} x`;
    const { work, bodyBytes, endpoints, ratePerSecond } = ours;
    return [
      {
        ...{ work, bodyBytes, endpoints, ratePerSecond },
        "streams/s/core": to("streamsPerSecondPerCore"),
        CPU: to("cpuMicrosPerStream"),
        p50: to("p50Ms"),
        p99: to("p99Ms"),
      },
    ];
  });
}

async function main(): Promise<void> {
  if (values.help) console.log(HELP);
  else if (values.growth) {
    const rows = await growth(positive("seed", 1), tell);
    if (values.json) console.log(JSON.stringify({ rows }));
    else console.table(rows);
  } else {
    const rows = await compare(planOf(), tell);
    if (values.json) console.log(JSON.stringify({ rows }));
    else {
      console.table(rows);
      console.log("tandem : grpc-go");
      console.table(ratios(rows));
    }
  }
}

await main();
