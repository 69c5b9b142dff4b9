/** The matrix of engine, device dialect, role and scheduler: golden cases whose inputs come from the table in inputs.ts. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { goldenCase, UPDATE } from "../../support/golden.ts";
import { matrixCases } from "./inputs.ts";

const ROOT = import.meta.dirname;
const cases = matrixCases();
const folders = (): readonly string[] =>
  readdirSync(ROOT, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();

if (UPDATE) {
  for (const name of folders()) rmSync(join(ROOT, name), { recursive: true });
  for (const { name, input } of cases) {
    mkdirSync(join(ROOT, name));
    writeFileSync(join(ROOT, name, "input.yaml"), input);
  }
}

t.test("every combination has its directory, and no other", (test) => {
  test.same(folders(), cases.map(({ name }) => name).sort());
  test.ok(cases.length >= 80, `${cases.length} cases`);
  test.end();
});

for (const { name, input } of cases) {
  t.test(name.replaceAll("-", " "), (test) => {
    test.equal(readFileSync(join(ROOT, name, "input.yaml"), "utf8"), input, "input.yaml is what the table says");
    goldenCase(test, join(ROOT, name));
    test.end();
  });
}
