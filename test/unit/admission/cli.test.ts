import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parse, parseAllDocuments } from "yaml";
import { admitAll, FORMATS } from "../../../src/cli/admit.ts";
import { parseObjects, readText } from "../../../src/cli/input.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { tandem, type Ended } from "../../support/command.ts";
import { isDenied, isWarned } from "../../../src/kinds/verdict.ts";

/** Each command is a process of its own: a second or two, and several on a busy machine. */
t.setTimeout(300_000);

const EXAMPLES = ["qwen3-32b-nvidia", "qwen3-32b-ascend", "qwen3-32b-ascend-cce"];
const example = (name: string): string => new URL(`../../../manifests/examples/${name}.yaml`, import.meta.url).pathname;
const { admission } = loadConfig({});

const MISSPELT = `apiVersion: apps/v1
kind: Deployment
metadata: { name: x, labels: { tandem.sh/modell: m, tandem.sh/role: prefill } }
spec: { template: { spec: { containers: [{ name: engine }] } } }
`;

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

t.test("exit codes and streams", async (t) => {
  const examples = ["qwen3-32b-nvidia", "cluster-16-nodes"].flatMap((name) => ["-f", example(name)]);
  const good = await tandem(["admit", "--pods", ...examples]);
  t.match(good, { code: 0, err: "" });
  t.same(
    parseAllDocuments(good.out).map((document) => (document.toJS() as { kind: string }).kind),
    ["Deployment", "Pod", "Deployment", "Pod"],
    "the cluster's own objects are not printed",
  );
  const golden = (name: string): string =>
    new URL(`../../golden/admission/${name}/input.yaml`, import.meta.url).pathname;
  const denied = await tandem(["admit", "-f", golden("an-invalid-value-is-denied-with-what-is-accepted")]);
  t.match(denied, { code: 1, out: "", err: /^denied: Deployment prefill: tandem.sh\/topology: "strict"/ });
  const warned = golden("an-unknown-key-is-warned-about-with-the-nearest");
  t.match(await tandem(["admit", "-f", warned]), { code: 0, err: /^warned: / });
  t.match(await tandem(["admit", "--strict", "-f", warned]), { code: 1, out: "", err: /^denied: / });
  const misspelt = join(t.testdir(), "misspelt.yaml");
  writeFileSync(misspelt, MISSPELT);
  const stray = /label tandem.sh\/modell is unknown, did you mean tandem.sh\/model\?/;
  t.match(await tandem(["admit", "-f", misspelt]), { code: 0, out: /kind: Deployment/, err: stray });
  t.match(await tandem(["admit", "--strict", "-f", misspelt]), { code: 1, out: "", err: stray });
  const empty = t.testdir({ "empty.yaml": "---\n", folder: {} });
  for (const path of [join(empty, "empty.yaml"), join(empty, "folder")])
    t.match(await tandem(["admit", "-f", path]), { code: 2, out: "", err: /no objects found/ });
  t.match(await tandem(["admit", "-f", "/nowhere.yaml"]), { code: 2, err: /cannot be read/ });
  t.match(await tandem(["admit", "-o", "xml", "-f", warned]), { code: 2, err: /give one of yaml, json/ });
  t.match(await tandem(["admit", "--strikt"]), {
    code: 2,
    err: /unknown option '--strikt'\n\(Did you mean --strict\?\)/,
  });
  t.match(await tandem(["admit"]), { code: 2, err: /give at least one file: -f FILE/ });
  t.match(await tandem(["admit", "--help"]), { code: 0, out: /Example:\n {2}tandem admit --pods/ });
});

t.test("what YAML makes of a careless hand", async (t) => {
  const admitted = async (text: string): Promise<Ended> => {
    const path = join(t.testdir(), "given.yaml");
    writeFileSync(path, text);
    return tandem(["admit", "-f", path]);
  };
  const head = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: x\n";
  t.match(await admitted(`${head}  labels:\nspec:\n  template:\n`), { code: 0, err: "" });
  const labels = "  labels: { tandem.sh/model: m, tandem.sh/role: prefill, tandem.sh/cell: 0 }\n";
  t.match(await admitted(`${head}${labels}spec: { template: { spec: { containers: [{ name: e }] } } }`), {
    code: 1,
    err: /tandem.sh\/cell: 0 is not accepted; give text in quotes: a label value/,
  });
  const plain = "  labels: { tandem.sh/model: m, tandem.sh/role: prefill }\n";
  for (const spec of ["", "spec: {}", "spec: { template: null }", "spec: { template: { spec: { containers: null } } }"])
    t.match(await admitted(`${head}${plain}${spec}`), { code: 1, err: /no pod template with named containers/ }, spec);
  t.match(await admitted("kind: Deployment"), { code: 2, err: /apiVersion and kind are needed/ });
  t.match(await admitted("a: [1"), { code: 2, err: /not YAML/ });
  t.match(await admitted("apiVersion: example.com/v1\nkind: Strange\nmetadata: { name: s }\n"), {
    code: 0,
    out: /kind: Strange/,
  });
});

t.test("stripping prints what was given", async (t) => {
  const file = example("qwen3-32b-ascend");
  const { out: stdout } = await tandem(["admit", "-o", "json", "-f", file]);
  const list = (parse(stdout) as { items: unknown[] }).items;
  t.equal(list.length, 2);

  const path = join(t.testdir(), "admitted.json");
  writeFileSync(path, stdout);
  const stripped = await tandem(["admit", "--strip", "-f", path]);
  t.same(
    parseAllDocuments(stripped.out).map((document) => document.toJS() as unknown),
    parseAllDocuments(readText(file)).map((document) => document.toJS() as unknown),
  );
});
