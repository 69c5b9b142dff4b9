import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import t from "tap";
import { parse, parseAllDocuments } from "yaml";
import { admitAll, FORMATS } from "../../../src/cli/admit.ts";
import { parseObjects, readText } from "../../../src/cli/input.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { isDenied, isWarned } from "../../../src/kinds/verdict.ts";

const EXAMPLES = ["qwen3-32b-nvidia", "qwen3-32b-ascend", "qwen3-32b-ascend-cce"];
const example = (name: string): string => new URL(`../../../manifests/examples/${name}.yaml`, import.meta.url).pathname;
const { admission } = loadConfig({});

t.test("the examples are admitted without a complaint", (t) => {
  for (const name of EXAMPLES) {
    const objects = parseObjects(readText(example(name)), name);
    const verdicts = admitAll(objects, admission, true).flatMap(({ result }) => result.verdicts);
    t.same(
      verdicts.filter((verdict) => isDenied(verdict) || isWarned(verdict)),
      [],
      name,
    );
  }
  t.end();
});

t.test("formats", (t) => {
  const objects = parseObjects(readText(example("qwen3-32b-nvidia")), "nvidia");
  const admitted = admitAll(objects, admission, false);
  const print = (format: string, list = admitted): string => FORMATS[format]?.(list) ?? "";
  t.equal(parseAllDocuments(print("yaml")).length, 2);
  t.match(JSON.parse(print("json")), { kind: "List", items: [{ kind: "Deployment" }, { kind: "Deployment" }] });
  t.match(JSON.parse(print("json", admitted.slice(0, 1))), { kind: "Deployment" });
  t.match(print("diff"), /\+ +nvidia.com\/gpu: "4"/);
  t.match(print("diff"), /recorded plan, \d+ bytes/);
  t.match(JSON.parse(print("patch")), [{ object: "Deployment qwen3-32b-prefill", patch: [{ op: "add" }] }]);
  const rows = JSON.parse(print("explain")) as Record<string, string>[];
  t.ok(rows.every((row) => Object.keys(row).join() === "object,stage,outcome,reason,message"));
  t.end();
});

const PROGRAM = `
import { runProgram } from "./src/cli/index.ts";
import { registerAdmit } from "./src/cli/admit.ts";
process.exitCode = await runProgram([registerAdmit], ["node", "tandem", ...process.argv.slice(1)]);`;

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function tandem(...args: string[]): Promise<Ended> {
  const cwd = new URL("../../..", import.meta.url).pathname;
  const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", PROGRAM, "--", ...args], { cwd });
  return run.then(
    (ended) => ({ code: 0, ...ended }),
    (error: unknown) => error as Ended,
  );
}

t.test("exit codes and streams", async (t) => {
  const good = await tandem("admit", "--pods", "-f", example("qwen3-32b-nvidia"), "-f", example("cluster-16-nodes"));
  t.match(good, { code: 0, stderr: "" });
  t.same(
    parseAllDocuments(good.stdout).map((document) => (document.toJS() as { kind: string }).kind),
    ["Deployment", "Pod", "Deployment", "Pod"],
    "the cluster's own objects are not printed",
  );
  const golden = (name: string): string =>
    new URL(`../../golden/admission/${name}/input.yaml`, import.meta.url).pathname;
  const denied = await tandem("admit", "-f", golden("an-invalid-value-is-denied-with-what-is-accepted"));
  t.match(denied, { code: 1, stdout: "", stderr: /^denied: Deployment prefill: tandem.sh\/topology: "strict"/ });
  const warned = golden("an-unknown-key-is-warned-about-with-the-nearest");
  t.match(await tandem("admit", "-f", warned), { code: 0, stderr: /^warned: / });
  t.match(await tandem("admit", "--strict", "-f", warned), { code: 1 });
  t.match(await tandem("admit", "-f", "/nowhere.yaml"), { code: 2, stderr: /cannot be read/ });
  t.match(await tandem("admit", "-o", "xml", "-f", warned), { code: 2, stderr: /give one of yaml, json/ });
  t.match(await tandem("admit", "--help"), { code: 0, stdout: /Example:\n {2}tandem admit --pods/ });
});

t.test("stripping prints what was given", async (t) => {
  const file = example("qwen3-32b-ascend");
  const { stdout } = await tandem("admit", "-o", "json", "-f", file);
  const list = (parse(stdout) as { items: unknown[] }).items;
  t.equal(list.length, 2);

  const path = join(t.testdir(), "admitted.json");
  writeFileSync(path, stdout);
  const stripped = await tandem("admit", "--strip", "-f", path);
  t.same(
    parseAllDocuments(stripped.stdout).map((document) => document.toJS() as unknown),
    parseAllDocuments(readText(file)).map((document) => document.toJS() as unknown),
  );
});
