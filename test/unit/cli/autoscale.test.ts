/** `tandem autoscale simulate` as people call it: rows, a table, a picture, and what it says to wrong words. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { tandem } from "../../support/command.ts";

t.setTimeout(120_000);
const folder = mkdtempSync(join(tmpdir(), "tandem-autoscale-"));
t.teardown(() => rmSync(folder, { recursive: true }));

const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens";
const azure = (seconds: number): string => `2023-11-16 18:15:${String(seconds).padStart(2, "0")}.6805900,800,40`;
const sixty = Array.from({ length: 60 }, (_, second) => azure(second));
const short = file("short.csv", `${HEAD}\n${sixty.join("\n")}\n`);
const mooncake = file(
  "mooncake.jsonl",
  [0, 3000, 6000]
    .map((timestamp) => JSON.stringify({ timestamp, input_length: 600, output_length: 9, hash_ids: [1, timestamp] }))
    .join("\n"),
);
const empty = file("empty.csv", "");
const headless = file("head.csv", `${HEAD}\n`);
const broken = file("broken.csv", `${HEAD}\n${azure(0)}\n2023-11-16 18:15:46.6805900,many,40\n`);
const timeless = file("timeless.csv", `${HEAD}\nyesterday,1,1\n`);
const torn = file("torn.jsonl", `{"timestamp": 0, "input_length": 5\n`);
const ages = file("ages.csv", `${HEAD}\n${azure(0)}\n2025-11-16 18:15:46.6805900,1,1\n`);

t.test("rows as documented: each policy, start-up time and seed once", async (t) => {
  const { code, out, err } = await tandem([
    ...["autoscale", "simulate", "--trace", short, "--policy", "tandem-cost,static,tandem-cost"],
    ...["--startup", "30,60,30.0", "--seeds", "2", "--copies", "3", "-o", "json"],
  ]);
  t.equal(code, 0, err);
  const { rows } = JSON.parse(out) as { rows: Record<string, unknown>[] };
  t.same(
    rows.map(({ policy, startupSeconds, seed }) => `${String(policy)} ${String(startupSeconds)} ${String(seed)}`),
    [30, 60].flatMap((startup) =>
      ["tandem-cost", "static"].flatMap((policy) => [1, 2].map((seed) => `${policy} ${startup} ${seed}`)),
    ),
  );
  for (const row of rows) {
    t.match(row, { trace: "short", requests: 180, sloAttainment: Number, gpuHours: Number, ttftP99Ms: Number });
    t.match(row, { changes: Number, flips: Number });
    t.notOk("course" in row, "pictures have the course");
  }
});

t.test("a table: a line for each policy, with who is better in both things", async (t) => {
  const { code, out, err } = await tandem([
    ...["autoscale", "simulate", "--trace", mooncake, "--policy", "static, hpa", "--seeds", "2"],
  ]);
  t.equal(code, 0, err);
  const [head, ...lines] = out.trimEnd().split("\n");
  t.match(head, /^policy +trace +start-up +SLO % +GPU-h +TTFT p99 ms +changes +flips +dominated by$/);
  t.equal(lines.length, 2);
  t.match(lines[0], /^static +mooncake +120 s +100\.00 ±0\.00 +0\.1 ±0\.0 +\d+ ±\d+ +\d ±\d +0 ±0 +-$/);
  t.match(lines[1], /^hpa +mooncake +120 s /);
});

t.test("a picture: a panel for each policy and start-up time, of the first seed", async (t) => {
  const { code, out, err } = await tandem([
    ...["autoscale", "simulate", "--trace", short, "--policy", "tandem-balanced,llm-d-slo"],
    ...["--startup", "30,60", "--seeds", "2", "-o", "svg"],
  ]);
  t.equal(code, 0, err);
  t.match(out, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="860" height="792" /);
  t.match(out, /<\/svg>\n$/);
  for (const policy of ["tandem-balanced", "llm-d-slo"])
    for (const startup of [30, 60])
      t.match(out, `${policy} on short, start-up ${startup} s: `, "panels say whose they are");
  t.equal([...out.matchAll(/<g transform="translate\(0 \d+\)">/g)].length, 4);
  t.notMatch(out, /NaN|undefined|Infinity/);
  t.same(openTags(out), [], "each element is closed");
});

/** Elements that are not closed in their order; attributes are to be quoted, and text escaped. */
function openTags(document: string): readonly string[] {
  const open: string[] = [];
  for (const [tag, end, name = "", rest = ""] of document.matchAll(
    /<(\/?)([a-z]+)((?: +[\w:-]+="[^"<>&]*")* *\/?)>/g,
  )) {
    if (end === "/" && open.pop() !== name) return [tag];
    if (end !== "/" && !rest.endsWith("/")) open.push(name);
  }
  const text = document.replaceAll(/<\/?[a-z]+(?: +[\w:-]+="[^"<>&]*")* *\/?>/g, "");
  return /[<>]|&(?!(amp|lt|gt|quot);)/.test(text) ? [text] : open;
}

const SHAPES = "diurnal, bursts, bursty, shift, ramp, silence, noise";

t.test("wrong words are one line with the place and what is accepted, and exit code 2", async (t) => {
  for (const [args, message] of [
    [[], `give --trace: a file, or a shape: ${SHAPES}`],
    [["--trace", "sawtooth"], `--trace sawtooth: neither a file nor a shape; shapes are ${SHAPES}`],
    [["--trace", join(folder, "none.csv")], "none.csv: neither a file nor a shape; shapes are diurnal"],
    [["--trace", folder], `--trace ${folder}: neither a file nor a shape`],
    [["--trace", empty], `empty.csv: line 1: expected ${HEAD}, or a JSON object a line`],
    [["--trace", headless], "head.csv: the trace has no request"],
    [["--trace", broken], "broken.csv: line 3: ContextTokens is to be an integer of 0 or more, not many"],
    [["--trace", timeless], "timeless.csv: line 2: yesterday is no time as 2023-11-16 18:15:46.6805900"],
    [["--trace", torn], "torn.jsonl: line 1: not a JSON object"],
    [["--trace", ages], "ages.csv: from the first request to the last are 732 days; at most 31 are run"],
    [
      ["--trace", short, "--policy", "keda"],
      "--policy keda: accepted are tandem-cost, tandem-balanced, tandem-latency",
    ],
    [["--trace", short, "--policy", "hpa,"], "--policy hpa,: accepted are tandem-cost"],
    [["--trace", short, "--seeds", "0"], "--seeds 0: accepted are numbers from 1 to 1000"],
    [["--trace", short, "--seeds", "1.5"], "--seeds 1.5: accepted are integers"],
    [["--trace", short, "--startup", "-5"], "--startup -5: accepted are numbers from 1 to 3600"],
    [["--trace", short, "--startup", "60,soon"], "--startup soon: accepted are numbers from 1 to 3600"],
    [["--trace", short, "--copies", "0"], "--copies 0: accepted are numbers from 1 to 1000"],
    [["--trace", "bursts", "--copies", "2"], "shape bursts has a load of its own: --copies is for traces"],
    [["--trace", short, "-o", "yaml"], "-o yaml: accepted are table, json, svg"],
    [["--trace", short, "-o", "constructor"], "-o constructor: accepted are table, json, svg"],
    [["--trace", short, "--seeds", "1000", "--policy", "all"], "are more than 10000 runs"],
  ] as const) {
    const { code, out, err } = await tandem(["autoscale", "simulate", ...args]);
    t.equal(code, 2, args.join(" "));
    t.ok(err.includes(message), `${err.trim()} has ${message}`);
    t.equal(err.trim().split("\n").length, 1, err);
    t.equal(out, "");
  }
});

t.test("so many copies that memory would not hold them are refused", async (t) => {
  const many = file("many.csv", `${HEAD}\n${Array.from({ length: 100 }, () => sixty.join("\n")).join("\n")}\n`);
  const { code, err } = await tandem(["autoscale", "simulate", "--trace", many, "--copies", "1000"]);
  t.equal(code, 2);
  t.match(err, /--copies 1000: 1000 of each of 6000 requests are more than 5000000/);
});
