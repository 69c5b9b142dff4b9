/** A3: arbitrary legal workloads and their Pods through the mutating webhook, the patch applied by an independent library. */
import fc from "fast-check";
import jsonpatch, { type Operation } from "fast-json-patch";
import { review, type ReviewContext } from "../../src/admission/review.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { KubeObject, Workload } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { podFromTemplate, templatesOf } from "../../src/workload/template.ts";
import { invalid, legal, lost } from "../support/legal.ts";
import type { Progress, ScoreRow } from "./row.ts";

interface Answer {
  readonly allowed: boolean;
  readonly operations: readonly Operation[];
  readonly bytes: number;
  readonly warnings: readonly string[];
}

function ask(
  context: ReviewContext,
  object: KubeObject,
  oldObject?: KubeObject,
  webhook: "mutate" | "validate" = "mutate",
): Answer {
  const operation = oldObject === undefined ? "CREATE" : "UPDATE";
  const request = { uid: "u", operation, namespace: "n", kind: { kind: object.kind }, object, oldObject };
  const { body } = review({ apiVersion: "admission.k8s.io/v1", request }, webhook, context);
  const {
    allowed,
    patch,
    warnings = [],
  } = body["response"] as { allowed: boolean; patch?: string; warnings?: string[] };
  const text = patch === undefined ? "[]" : Buffer.from(patch, "base64").toString();
  return { allowed, operations: JSON.parse(text) as Operation[], bytes: text.length, warnings };
}

export interface Survey {
  readonly objects: number;
  readonly denied: number;
  /** Those that admission changed: the others prove little. */
  readonly patched: number;
  readonly mostOperations: number;
  readonly mostBytes: number;
  readonly faults: readonly string[];
}

const MOST_OPERATIONS = 64;
const MOST_BYTES = 32768;

/** The object as it would be stored, and what is wrong with the way there; undefined where it is denied. */
function admitted(context: ReviewContext, given: KubeObject, tally: Tally): KubeObject | undefined {
  const { allowed, operations, bytes } = ask(context, given);
  tally.objects++;
  if (!allowed) {
    tally.denied++;
    return undefined;
  }
  if (operations.length > 0) tally.patched++;
  tally.mostOperations = Math.max(tally.mostOperations, operations.length);
  tally.mostBytes = Math.max(tally.mostBytes, bytes);
  const stored = jsonpatch.applyPatch(structuredClone(given), [...operations], true).newDocument;
  const gone = lost(given, stored);
  const wrong = invalid(stored);
  if (gone !== undefined) tally.faults.push(`${gone} was changed: ${JSON.stringify(given)}`);
  if (wrong !== undefined) tally.faults.push(`${wrong}: ${JSON.stringify(stored)}`);
  if (operations.length > MOST_OPERATIONS || bytes > MOST_BYTES)
    tally.faults.push(`${operations.length} operations, ${bytes} bytes: ${JSON.stringify(given)}`);
  again(context, stored, tally);
  return stored;
}

/** Reinvocation, the next update and the validating webhook have nothing left to say. */
function again(context: ReviewContext, stored: KubeObject, tally: Tally): void {
  const second = [ask(context, stored), ...(stored.kind === "Pod" ? [] : [ask(context, stored, stored)])];
  for (const { allowed, operations } of second)
    if (!allowed || operations.length > 0)
      tally.faults.push(`the second pass gives ${JSON.stringify(operations)}: ${JSON.stringify(stored)}`);
  const { allowed, warnings } = ask(context, stored, undefined, "validate");
  if (!allowed || warnings.some((text) => text.includes("lacks what Tandem injects")))
    tally.faults.push(`the validating webhook objects (${warnings.join()}): ${JSON.stringify(stored)}`);
}

type Tally = { -readonly [K in keyof Survey]: K extends "faults" ? string[] : Survey[K] };

/** Admits at least `objects` arbitrary workloads and Pods, under both targets. */
export function survey(seed: number, objects: number, progress: Progress = () => undefined): Survey {
  const contexts = ["split", "pod"].map((target) => ({
    snapshot: EMPTY_SNAPSHOT,
    settings: loadConfig({ flags: { "admission.target": target } }).admission,
  }));
  const tally: Tally = { objects: 0, denied: 0, patched: 0, mostOperations: 0, mostBytes: 0, faults: [] };
  const BATCH = 1000;
  for (let batch = 0; tally.objects < objects; batch++) {
    for (const given of fc.sample(legal, { seed: seed + batch, numRuns: Math.min(BATCH, Math.ceil(objects / 4)) }))
      for (const context of contexts) withPod(context, given, tally);
    progress(
      `${tally.objects} objects, ${tally.denied} denied, ${tally.patched} patched, ${tally.faults.length} faults`,
    );
  }
  return tally;
}

function withPod(context: ReviewContext, given: Workload, tally: Tally): void {
  const stored = admitted(context, given, tally);
  if (stored === undefined) return;
  for (const found of templatesOf(stored)) admitted(context, podFromTemplate(stored as Workload, "w-0", found), tally);
}

const OBJECTS = 100_000;

export const row: ScoreRow = {
  id: "A3",
  fault: "arbitrary legal Deployments, StatefulSets, LeaderWorkerSets and Pods, both targets, every engine and device",
  required: `each patch applies, the result is valid, the second pass is empty, nothing else is touched, at most ${MOST_OPERATIONS} operations and ${MOST_BYTES} bytes`,
  run: (progress) => {
    const { faults, ...counts } = survey(1, OBJECTS, progress);
    for (const fault of faults.slice(0, 10)) progress(fault.slice(0, 4000));
    return Promise.resolve({ figures: { ...counts, faults: faults.length }, met: faults.length === 0 });
  },
};
