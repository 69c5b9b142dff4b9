/** Golden cases of admission: the name of a directory is the sentence it proves. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { goldenCase } from "../../support/golden.ts";

const ROOT = import.meta.dirname;

for (const { name } of readdirSync(ROOT, { withFileTypes: true }).filter((one) => one.isDirectory())) {
  t.test(name.replaceAll("-", " "), (test) => {
    goldenCase(test, join(ROOT, name));
    test.end();
  });
}
