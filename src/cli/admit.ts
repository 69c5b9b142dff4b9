/**
 * `tandem admit`: admission offline. The same code as the webhooks, with the given objects as the cluster; prints the
 * objects as they would be stored. Nodes and HyperNodes are read and not printed: they belong to the cluster.
 */
import { createTwoFilesPatch } from "diff";
import { stringify } from "yaml";
import { admitObject, admitPod, strip, type AdmitContext, type AdmitResult } from "../admission/admit.ts";
import { explain } from "../admission/explain.ts";
import { patchOf } from "../admission/patch.ts";
import { admissionSettings, type Settings } from "../admission/stage.ts";
import { annotationOf, keyOf, type KubeObject, type Pod, type Workload } from "../kinds/kube.ts";
import { STATUS } from "../kinds/names.ts";
import { hintOf } from "../kinds/hints.ts";
import { isDenied, isWarned } from "../kinds/verdict.ts";
import { snapshotOfObjects } from "../simulator/cluster.ts";
import { samplePods } from "../workload/sample.ts";
import { ADMITTED_KINDS, isTemplate, templateOf } from "../workload/template.ts";
import type { Register } from "./index.ts";
import { collect, readConfig, readObjects, UsageError } from "./input.ts";

/** One object, before and after. */
export interface Admitted {
  readonly before: KubeObject;
  readonly result: AdmitResult;
}

const CONTEXT_KINDS = new Set(["Node", "HyperNode"]);

const isPod = (object: KubeObject): object is Pod => object.kind === "Pod" && isTemplate(object);

const admitOne = (object: KubeObject, context: AdmitContext): AdmitResult =>
  isPod(object) ? admitPod(object, context) : admitObject(object, context);

/** The Pods of an admitted workload, one for each of its templates, named after its first replica. */
function podOf({ result }: Admitted, context: AdmitContext): Admitted[] {
  const { object } = result;
  if (!ADMITTED_KINDS.includes(object.kind) || templateOf(object) === undefined) return [];
  if (result.verdicts.some(isDenied)) return [];
  return samplePods(object as Workload).map((before) => ({
    before,
    result: admitPod(before, { ...context, sample: true }),
  }));
}

/**
 * Admits the objects against each other, in their order, each followed by its Pod where `pods` is set. `settled`: they
 * are all there is, so that a missing partner is told.
 */
export function admitAll(
  objects: readonly KubeObject[],
  settings: Settings,
  pods: boolean,
  settled = false,
): readonly Admitted[] {
  const context: AdmitContext = { snapshot: snapshotOfObjects(objects), settings, settled };
  return objects
    .filter(({ kind }) => !CONTEXT_KINDS.has(kind))
    .flatMap((before) => {
      const admitted = { before, result: admitOne(before, context) };
      return pods ? [admitted, ...podOf(admitted, context)] : [admitted];
    });
}

const nameOf = (object: KubeObject): string => `${object.kind} ${keyOf(object)}`;

const yaml = (value: unknown): string => stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });

const yamlDocuments = (objects: readonly KubeObject[]): string => objects.map(yaml).join("---\n");

const jsonText = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** One object as it is, several as a List. */
const jsonObjects = (objects: readonly KubeObject[]): string =>
  jsonText(objects.length === 1 ? objects[0] : { apiVersion: "v1", kind: "List", items: objects });

const CONTEXT_LINES = 3;

/** The recorded plan repeats, for machines, what the diff shows; its length is enough. */
function readable(object: KubeObject): KubeObject {
  const plan = annotationOf(object, STATUS.plan);
  if (plan === undefined) return object;
  const annotations = { ...object.metadata.annotations, [STATUS.plan]: `(recorded plan, ${plan.length} bytes)` };
  return { ...object, metadata: { ...object.metadata, annotations } };
}

/** A unified diff of the YAML; what did not change is named in one line. */
function diffText({ before, result }: Admitted): string {
  const name = nameOf(before);
  const [from, to] = [yaml(readable(before)), yaml(readable(result.object))];
  if (from === to) return `# ${name}: unchanged\n`;
  return createTwoFilesPatch(`${name} (given)`, `${name} (admitted)`, from, to, undefined, undefined, {
    context: CONTEXT_LINES,
  });
}

const stored = (admitted: readonly Admitted[]): KubeObject[] =>
  admitted.filter(({ result }) => !result.verdicts.some(isDenied)).map(({ result }) => result.object);

const explanation = (admitted: readonly Admitted[]): unknown =>
  admitted.flatMap(({ before, result }) =>
    explain(result).map(({ subject, outcome, reason, message }) => ({
      object: nameOf(before),
      stage: subject ?? "",
      outcome,
      reason,
      message,
    })),
  );

