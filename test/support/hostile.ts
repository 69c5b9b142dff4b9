/**
 * AdmissionReviews that nobody should send: legal ones with hostile values in random places, or with bytes of their text
 * torn. Everything comes from one seed, so that a finding can be repeated.
 */
import fc from "fast-check";
import { admitObject } from "../../src/admission/admit.ts";
import { patched, type Operation } from "../../src/admission/operations.ts";
import type { ReviewReply } from "../../src/admission/review.ts";
import type { Settings } from "../../src/admission/stage.ts";
import { isObject, type JsonObject, type KubeObject } from "../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../src/kinds/snapshot.ts";
import { podFromTemplate } from "../../src/workload/template.ts";
import { workloads } from "./workloads.ts";

/** [0, 1) from a seed: Park and Miller's minimal generator (CACM 31, 1988). */
export function randomOf(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return (state - 1) / 2147483646;
  };
}

const nested = (depth: number): string => `${"[".repeat(depth)}${"]".repeat(depth)}`;
const container = '{"name":"engine","image":"vllm/vllm-openai"}';
const many = (length: number, item: string): string => `[${Array.from({ length }, () => item).join()}]`;

/** As JSON text: `__proto__` becomes an own key when it is parsed, as it does for a body. */
const VALUES: readonly string[] = [
  ...["null", "0", "-1", "1e308", "true", '""', '"x"', '"\\u0000"', '"\\ud800"', "[]", "{}", "[null]", "[{}]", "[[]]"],
  ...['"a/b~c"', '"~0~1"', '"$(TANDEM_PORT_BASE)"', '"tp=99999999"', '"manage,off"', '"--port"', '"sh -c \\"$@"'],
  ...['{"__proto__":{"polluted":1}}', '{"constructor":{"prototype":{"polluted":1}}}', '{"toString":null}'],
  ...[nested(30), nested(100), `"${"x".repeat(10000)}"`, `"${"a=".repeat(5000)}"`, `{"name":${nested(5)}}`],
  ...[many(40, container), many(200, '{"name":"E","value":"v"}'), many(500, "null"), '{"name":"engine"}'],
];

const KEYS: readonly string[] = [
  ...["__proto__", "constructor", "toString", "hasOwnProperty", "a/b~c", "~", "/", "", "0", "-", "\u0000"],
  ...["tandem.sh/role", "tandem.sh/gang", "tandem.sh/parallelism", "status.tandem.sh/plan", "status.tandem.sh/intent"],
  ...["labels", "annotations", "template", "spec", "containers", "env", "name", "uid", "object", "kind"],
];

/** Defined and not assigned, so that `__proto__` is a key like any other. */
const put = (target: object, key: string, value: unknown): unknown =>
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });

export class Mutator {
  readonly #random: () => number;
  readonly #bases: readonly string[];

  constructor(seed: number, settings: Settings) {
    this.#random = randomOf(seed);
    this.#bases = bases(seed, settings);
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T;
  }

  #value(): unknown {
    return JSON.parse(this.#pick(VALUES)) as unknown;
  }

