import t from "tap";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { RESERVED } from "../../../src/kinds/names.ts";

const SRC = join(import.meta.dirname, "..", "..", "..", "src");

t.test("keys of reserved prefixes are read nowhere", (t) => {
  const files = globSync("{admission,controller,extender,router,workload,gang,endpoints,autoscaler}/**/*.ts", {
    cwd: SRC,
  });
  t.ok(files.length > 100);
  const reading = files.filter((file) => {
    const text = readFileSync(join(SRC, file), "utf8").replaceAll("${ROUTING_PREFIX}", "routing.tandem.sh/");
    return RESERVED.some((prefix) => new RegExp(`${prefix.replaceAll(".", "\\.")}[a-z]`).test(text));
  });
  t.same(reading, []);
  t.end();
});
