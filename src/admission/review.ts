/**
 * AdmissionReview in, AdmissionReview out (admission.k8s.io/v1), as a pure function for both webhooks.
 *
 * The mutating webhook answers with a patch, warnings or a denial; the validating one judges the end state and denies. A
 * review that cannot be read is let through with a warning by the first and refused by the second; one without a uid is
 * the caller's mistake. A dry run is answered exactly like a real one.
 */
import { isObject, type JsonObject, type KubeObject, type Pod } from "../kinds/kube.ts";
import { FIELD_MANAGER } from "../kinds/names.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { denied, isDenied, isWarned, skipped, warned, type Verdict } from "../kinds/verdict.ts";
import { admitObject, admitPod, letsGo, type AdmitResult } from "./admit.ts";
import { auditAnnotations } from "./explain.ts";
import { outsized, patchOf } from "./patch.ts";
import type { Settings } from "./stage.ts";
import { equal } from "./value.ts";

export type Webhook = "mutate" | "validate";

export interface ReviewContext {
  readonly snapshot: ClusterSnapshot;
  readonly settings: Settings;
}

export interface ReviewReply {
  /** HTTP status: 200 with an answer, 400 where there is nothing to answer to. */
  readonly status: number;
  readonly body: JsonObject;
  readonly kind: string;
  /** For metrics: what became of it. */
  readonly outcome: "allowed" | "patched" | "denied" | "malformed";
  readonly verdicts: readonly Verdict[];
}

