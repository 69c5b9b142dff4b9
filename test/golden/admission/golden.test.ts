/**
 * Golden cases of admission: the name of a directory is the sentence it proves. `input.yaml` is admitted, with
 * `config.yaml` where there is one; `expected.yaml` holds the objects as stored, `expected-pods.yaml` their Pods,
 * `expected-verdicts.txt` what was decided. UPDATE_GOLDEN=1 rewrites them.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { stringify } from "yaml";
import { strip } from "../../../src/admission/admit.ts";
import { admitAll, type Admitted } from "../../../src/cli/admit.ts";
import { parseObjects } from "../../../src/cli/input.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { isDenied } from "../../../src/kinds/verdict.ts";

const ROOT = import.meta.dirname;
const UPDATE = process.env["UPDATE_GOLDEN"] === "1";

const read = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8") : "");
const documents = (objects: readonly KubeObject[]): string =>
  objects.map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })).join("---\n");
const verdictLines = (admitted: readonly Admitted[]): string =>
  admitted
    .flatMap(({ before, result }) =>
      result.verdicts.map(
        ({ outcome, reason, subject, message }) =>
          `${before.kind} ${before.metadata.name ?? ""}: ${outcome} ${reason}${subject === undefined ? "" : ` (${subject})`}: ${message}\n`,
      ),
    )
    .join("");

function compare(test: Test, path: string, found: string): void {
  if (UPDATE && found === "") rmSync(path, { force: true });
  else if (UPDATE) writeFileSync(path, found);
  test.equal(found, read(path), path.slice(ROOT.length + 1));
}

for (const name of readdirSync(ROOT, { withFileTypes: true }).filter((one) => one.isDirectory())) {
  t.test(name.name.replaceAll("-", " "), (test) => {
    const folder = join(ROOT, name.name);
    const config = loadConfig({ text: read(join(folder, "config.yaml")) }).admission;
    const objects = parseObjects(read(join(folder, "input.yaml")), "input.yaml");
    const admitted = admitAll(objects, config, true);
    const isPod = ({ before }: Admitted): boolean => before.kind === "Pod";
    const stored = admitted
      .filter((one) => !isPod(one) && !one.result.verdicts.some(isDenied))
      .map(({ result }) => result.object);
    compare(test, join(folder, "expected.yaml"), documents(stored));
    compare(
      test,
      join(folder, "expected-pods.yaml"),
      documents(admitted.filter(isPod).map(({ result }) => result.object)),
    );
    compare(test, join(folder, "expected-verdicts.txt"), verdictLines(admitted));

    const context = objects.filter(({ kind }) => kind === "HyperNode");
    const again = admitAll([...stored, ...context], config, true).map(({ result }) => result.object);
    const first = admitted.filter(({ result }) => !result.verdicts.some(isDenied)).map(({ result }) => result.object);
    test.same(again, first, "admitting the output changes nothing");
    const pods = admitted.filter(isPod).map(({ result }) => result.object);
    test.same(
      admitAll([...pods, ...objects.filter(({ kind }) => kind === "Namespace")], config, false)
        .map(({ result }) => result.object)
        .filter(({ kind }) => kind === "Pod"),
      pods,
      "admitting a Pod twice changes nothing",
    );
    const given = objects.filter(({ kind }) => kind !== "HyperNode");
    if (stored.length === given.length) test.same(stored.map(strip), given, "stripping gives back the input");
    test.end();
  });
}
