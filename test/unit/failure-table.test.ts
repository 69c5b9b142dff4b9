/** Every configuration key in the failure table exists, and has the default that the table gives. */
import t from "tap";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";

const text = readFileSync(join(import.meta.dirname, "..", "..", "docs", "failure-table.md"), "utf8");
const at = (path: string): unknown =>
  path
    .split(".")
    .reduce<unknown>((value, key) => (value as Readonly<Record<string, unknown>> | undefined)?.[key], loadConfig({}));

t.test("the failure table names keys that exist, with their defaults", (t) => {
  const keys = [...text.matchAll(/`((?:router|cluster|admission|extender|controller)\.[\w.]+)`(?: \((\d+)\))?/g)];
  t.ok(keys.length > 25);
  for (const [, path = "", value] of keys) {
    t.not(at(path), undefined, path);
    if (value !== undefined) t.equal(at(path), Number(value), path);
  }
  t.end();
});