interface Request {
  readonly uid: string;
  readonly kind: string;
  readonly operation: string;
  /** `status`, `scale`, ...; empty for the object itself. */
  readonly subresource: string;
  readonly namespace: string;
  readonly manager: string;
  /** Empty where nobody says, as in an offline run. */
  readonly user: string;
  readonly groups: readonly unknown[];
  readonly object: unknown;
  readonly oldObject: unknown;
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const listed = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const inner = (value: unknown, key: string): unknown => (isObject(value) ? value[key] : undefined);

function readRequest(review: unknown): Request | undefined {
  const request = inner(review, "request");
  const uid = text(inner(request, "uid"));
  if (inner(review, "apiVersion") !== "admission.k8s.io/v1" || !isObject(request) || uid === "") return undefined;
  return {
    uid,
    kind: text(inner(request["kind"], "kind")),
    operation: text(request["operation"]),
    subresource: text(request["subResource"]),
    namespace: text(request["namespace"]),
    manager: text(inner(request["options"], "fieldManager")),
    user: text(inner(request["userInfo"], "username")),
    groups: listed(inner(request["userInfo"], "groups")),
    object: request["object"],
    oldObject: request["oldObject"],
  };
}

const isStrings = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  (isObject(value) && Object.values(value).every((v) => typeof v === "string"));

const TEXTS = ["name", "generateName", "namespace", "uid"] as const;
const isMaybeText = (value: unknown): boolean => value === undefined || typeof value === "string";

/** Metadata as far as it is walked; the namespace of a Pod at creation stands in the request alone. */
function readObject(value: unknown, { namespace }: Request): KubeObject | undefined {
  if (!isObject(value) || typeof value["kind"] !== "string") return undefined;
  const metadata = value["metadata"];
  if (!isObject(metadata) || !TEXTS.every((key) => isMaybeText(metadata[key]))) return undefined;
  if (!isStrings(metadata["labels"]) || !isStrings(metadata["annotations"])) return undefined;
  const given = metadata["namespace"] === undefined && namespace !== "" ? { ...metadata, namespace } : metadata;
  return { ...value, metadata: given } as KubeObject;
}

/** Answers one review. */
export function review(body: unknown, webhook: Webhook, context: ReviewContext): ReviewReply {
  const request = readRequest(body);
  if (request === undefined) return unanswerable();
  const foreign = notOurs(request);
  if (foreign !== undefined) return reply(request, { allowed: true }, "allowed", [skipped("NotOurs", foreign)]);
  const object = readObject(request.object, request);
  if (object === undefined) return unreadable(request, webhook);
  return answer(request, webhook, admit(request, object, context));
}

/** Who makes Pods of Deployments, StatefulSets and LeaderWorkerSets; with one account for each controller, or without. */
function isPerson({ user, groups }: Request): boolean {
  const isController =
    user === "system:kube-controller-manager" || user.startsWith("system:serviceaccount:kube-system:");
  return user !== "" && !isController && !groups.includes("system:masters");
}

/**
 * Why a review is let through unread: a deletion or a connection carries no object of its own, a subresource another kind
 * or a part that the API server takes alone.
 */
function notOurs({ operation, subresource }: Request): string | undefined {
  if (subresource !== "") return `subresource ${subresource} is not changed`;
  return operation === "CREATE" || operation === "UPDATE" ? undefined : `${operation} is not changed`;
}

function admit(request: Request, object: KubeObject, context: ReviewContext): AdmitResult {
  const previous = request.operation === "UPDATE" ? readObject(request.oldObject, request) : undefined;
  const all = previous === undefined ? context : { ...context, previous };
  if (request.manager === FIELD_MANAGER.release && letsGo(object, previous))
    return { object, verdicts: [skipped("Released", "written by tandem release")], touched: [] };
  if (object.kind !== "Pod") return admitObject(object, all);
  return request.operation === "CREATE"
    ? admitPod(object as Pod, { ...context, byPerson: isPerson(request) })
    : { object, verdicts: [skipped("NotOurs", "Pods are admitted at creation only")], touched: [] };
}

function answer(request: Request, webhook: Webhook, result: AdmitResult): ReviewReply {
  const refused = result.verdicts.filter(isDenied);
  if (refused.length > 0) return reply(request, { ...denial(refused), ...audit(result) }, "denied", result.verdicts);
  return webhook === "validate" ? validated(request, result) : patched(request, result);
}

/** Nothing is said of objects that are none of Tandem's business. */
function audit(result: AdmitResult): JsonObject {
  if (result.verdicts.every(({ reason }) => reason === "NotOurs")) return {};
  return { auditAnnotations: auditAnnotations(result) };
}

/**
 * Admitting the end state once more must change nothing: otherwise the mutation was missed, or undone by another webhook.
 * Whoever wrote it last, what it says is denied by the same checks; the first webhook's warnings are given where it had
 * no say.
 */
function validated(request: Request, result: AdmitResult): ReviewReply {
  const { object, verdicts, touched } = result;
  const given = readObject(request.object, request);
  const response = { allowed: true, ...audit(result) };
  if (equal(given, object)) return reply(request, response, "allowed", verdicts);
  const where = patchOf(given, object, touched).patch.map(({ path }) => path);
  const message = `${request.kind} lacks what Tandem injects, and runs as its template says: ${where.slice(0, MOST_PLACES).join(", ")}`;
  const missed = warned("MutationMissed", message);
  // Replicas are kept by the first webhook alone, and were not.
  const others = verdicts.filter((verdict) => isWarned(verdict) && verdict.reason !== "ReplicasKept");
  const warnings = warningsOf([missed, ...others]);
  return reply(request, { ...response, ...warnings }, "allowed", [...verdicts, missed]);
}

/** Most places that a message names. */
const MOST_PLACES = 3;

/** The patch starts from what the API server sent: the namespace that we filled in is no part of it. */
function patched(request: Request, result: AdmitResult): ReviewReply {
  const { object, verdicts, touched } = result;
  const { patch, unsound } = patchOf(readObject(request.object, request), object, touched);
  const text = JSON.stringify(patch);
  const own = unsound === undefined ? outsized(patch.length, Buffer.byteLength(text)) : [unsound];
  const all = [...verdicts, ...own];
  const warnings = warningsOf([...verdicts.filter(isWarned), ...own]);
  const response = { allowed: true, ...audit(result), ...warnings };
  if (patch.length === 0) return reply(request, response, "allowed", all);
  return reply(request, { ...response, ...encoded(text) }, "patched", all);
}

const encoded = (patch: string): JsonObject => ({
  patchType: "JSONPatch",
  patch: Buffer.from(patch).toString("base64"),
});

const LONGEST_DENIAL = 4096;

/** 422 Invalid: the object says something that is not accepted. */
const denial = (verdicts: readonly Verdict[]): JsonObject => ({
  allowed: false,
  status: {
    code: 422,
    reason: "Invalid",
    message: verdicts
      .map(({ message }) => message)
      .join("; ")
      .slice(0, LONGEST_DENIAL),
  },
});

/** Kubernetes asks for 120 characters at most; the API server drops a warning with a control character. */
const LONGEST_WARNING = 120;
const shortened = (text: string): string =>
  text.length <= LONGEST_WARNING ? text : `${text.slice(0, LONGEST_WARNING - 3)}...`;
const warning = ({ message }: Verdict): string => shortened(message.replace(/[^\x20-\x7e]/g, "?"));

const MOST_WARNINGS = 10;
const warningsOf = (verdicts: readonly Verdict[]): { warnings?: readonly string[] } => {
  const warnings = [...new Set(verdicts.map(warning))].slice(0, MOST_WARNINGS);
  return warnings.length === 0 ? {} : { warnings };
};

function reply(
  request: Request,
  response: JsonObject,
  outcome: ReviewReply["outcome"],
  verdicts: readonly Verdict[],
): ReviewReply {
  const body = {
    apiVersion: "admission.k8s.io/v1",
    kind: "AdmissionReview",
    response: { uid: request.uid, ...response },
  };
  return { status: 200, body, kind: request.kind, outcome, verdicts };
}

/** With a uid there is an answer: open for the mutating webhook, shut for the validating one. */
function unreadable(request: Request, webhook: Webhook): ReviewReply {
  const message = "the object could not be decoded";
  const [verdict, response] =
    webhook === "mutate"
      ? [warned("RequestMalformed", message), { allowed: true, warnings: [`tandem: ${message}; nothing is injected`] }]
      : [denied("RequestMalformed", message), denial([denied("RequestMalformed", `tandem: ${message}`)])];
  return reply(request, response, "malformed", [verdict]);
}

const unanswerable = (): ReviewReply => ({
  status: 400,
  body: { error: "not an admission.k8s.io/v1 AdmissionReview with a request and its uid" },
  kind: "",
  outcome: "malformed",
  verdicts: [denied("RequestMalformed", "no AdmissionReview")],
});
