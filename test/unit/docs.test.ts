/** Pages that people write by hand: what they name exists, and their examples load as they stand. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import jsonPatch from "fast-json-patch";
import t from "tap";
import { loadConfig } from "../../src/config/load.ts";
import { escapeSegment } from "../../src/admission/operations.ts";
import { STAGES } from "../../src/admission/stages.ts";
import { admitAll } from "../../src/cli/admit.ts";
import { parseObjects } from "../../src/cli/input.ts";
import { isObject } from "../../src/kinds/kube.ts";
import { checkPolicy } from "../../src/admission/policy.ts";
import { GATE, LABEL, LWS, ENGINE_ENV } from "../../src/kinds/names.ts";
import { isDenied, isWarned } from "../../src/kinds/verdict.ts";
import { workloadSpec } from "../../src/workload/decode.ts";
import { scalingOf } from "../../src/workload/scaling-decode.ts";
import { configuredDevices } from "../../src/profiles/devices.ts";
import { deployment } from "../support/placement.ts";

const { compare } = jsonPatch;
/** Under Volcano more is added than elsewhere. */
const CASE = "test/golden/matrix/vllm-on-nvidia-as-decode-under-volcano";

interface Added {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

const ROOT = join(import.meta.dirname, "..", "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const example = (page: string): string => /```yaml\n([\s\S]*?)```/.exec(read(page))?.[1] ?? "";

t.test("links of the README and of the pages lead somewhere", (t) => {
  const pages = [
    "README.md",
    ...readdirSync(join(ROOT, "docs"))
      .filter((name) => name.endsWith(".md"))
      .map((name) => `docs/${name}`),
  ];
  for (const page of pages)
    for (const [, link = ""] of read(page).matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g))
      t.ok(existsSync(join(ROOT, page, "..", link)), `${page}: ${link}`);
  t.end();
});

t.test("the page of stages has a row for each of them, in their order", (t) => {
  const rows = [...read("docs/stages.md").matchAll(/^\| `(\w+)` +\|/gm)].map(([, name]) => name);
  t.same(rows, [...new Set(STAGES.map(({ name }) => name))]);
  t.end();
});

t.test("the ignore rules of the page of operations cover what a workload of the matrix is given", (t) => {
  const pointers = [...read("docs/operations.md").matchAll(/^ +- (\/\S+)$/gm)].map(([, pointer = ""]) => pointer);
  const [before] = parseObjects(read(`${CASE}/input.yaml`), "input.yaml");
  const [after] = parseObjects(read(`${CASE}/expected.yaml`), "expected.yaml");
  const added = compare(before ?? {}, after ?? {}).flatMap(({ op, path, value }: Added) =>
    op === "add" && isObject(value) ? Object.keys(value).map((key) => `${path}/${escapeSegment(key)}`) : [path],
  );
  t.ok(added.length > 5);
  t.same(
    added.filter((path) => !pointers.some((pointer) => path === pointer || path.startsWith(`${pointer}/`))),
    [],
  );
  t.end();
});

t.test("the page of instances names the gate, the labels and the variables as they are", (t) => {
  const page = read("docs/instances.md");
  const names = [GATE.rank, LABEL.instance, LABEL.nodeRank, LWS.leaderEnv, LWS.sizeEnv, LWS.indexEnv];
  const variables = [
    ENGINE_ENV.nodeRank,
    ENGINE_ENV.nodes,
    ENGINE_ENV.instance,
    ENGINE_ENV.dpAddress,
    ENGINE_ENV.dpRankStart,
  ];
  for (const name of [...names, ...variables]) t.match(page, `\`${name}\``);
  t.end();
});

t.test("the pair of the page of autoscaling is admitted without a complaint, and each decodes as it says", (t) => {
  const objects = parseObjects(example("docs/autoscaling.md"), "docs/autoscaling.md");
  const admitted = admitAll(objects, loadConfig().admission, false, true);
  t.equal(admitted.length, 2);
  for (const { before, result } of admitted) {
    t.same(
      result.verdicts.filter((verdict) => isDenied(verdict) || isWarned(verdict)),
      [],
    );
    const { spec } = workloadSpec(before, { devices: configuredDevices(loadConfig().admission) });
    if (spec !== undefined) t.match(scalingOf(before, spec).scaling, { mode: "auto", minReplicas: 1 });
  }
  t.end();
});

t.test("the policy of the page loads, and refuses what the page says it refuses", (t) => {
  const { admission } = loadConfig({ text: example("docs/tenancy.md"), name: "docs/tenancy.md" });
  const namespace = {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "default", labels: { team: "research" } },
  } as const;
  const denied = (model: string, team = "research"): readonly string[] => {
    const object = deployment("d", { model });
    const devices = configuredDevices(admission);
    const { spec } = workloadSpec(object, { devices });
    if (spec === undefined) throw new Error("the workload was not decoded");
    const labels = { team };
    return checkPolicy({
      spec,
      object,
      template: object.spec.template,
      namespace: { ...namespace, metadata: { ...namespace.metadata, labels } },
      settings: admission,
    }).map(({ message }) => message);
  };
  t.match(denied("public-1"), [/research/]);
  t.same(denied("research-1"), []);
  t.same(denied("public-1", "sales"), []);
  t.end();
});
