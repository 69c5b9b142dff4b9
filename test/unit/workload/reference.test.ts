import { readFileSync } from "node:fs";
import t from "tap";
import { ANNOTATION, LABEL, STATUS } from "../../../src/kinds/names.ts";
import { ALL_KEYS } from "../../../src/workload/keys.ts";
import { labelsReference } from "../../../src/workload/reference.ts";

t.test("the reference page is the one written from the table", (t) => {
  const page = readFileSync(new URL("../../../docs/reference/labels.md", import.meta.url), "utf8");
  t.equal(page, labelsReference());
  t.end();
});

t.test("every name of kinds/names.ts stands on the page, and every annotation in the table", (t) => {
  const page = labelsReference();
  for (const key of [...Object.values(LABEL), ...Object.values(ANNOTATION), ...Object.values(STATUS)])
    t.ok(page.includes(`\`${key}\``), key);
  const known = ALL_KEYS.map(({ key }) => key);
  t.same(
    Object.values(ANNOTATION).filter((key) => !known.includes(key)),
    [],
  );
  t.end();
});
