import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { parse, parseAllDocuments } from "yaml";
import { admitAll, FORMATS, registerAdmit } from "../../../src/cli/admit.ts";
import { runProgram } from "../../../src/cli/index.ts";
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

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program within this process, with its streams caught. */
async function tandem(t: Test, ...args: string[]): Promise<Ended> {
  const [out, err] = [t.capture(process.stdout, "write"), t.capture(process.stderr, "write")];
  const text = (calls: typeof out): string =>
    calls()
      .map((call) => String(call.args[0]))
      .join("");
  const code = await runProgram([registerAdmit], ["node", "tandem", ...args]);
  const ended = { code, stdout: text(out), stderr: text(err) };
  out.restore();
  err.restore();
  return ended;
}

t.test("exit codes and streams", async (t) => {
  const good = await tandem(t, "admit", "--pods", "-f", example("qwen3-32b-nvidia"), "-f", example("cluster-16-nodes"));
  t.match(good, { code: 0, stderr: "" });
  t.same(
    parseAllDocuments(good.stdout).map((document) => (document.toJS() as { kind: string }).kind),
    ["Deployment", "Pod", "Deployment", "Pod"],
    "the cluster's own objects are not printed",
  );
  const golden = (name: string): string =>
    new URL(`../../golden/admission/${name}/input.yaml`, import.meta.url).pathname;
  const denied = await tandem(t, "admit", "-f", golden("an-invalid-value-is-denied-with-what-is-accepted"));
  t.match(denied, { code: 1, stdout: "", stderr: /^denied: Deployment prefill: tandem.sh\/topology: "strict"/ });
  const warned = golden("an-unknown-key-is-warned-about-with-the-nearest");
  t.match(await tandem(t, "admit", "-f", warned), { code: 0, stderr: /^warned: / });
  t.match(await tandem(t, "admit", "--strict", "-f", warned), { code: 1, stdout: "", stderr: /^denied: / });
  const empty = t.testdir({ "empty.yaml": "---\n", folder: {} });
  for (const path of [join(empty, "empty.yaml"), join(empty, "folder")])
    t.match(await tandem(t, "admit", "-f", path), { code: 2, stdout: "", stderr: /no objects found/ });
  t.match(await tandem(t, "admit", "-f", "/nowhere.yaml"), { code: 2, stderr: /cannot be read/ });
  t.match(await tandem(t, "admit", "-o", "xml", "-f", warned), { code: 2, stderr: /give one of yaml, json/ });
  t.match(await tandem(t, "admit", "--help"), { code: 0, stdout: /Example:\n {2}tandem admit --pods/ });
});

t.test("what YAML makes of a careless hand", async (t) => {
  const admitted = async (text: string): Promise<Ended> => {
    const path = join(t.testdir(), "given.yaml");
    writeFileSync(path, text);
    return tandem(t, "admit", "-f", path);
  };
  const head = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: x\n";
  t.match(await admitted(`${head}  labels:\nspec:\n  template:\n`), { code: 0, stderr: "" });
  const labels = "  labels: { tandem.sh/model: m, tandem.sh/role: prefill, tandem.sh/cell: 0 }\n";
  t.match(await admitted(`${head}${labels}spec: { template: { spec: { containers: [{ name: e }] } } }`), {
    code: 1,
    stderr: /tandem.sh\/cell: 0 is not accepted; give text in quotes: a label value/,
  });
  const plain = "  labels: { tandem.sh/model: m, tandem.sh/role: prefill }\n";
  for (const spec of ["", "spec: {}", "spec: { template: null }", "spec: { template: { spec: { containers: null } } }"])
    t.match(
      await admitted(`${head}${plain}${spec}`),
      { code: 1, stderr: /no pod template with named containers/ },
      spec,
    );
  t.match(await admitted("kind: Deployment"), { code: 2, stderr: /apiVersion and kind are needed/ });
  t.match(await admitted("a: [1"), { code: 2, stderr: /not YAML/ });
  t.match(await admitted("apiVersion: example.com/v1\nkind: Strange\nmetadata: { name: s }\n"), {
    code: 0,
    stdout: /kind: Strange/,
  });
});

t.test("stripping prints what was given", async (t) => {
  const file = example("qwen3-32b-ascend");
  const { stdout } = await tandem(t, "admit", "-o", "json", "-f", file);
  const list = (parse(stdout) as { items: unknown[] }).items;
  t.equal(list.length, 2);

  const path = join(t.testdir(), "admitted.json");
  writeFileSync(path, stdout);
  const stripped = await tandem(t, "admit", "--strip", "-f", path);
  t.same(
    parseAllDocuments(stripped.stdout).map((document) => document.toJS() as unknown),
    parseAllDocuments(readText(file)).map((document) => document.toJS() as unknown),
  );
});