  /** The body of the next review: one in six is torn text, the others are JSON with one to four hostile places. */
  next(): Buffer {
    const base = this.#pick(this.#bases);
    if (this.#random() < 1 / 6) return this.#torn(base);
    const review = JSON.parse(base) as JsonObject;
    for (let count = 1 + Math.floor(this.#random() * 4); count > 0; count--) this.#spoil(review);
    return Buffer.from(JSON.stringify(review));
  }

  /** Goes down a random way and changes what is there: a value, a key, an item more, one less, one twice. */
  #spoil(root: object): void {
    let at = root;
    for (;;) {
      const inner = Object.values(at).filter((value) => typeof value === "object" && value !== null) as object[];
      if (inner.length === 0 || this.#random() < 0.12) break;
      at = this.#pick(inner);
    }
    const key = this.#pick([...Object.keys(at), this.#pick(KEYS)]);
    const ways = [
      () => put(at, key, this.#value()),
      () => put(at, this.#pick(KEYS), this.#value()),
      () => Reflect.deleteProperty(at, key),
      () =>
        Array.isArray(at)
          ? at.push(this.#value(), at[0])
          : put(at, key, [Object.hasOwn(at, key) ? (at as JsonObject)[key] : key]),
    ];
    this.#pick(ways)();
  }

  #torn(text: string): Buffer {
    const bytes = Buffer.from(text);
    for (let count = Math.floor(this.#random() * 8); count > 0; count--)
      bytes[Math.floor(this.#random() * bytes.length)] = Math.floor(this.#random() * 256);
    return bytes.subarray(0, this.#random() < 0.5 ? bytes.length : Math.floor(this.#random() * bytes.length));
  }
}

/** Creations and updates of random workloads and their Pods, as texts. */
function bases(seed: number, settings: Settings): string[] {
  const context = { snapshot: EMPTY_SNAPSHOT, settings };
  return fc.sample(workloads, { seed, numRuns: 100 }).flatMap((given) => {
    const { object } = admitObject(given, context);
    const pod = podFromTemplate(given, "w-0");
    return [
      review("CREATE", given),
      review("UPDATE", given, object),
      review("UPDATE", object, object),
      review("CREATE", pod),
    ];
  });
}

const review = (operation: string, object: KubeObject, oldObject: KubeObject | null = null): string =>
  JSON.stringify({
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    request: { uid: "u-1", kind: { kind: object.kind }, operation, namespace: "n", object, oldObject },
  });

const MOST_OPERATIONS = 64;
const MOST_PATCH_BYTES = 32768;

/** The uid that an answer must carry; undefined where there is none to answer to. */
function uidOf(body: unknown): string | undefined {
  if (!isObject(body) || body["apiVersion"] !== "admission.k8s.io/v1" || !isObject(body["request"])) return undefined;
  const { uid } = body["request"];
  return typeof uid === "string" && uid !== "" ? uid : undefined;
}

/** What is wrong with an answer, undefined where nothing is. `body` is the review as it was read. */
export function complaint(body: unknown, { status, body: answer }: ReviewReply): string | undefined {
  if (Object.keys(Object.prototype).length > 0) return "prototypes are polluted";
  const uid = uidOf(body);
  if (uid === undefined) return status === 400 ? undefined : `answered ${status} without a uid`;
  const response = answer["response"] as JsonObject | undefined;
  if (status !== 200 || response?.["uid"] !== uid) return `answered ${status} to uid ${uid}`;
  if (typeof response["allowed"] !== "boolean") return "allowed is neither true nor false";
  return badWarning(response) ?? badDenial(response) ?? badPatch((body as { request: JsonObject }).request, response);
}

function badWarning({ warnings = [] }: JsonObject): string | undefined {
  const bad = (warnings as string[]).find((warning) => !/^[\x20-\x7e]{1,120}$/.test(warning));
  return bad === undefined ? undefined : `warning ${JSON.stringify(bad)}`;
}

function badDenial({ allowed, status }: JsonObject): string | undefined {
  if (allowed === true) return undefined;
  const told = isObject(status) && status["code"] === 422 && typeof status["message"] === "string";
  return told && status["message"] !== "" ? undefined : "a denial without code and message";
}

function badPatch({ object }: JsonObject, { patch, patchType }: JsonObject): string | undefined {
  if (patch === undefined) return undefined;
  const text = Buffer.from(patch as string, "base64").toString();
  const operations = JSON.parse(text) as Operation[];
  if (patchType !== "JSONPatch" || operations.length === 0) return "an empty patch";
  if (operations.length > MOST_OPERATIONS) return `${operations.length} operations`;
  if (text.length > MOST_PATCH_BYTES) return `a patch of ${text.length} bytes`;
  try {
    patched(object, operations);
    return undefined;
  } catch (error) {
    return `the patch does not apply: ${String(error)}`;
  }
}