const patches = (admitted: readonly Admitted[]): unknown =>
  admitted.map(({ before, result }) => ({
    object: nameOf(before),
    patch: patchOf(before, result.object, result.touched).patch,
  }));

/** The forms of output. */
export const FORMATS: Readonly<Record<string, (admitted: readonly Admitted[]) => string>> = {
  yaml: (admitted) => yamlDocuments(stored(admitted)),
  json: (admitted) => jsonObjects(stored(admitted)),
  diff: (admitted) => admitted.map(diffText).join(""),
  patch: (admitted) => jsonText(patches(admitted)),
  explain: (admitted) => jsonText(explanation(admitted)),
};

/** One line for each denial and warning, then what can be done about each reason. */
function complaints(admitted: readonly Admitted[]): string[] {
  const found = admitted.flatMap(({ before, result }) =>
    result.verdicts
      .filter((verdict) => isDenied(verdict) || isWarned(verdict))
      .map((verdict) => ({ ...verdict, name: nameOf(before) })),
  );
  const lines = found.map(({ outcome, name, message, reason }) => `${outcome}: ${name}: ${message} [${reason}]\n`);
  const hints = [...new Set(found.map(({ reason }) => reason))].flatMap((reason) => {
    const hint = hintOf(reason);
    return hint === undefined ? [] : [`hint: ${reason}: ${hint}\n`];
  });
  return [...lines, ...hints];
}

interface Options {
  readonly filename?: readonly string[];
  readonly pods?: boolean;
  readonly output: string;
  readonly strict?: boolean;
  readonly strip?: boolean;
  readonly config?: string;
  readonly set?: readonly string[];
}

function stripAll(objects: readonly KubeObject[], output: string): string {
  const stripped = objects.filter(({ kind }) => !CONTEXT_KINDS.has(kind)).map(strip);
  if (output === "yaml") return yamlDocuments(stripped);
  if (output === "json") return jsonObjects(stripped);
  throw new UsageError(`--strip prints objects: give -o yaml or -o json, not ${output}`);
}

/** Warnings deny too: such an object is not stored, and so not printed. */
const strictly = ({ before, result }: Admitted): Admitted => {
  const verdicts = result.verdicts.map((verdict) =>
    isWarned(verdict) ? { ...verdict, outcome: "denied" as const } : verdict,
  );
  return {
    before,
    result: verdicts.some(isDenied) ? { object: before, verdicts, touched: [] } : { ...result, verdicts },
  };
};

/** Exit code: 1 where anything is denied, or warned about under --strict. */
function run(options: Options): number {
  const format = Object.hasOwn(FORMATS, options.output) ? FORMATS[options.output] : undefined;
  if (format === undefined)
    throw new UsageError(`-o ${options.output}: give one of ${Object.keys(FORMATS).join(", ")}`);
  const admission = admissionSettings(readConfig(options));
  const { filename = [] } = options;
  if (filename.length === 0) throw new UsageError("give at least one file: -f FILE");
  const objects = readObjects(filename);
  if (objects.length === 0) throw new UsageError(`${filename.join(", ")}: no objects found`);
  if (options.strip === true) {
    process.stdout.write(stripAll(objects, options.output));
    return 0;
  }
  const strict = options.strict === true;
  const given = admitAll(objects, { ...admission, strict: admission.strict || strict }, options.pods === true, true);
  const admitted = strict ? given.map(strictly) : given;
  process.stdout.write(format(admitted));
  process.stderr.write(complaints(admitted).join(""));
  return admitted.some(({ result }) => result.verdicts.some(isDenied)) ? 1 : 0;
}

const EXAMPLE = `
Example:
  tandem admit --pods -o diff -f manifests/examples/qwen3-32b-nvidia.yaml
  tandem admit --pods -o explain -f manifests/examples/qwen3-32b-nvidia.yaml    what each stage did, and why
  tandem admit --strict -c tandem.yaml -f mine.yaml                             warnings deny, under your configuration

Exit codes: 0 all admitted, 1 any denied (reasons on stderr), 2 bad usage or unreadable input.`;

export const registerAdmit: Register = (program, exit) => {
  program
    .command("admit")
    .description("Admission offline: the objects as they would be stored, with the given files as the cluster.")
    .option("-f, --filename <file>", "YAML or JSON file, folder, or - (repeatable)", collect)
    .option("--pods", "add, for each pod template, one Pod as it would be admitted")
    .option("-o, --output <format>", `one of ${Object.keys(FORMATS).join(", ")}`, "yaml")
    .option("--strict", "warnings deny too")
    .option("--strip", "print the objects as they were before Tandem")
    .option("-c, --config <file>", "configuration file")
    .option("--set <path=value>", "configuration key (repeatable)", collect)
    .addHelpText("after", EXAMPLE)
    .action((options: Options) => exit(run(options)));
};
