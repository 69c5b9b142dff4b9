/** Objects as large as the API server takes: admitted or left with a clear word, by patches that stay small. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import jsonpatch, { type Operation } from "fast-json-patch";
import t from "tap";
import { readBody } from "../../../src/admission/body.ts";
import { patchOf } from "../../../src/admission/patch.ts";
import { review } from "../../../src/admission/review.ts";
import { admitAll } from "../../../src/cli/admit.ts";
import { parseObjects } from "../../../src/cli/input.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { JsonObject, KubeObject, Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { podFromTemplate } from "../../../src/workload/template.ts";
import { manifest } from "../../support/large-deployment.ts";

const context = { snapshot: EMPTY_SNAPSHOT, settings: loadConfig({}).admission };

interface Answer {
  readonly allowed: boolean;
  readonly patch: readonly Operation[];
  readonly bytes: number;
  readonly warnings: readonly string[];
}

function ask(object: KubeObject): Answer {
  const request = { uid: "u", operation: "CREATE", namespace: "n", kind: { kind: object.kind }, object };
  const bytes = Buffer.from(JSON.stringify({ apiVersion: "admission.k8s.io/v1", request }));
  const response = review(readBody(bytes), "mutate", context).body["response"] as JsonObject;
  const text = Buffer.from((response["patch"] as string | undefined) ?? "", "base64").toString() || "[]";
  const allowed = response["allowed"] === true;
  const warnings = (response["warnings"] ?? []) as readonly string[];
  return { allowed, warnings, bytes: text.length, patch: JSON.parse(text) as Operation[] };
}

const MOST_OPERATIONS = 64;
const MOST_BYTES = 32768;

/** The Deployment, and the Pod of its admitted template. */
function bothOf(given: Workload): [KubeObject, Answer][] {
  const first = ask(given);
  const stored = jsonpatch.applyPatch(structuredClone(given), [...first.patch], true).newDocument;
  const pod = podFromTemplate(stored, "w-0");
  const second = ask(pod);
  jsonpatch.applyPatch(structuredClone(pod), [...second.patch], true);
  return [
    [given, first],
    [pod, second],
  ];
}

const withContainers = (more: (engine: JsonObject) => readonly JsonObject[]): Workload => {
  const given = manifest();
  const { spec } = given.spec.template;
  const containers = more(spec.containers[0] as unknown as JsonObject);
  return {
    ...given,
    spec: { ...given.spec, template: { ...given.spec.template, spec: { ...spec, containers } } },
  } as Workload;
};
const sidecars = (count: number, extra: object = {}): JsonObject[] =>
  Array.from({ length: count }, (_, index) => ({ name: `c-${index}`, image: "busybox", ...extra }));

const LARGE: readonly [name: string, given: Workload][] = [
  ["10,000 containers before the engine", withContainers((engine) => [...sidecars(10_000), engine])],
  ["10,000 containers behind the engine", withContainers((engine) => [engine, ...sidecars(10_000)])],
  ["3 MB in the variables of the engine", withContainers((engine) => [{ ...engine, env: variables(40_000) }])],
  [
    "3 MB in one argument of a sidecar",
    withContainers((engine) => [engine, ...sidecars(1, { args: ["x".repeat(3e6)] })]),
  ],
  [
    "3 MB in one argument of the engine",
    withContainers((engine) => [{ ...engine, args: ["--model", "x".repeat(3e6)] }]),
  ],
];

function variables(count: number): JsonObject[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `SETTING_${index}`,
    value: "a value of some length, as there are",
  }));
}

for (const [name, given] of LARGE)
  t.test(name, (t) => {
    for (const [{ kind }, { allowed, patch, bytes, warnings }] of bothOf(given)) {
      t.ok(allowed, `${kind} is let through`);
      t.ok(patch.length > 0 || warnings.length > 0, `${kind}: ${patch.length} operations, or a word why none`);
      t.ok(
        patch.length <= MOST_OPERATIONS && bytes <= MOST_BYTES,
        `${kind}: ${patch.length} operations, ${bytes} bytes`,
      );
    }
    t.end();
  });

t.test("a template whose annotations leave no room: nothing is injected, and that is said", (t) => {
  const given = manifest();
  const annotations = { "example.com/all": "x".repeat(262_144 - 16) };
  const template = { ...given.spec.template, metadata: { ...given.spec.template.metadata, annotations } };
  const { allowed, patch, warnings } = ask({ ...given, spec: { ...given.spec, template } });
  t.equal(allowed, true);
  t.same(patch, []);
  t.match(warnings, [/no room for Tandem's annotations/]);
  t.end();
});

t.test("the patches of all golden cases stay within 64 operations and 32 KiB", (t) => {
  const root = join(import.meta.dirname, "../../golden");
  const read = (path: string): string => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  };
  let [patched, operations, bytes] = [0, 0, 0];
  for (const name of ["admission", "matrix"].flatMap((set) =>
    readdirSync(join(root, set)).map((one) => join(set, one)),
  )) {
    const input = read(join(root, name, "input.yaml"));
    if (input === "") continue;
    const { admission } = loadConfig({ text: read(join(root, name, "config.yaml")) });
    for (const { before, result } of admitAll(parseObjects(input, name), admission, true)) {
      const { patch, unsound } = patchOf(before, result.object, result.touched);
      t.equal(unsound, undefined, name);
      if (patch.length > 0) patched++;
      operations = Math.max(operations, patch.length);
      bytes = Math.max(bytes, JSON.stringify(patch).length);
    }
  }
  t.comment(`${patched} patches; the largest: ${operations} operations, ${bytes} bytes`);
  t.ok(patched > 100, `${patched} objects were patched`);
  t.ok(operations <= MOST_OPERATIONS, `${operations} operations`);
  t.ok(bytes <= MOST_BYTES, `${bytes} bytes`);
  t.end();
});
