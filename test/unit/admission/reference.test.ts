import { readFileSync } from "node:fs";
import t from "tap";
import { enginesReference } from "../../../src/admission/reference.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { ENGINE_ENV } from "../../../src/kinds/names.ts";
import { connectorsOf } from "../../../src/profiles/connectors.ts";
import { ENGINES } from "../../../src/profiles/engines.ts";

const page = readFileSync(new URL("../../../docs/engines.md", import.meta.url), "utf8");

t.test("the page of engines is what admission does", (t) => {
  t.equal(page, enginesReference(loadConfig().admission), "run npm run docs");
  t.end();
});

t.test("every connector of every engine and every variable stands on it", (t) => {
  for (const { id } of ENGINES)
    for (const connector of connectorsOf(id)) t.match(page, `\`${id}\`, connector \`${connector}\``);
  for (const name of Object.values(ENGINE_ENV)) t.match(page, name);
  t.end();
});
