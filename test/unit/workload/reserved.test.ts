import t from "tap";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { RESERVED } from "../../../src/kinds/names.ts";

const SRC = join(import.meta.dirname, "..", "..", "..", "src");

t.test("of the reserved keys the sources read exactly those that the reference page names", (t) => {
  const read = globSync("{admission,controller,extender,router,workload,gang,endpoints}/**/*.ts", { cwd: SRC }).flatMap(
    (file) => {
      if (file.endsWith("reference.ts")) return [];
      const text = readFileSync(join(SRC, file), "utf8")
        .replaceAll("${AUTOSCALING_PREFIX}", "autoscaling.tandem.sh/")
        .replaceAll("${ROUTING_PREFIX}", "routing.tandem.sh/");
      return [...text.matchAll(/(?:autoscaling|routing)\.tandem\.sh\/[a-z-]+/g)].map(([key]) => key);
    },
  );
  t.same([...new Set(read)].sort(), RESERVED.flatMap(({ read: keys }) => [...keys]).sort());
  t.end();
});
