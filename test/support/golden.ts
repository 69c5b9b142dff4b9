/**
 * One golden case of admission: `input.yaml` is admitted, with `config.yaml` where there is one and over the objects of
 * `live.yaml`, of which only replicas are then kept; `expected.yaml` holds
 * the objects as stored, `expected-pods.yaml` their Pods, `expected-verdicts.txt` what was decided. UPDATE_GOLDEN=1
 * rewrites them. Admitting the results again must change nothing, and stripping them must give the input.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Test } from "tap";
import { stringify } from "yaml";
import { admitObject, strip } from "../../src/admission/admit.ts";
import { admitAll, type Admitted } from "../../src/cli/admit.ts";
import { parseObjects } from "../../src/cli/input.ts";
import { loadConfig } from "../../src/config/load.ts";
import { admissionSettings, type Settings } from "../../src/admission/stage.ts";
import { replicasOf, withReplicas } from "../../src/admission/replicas.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
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
  const live = parseObjects(read(join(folder, "live.yaml")), "live.yaml");
  const admitted = over(live, admitAll(objects, admissionSettings(config), true), admissionSettings(config));
  const stored = admitted.filter((one) => !isPod(one) && !isRefused(one));
  compare(test, join(folder, "expected.yaml"), documents(stored.map(objectOf)));
  compare(test, join(folder, "expected-pods.yaml"), documents(admitted.filter(isPod).map(objectOf)));
  compare(test, join(folder, "expected-verdicts.txt"), verdictLines(admitted));
  isSettled(test, { objects, admitted, config: admissionSettings(config) });
  for (const { before, result } of stored)
    if (ADMITTED_KINDS.includes(before.kind))
      test.same(strip(result.object), given(before, result.object, live), "stripping gives back the input");
}

const liveOf = (object: KubeObject, live: readonly KubeObject[]): KubeObject | undefined =>
  live.find(({ kind, metadata }) => kind === object.kind && metadata.name === object.metadata.name);

/** Admits those again that live already, as updates of what is stored. */
const over = (live: readonly KubeObject[], admitted: readonly Admitted[], settings: Settings): readonly Admitted[] =>
  admitted.map((one) => {
    const found = liveOf(one.before, live);
    if (found === undefined) return one;
    const previous = admitObject(found, { snapshot: EMPTY_SNAPSHOT, settings }).object;
    return { ...one, result: admitObject(one.before, { snapshot: EMPTY_SNAPSHOT, settings, previous }) };
  });

/** What was given; of what lives already, with the replicas that were stored. */
const given = (before: KubeObject, object: KubeObject, live: readonly KubeObject[]): KubeObject =>
  liveOf(before, live) === undefined ? before : withReplicas(before, replicasOf(object));

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
