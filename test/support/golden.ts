/**
 * One golden case of admission: `input.yaml` is admitted, with `config.yaml` where there is one; `expected.yaml` holds
 * the objects as stored, `expected-pods.yaml` their Pods, `expected-verdicts.txt` what was decided. UPDATE_GOLDEN=1
 * rewrites them. Admitting the results again must change nothing, and stripping them must give the input.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Test } from "tap";
import { stringify } from "yaml";
import { strip } from "../../src/admission/admit.ts";
import { admitAll, type Admitted } from "../../src/cli/admit.ts";
import { parseObjects } from "../../src/cli/input.ts";
import { loadConfig } from "../../src/config/load.ts";
import { admissionSettings, type Settings } from "../../src/admission/stage.ts";
import { ADMITTED_KINDS } from "../../src/workload/template.ts";
import type { KubeObject } from "../../src/kinds/kube.ts";
import { isDenied } from "../../src/kinds/verdict.ts";

export const UPDATE = process.env["UPDATE_GOLDEN"] === "1";

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
  test.equal(found, read(path), basename(path));
}

const isPod = ({ before }: Admitted): boolean => before.kind === "Pod";
const isRefused = ({ result }: Admitted): boolean => result.verdicts.some(isDenied);
const objectOf = ({ result }: Admitted): KubeObject => result.object;

/** Proves the case in a folder. */
export function goldenCase(test: Test, folder: string): void {
  const config = loadConfig({ text: read(join(folder, "config.yaml")) });
  const objects = parseObjects(read(join(folder, "input.yaml")), "input.yaml");
  const admitted = admitAll(objects, admissionSettings(config), true);
  const stored = admitted.filter((one) => !isPod(one) && !isRefused(one));
  compare(test, join(folder, "expected.yaml"), documents(stored.map(objectOf)));
  compare(test, join(folder, "expected-pods.yaml"), documents(admitted.filter(isPod).map(objectOf)));
  compare(test, join(folder, "expected-verdicts.txt"), verdictLines(admitted));
  isSettled(test, { objects, admitted, config: admissionSettings(config) });
  for (const { before, result } of stored)
    if (ADMITTED_KINDS.includes(before.kind)) test.same(strip(result.object), before, "stripping gives back the input");
}

interface Result {
  readonly objects: readonly KubeObject[];
  readonly admitted: readonly Admitted[];
  readonly config: Settings;
}

/** Of the cluster and not of the result: not among what is printed. */
const SURROUNDINGS = ["Node", "HyperNode"];

/** What was admitted, admitted again beside the same surroundings, stays as it is. */
function isSettled(test: Test, { objects, admitted, config }: Result): void {
  const kept = admitted.filter((one) => !isRefused(one));
  const around = objects.filter(({ kind }) => SURROUNDINGS.includes(kind));
  const workloads = kept.filter((one) => !isPod(one)).map(objectOf);
  const again = admitAll([...workloads, ...around], config, true).map(objectOf);
  test.same(again, kept.map(objectOf), "admitting the output changes nothing");
  const pods = kept.filter(isPod).map(objectOf);
  const namespaces = objects.filter(({ kind }) => kind === "Namespace");
  const podsAgain = admitAll([...pods, ...namespaces, ...around], config, false);
  test.same(podsAgain.filter(isPod).map(objectOf), pods, "admitting a Pod twice changes nothing");
}
