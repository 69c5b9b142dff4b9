/** What a body's members must be like, from the entry of its API: the first that is not is the answer to the client. */
import type { Problem } from "../answers.ts";
import type { Api } from "./apis.ts";
import type { Fields } from "./fields.ts";

export const MAX_MODEL_LENGTH = 256;

/** A member that is wrong, and how. */
const wrong = (param: string, what: string): Problem => ({
  status: 400,
  reason: "BodyInvalid",
  message: `${param} ${what}`,
  param,
});

/** Names go into the answers to clients, and into the seed of block keys: no NUL, no half of a surrogate pair. */
export const isModelName = (value: unknown): value is string =>
  typeof value === "string" &&
  value !== "" &&
  value.length <= MAX_MODEL_LENGTH &&
  value.isWellFormed() &&
  !value.includes("\0");

type Check = (api: Api, fields: Fields) => Problem | undefined;

const modelIsName: Check = ({ model }, fields) => {
  const given = fields.has("model");
  if (!given || (model === "optional" && fields.first("model") === "n"))
    return model === "optional" ? undefined : wrong("model", "is missing");
  return isModelName(fields.value("model"))
    ? undefined
    : wrong("model", `must be a string of 1 to ${MAX_MODEL_LENGTH} characters`);
};

const promptIsThere: Check = ({ needs }, fields) => {
  // Engines take null for absent.
  const there = (key: string): boolean => fields.has(key) && fields.first(key) !== "n";
  if (needs.some((keys) => keys.every(there))) return undefined;
  const [first = []] = needs;
  const missing = needs.length === 1 ? first.filter((key) => !there(key)) : first;
  const other = needs.slice(1).map((keys) => keys.join(" and "));
  const message = `${[missing.join(" and "), ...other].join(", or ")} is missing`;
  return { ...wrong(missing[0] ?? "", ""), message };
};

const KINDS: Readonly<Record<string, string>> = { '"': "a string", "[": "a list", "{": "an object" };

const promptIsRight: Check = ({ prompt, needs }, fields) => {
  for (const { key, kinds } of prompt) {
    if (!fields.has(key) || fields.first(key) === "n") continue;
    if (!kinds.includes(fields.first(key)))
      return wrong(
        key,
        `must be ${kinds
          .split("")
          .map((kind) => KINDS[kind])
          .join(" or ")}`,
      );
    if (needs.flat().includes(key) && isEmptyList(fields.raw(key))) return wrong(key, "must not be empty");
  }
  return undefined;
};

/** White space is as long as the client likes: what is not empty shows in the first bytes for everybody else. */
const isEmptyList = (raw: Buffer | undefined): boolean => /^\[\s*\]$/.test(raw?.toString("latin1", 0, 16) ?? "");

/** `a.b` is member `b` of object `a`. Throws ScanError. */
export function valueAt(fields: Fields, path: string): unknown {
  const [outer = "", inner] = path.split(".");
  return inner === undefined ? fields.value(outer) : fields.inside(outer).value(inner);
}

const limitsArePositive: Check = ({ limits }, fields) => {
  for (const path of limits) {
    const value = valueAt(fields, path);
    // Inside sampling parameters, none means that only the prompt is computed.
    const least = path.includes(".") ? 0 : 1;
    if (value === undefined ? isTooLong(fields, path) : value !== null && !isCount(value, least))
      return wrong(path, `must be an integer of at least ${least}`);
  }
  return undefined;
};

const isCount = (value: unknown, least: number): boolean => Number.isSafeInteger(value) && (value as number) >= least;

/** There, and not read because no number is so long. */
const isTooLong = (fields: Fields, path: string): boolean => !path.includes(".") && fields.has(path);

/** The limit that holds: of several the first that is given. */
export function limitOf({ limits }: Api, fields: Fields): number | undefined {
  for (const path of limits) {
    const value = valueAt(fields, path);
    if (typeof value === "number") return value;
  }
  return undefined;
}

const streamIsFlag: Check = (_, fields) =>
  ["t", "f", "n", "\0"].includes(fields.first("stream")) ? undefined : wrong("stream", "must be true or false");

const saltIsText: Check = ({ salt = "" }, fields) => {
  if (!fields.has(salt) || fields.first(salt) === "n") return undefined;
  const value = fields.value(salt);
  return typeof value === "string" && value !== "" ? undefined : wrong(salt, "must be a string that is not empty");
};

/** Objects in which vLLM finds the parameters of a transfer beside their own member: they name hosts. */
const CARRIERS = [["vllm_xargs"], ["sampling_params", "extra_args"]] as const;

const TRANSFERS = ["kv_transfer_params", "ec_transfer_params"] as const;

const carriesNoTransfer: Check = (_, fields) => {
  for (const path of CARRIERS) {
    const carrier = path.reduce((within: Fields, key) => within.inside(key), fields);
    const carried = TRANSFERS.find((key) => carrier.has(key));
    if (carried !== undefined) return wrong(path.join("."), `must not hold ${carried}`);
  }
  return undefined;
};

/** In this order; the first refusal is the answer. */
const CHECKS: readonly Check[] = [
  modelIsName,
  promptIsThere,
  promptIsRight,
  limitsArePositive,
  streamIsFlag,
  saltIsText,
  carriesNoTransfer,
];

/** Throws ScanError and SyntaxError for members that are no JSON inside. */
export function checkFields(api: Api, fields: Fields): Problem | undefined {
  for (const check of CHECKS) {
    const problem = check(api, fields);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
