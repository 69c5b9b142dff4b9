/** `tandem simulate` as people call it: rows, a table, and what it says to wrong words. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { tandem } from "../../support/command.ts";

t.setTimeout(300_000);
const folder = mkdtempSync(join(tmpdir(), "tandem-simulate-"));
t.teardown(() => rmSync(folder, { recursive: true }));
const trace = join(folder, "short.jsonl");
const line = (n: number): string =>
  JSON.stringify({ timestamp: n * 100, input_length: 1024, output_length: 20, hash_ids: [n % 7, 100 + n] });
writeFileSync(trace, Array.from({ length: 60 }, (_, n) => line(n)).join("\n"));
const broken = join(folder, "broken.jsonl");
const long = join(folder, "long.jsonl");
writeFileSync(
  long,
  `${line(0)}\n${JSON.stringify({ timestamp: 0, input_length: 10, output_length: 1e6, hash_ids: [1] })}`,
);
writeFileSync(broken, `${line(0)}\n{"timestamp": 0}\n`);

t.test("rows as documented", async (t) => {
  const { code, out, err } = await tandem([
    ...["simulate", "--trace", trace, "--policy", "tandem,llm-d,tandem", "--engines", "2"],
    ...["--load", "0.5,0.8,0.50", "--seeds", "2", "-o", "json"],
  ]);
  t.equal(code, 0, err);
  t.match(err, /capacity of 2: [\d.]+ requests\/s/);
  const { rows } = JSON.parse(out) as { rows: Record<string, unknown>[] };
  t.equal(rows.length, 8);
  t.same(
    new Set(rows.map(({ policy, load, seed }) => `${String(policy)} ${String(load)} ${String(seed)}`)).size,
    8,
    "each policy, load and seed once",
  );
  for (const row of rows) {
    t.match(row, { scene: "short", topology: "2", requests: 60, ttftMs: { mean: Number, p50: Number, p90: Number } });
    t.match(row, { throughputRps: Number, hitRate: Number, tpotMs: { p99: Number }, e2eMs: {}, goodputRps: Number });
  }
});

t.test("prefill and decode engines, a table", async (t) => {
  const { code, out } = await tandem([
    ...["simulate", "--trace", trace, "--policy", "tandem", "--prefill", "1", "--decode", "1", "--seeds", "2"],
    ...["--set", "router.prefill.policy=always"],
  ]);
  t.equal(code, 0);
  t.match(out, /^policy .*\ntandem +short +1p1d +0\.8 +[\d.]+ ±[\d.]+/);
});

t.test("a picture: a bar for each policy and load in each panel, as long as its mean", async (t) => {
  const { code, out } = await tandem([
    ...["simulate", "--trace", trace, "--policy", "tandem,random", "--engines", "2"],
    ...["--load", "0.5,0.8", "-o", "svg"],
  ]);
  t.equal(code, 0);
  t.match(out, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" /);
  t.match(out, /<\/svg>\n$/);
  const bars = [...out.matchAll(/<rect x="(\d+)" y="(\d+)" width="(\d+)" height="10" fill="#\w+"\/>\n<path/g)];
  t.equal(bars.length, 5 * 2 * 2, "five panels, two policies, two loads");
  const panels = Map.groupBy(bars, ([, x]) => x);
  t.equal(panels.size, 5);
  for (const panel of panels.values())
    t.equal(Math.max(...panel.map(([, , , width]) => Number(width))), 125, "the longest fills its panel");
});

t.test("wrong words are one line, and exit code 2", async (t) => {
  for (const [args, message] of [
    [[], /give --trace: a file, or a scene: kthena-long/],
    [["--trace", "nope"], /--trace nope: neither a file nor a scene/],
    [["--trace", broken], /broken\.jsonl: line 2: input_length is to be an integer/],
    [
      ["--trace", long],
      /long\.jsonl: line 2: prompt and answer are 1000010 tokens, the KV cache of an engine holds 944640/,
    ],
    [["--trace", "kthena-long", "--load", "0.5"], /scene kthena-long has a load of its own/],
    [["--trace", trace, "--policy", "best"], /--policy best: accepted are tandem, random/],
    [["--trace", trace, "--load", "0"], /--load 0: accepted are numbers from 0\.01 to 10/],
    [["--trace", trace, "--load", "fast"], /--load fast: accepted are numbers/],
    [["--trace", trace, "--seeds", "1.5"], /--seeds 1\.5: accepted are integers/],
    [["--trace", trace, "--seeds", "0"], /--seeds 0: accepted are numbers from 1/],
    [["--trace", trace, "--prefill", "2"], /give --engines, or --prefill and --decode/],
    [["--trace", trace, "--engines", "2", "--prefill", "1", "--decode", "1"], /give --engines, or/],
    [["--trace", "kthena-long", "--engines", "2"], /scene kthena-long has engines of its own/],
    [["--trace", "kthena-long", "--requests", "2"], /--requests is for traces/],
    [["--trace", trace, "-o", "xml"], /-o xml: accepted are table, json, svg/],
    [["--trace", trace, "-o", "constructor"], /accepted are table, json, svg/],
    [["--trace", trace, "--seeds", "1000", "--policy", "all"], /more than 10000 runs/],
  ] as const) {
    const { code, out, err } = await tandem(["simulate", ...args]);
    t.equal(code, 2, args.join(" "));
    t.match(err, message);
    t.equal(err.trim().split("\n").length, 1, err);
    t.equal(out, "");
  }
});
