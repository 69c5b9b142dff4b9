import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { HINTS } from "../../../src/kinds/hints.ts";
import { reasonsReference } from "../../../src/kinds/reference.ts";
import { REASONS } from "../../../src/kinds/verdict.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;
const CATALOGUE = ["src/kinds/reasons.ts", "src/kinds/hints.ts"];

const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
  .map((path) => join("src", path))
  .filter((path) => path.endsWith(".ts") && !CATALOGUE.includes(path))
  .map((path) => readFileSync(join(ROOT, path), "utf8"))
  .join("\n");

t.test("the reference page is the one written from the catalogue", (t) => {
  const page = readFileSync(join(ROOT, "docs/reference/reasons.md"), "utf8");
  t.equal(page, reasonsReference(REASONS, HINTS));
  t.end();
});

t.test("every code of the catalogue is used", (t) => {
  t.same(
    Object.keys(REASONS).filter((code) => !new RegExp(`"${code}[":]`).test(sources)),
    [],
  );
  t.end();
});

t.test("every code that a verdict is made with stands in the catalogue", (t) => {
  const made = sources.matchAll(/\b(?:changed|kept|skipped|warned|denied|allowed)\(\s*"([A-Za-z]+)"/g);
  const codes = new Set([...made].map(([, code]) => code ?? ""));
  t.ok(codes.size > 40, `${codes.size} codes found in the sources`);
  t.same(
    [...codes].filter((code) => !Object.hasOwn(REASONS, code)),
    [],
  );
  t.end();
});

t.test("hints are for codes of the catalogue, and say something else than the meaning", (t) => {
  for (const [code, hint] of Object.entries(HINTS)) {
    t.ok(Object.hasOwn(REASONS, code), code);
    t.match(hint, /^[A-Z].*\.$/, code);
    t.not(hint, (REASONS as Readonly<Record<string, string>>)[code], code);
  }
  t.end();
});
