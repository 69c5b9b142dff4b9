/**
 * What routing needs to know of a request, read off its bytes in one scan: model, prompt, limits, whose it is.
 *
 * Follows the entry of its API in `apis.ts`. Never decodes the prompt. Wrong values are refused here as an engine would,
 * and what two readers could read in two ways (a name given twice, broken text) is refused always. A body that may not
 * be looked into has the facts of its head alone.
 */
import { isUtf8 } from "node:buffer";
import type { Problem } from "../answers.ts";
import { headerOf, type HeaderList } from "../headers.ts";
import { HEADER } from "../../kinds/names.ts";
import { checkFields, isModelName, limitOf } from "./checks.ts";
import type { Api } from "./apis.ts";
import type { Edits } from "./edit.ts";
import { Fields } from "./fields.ts";
import { promptOf, type PromptRates, type PromptText } from "./prompt.ts";
import { seedOf, tenantSalt } from "./salt.ts";
import { Media } from "./media.ts";
import { RequestScan, ScanError, type Scan } from "./scan.ts";
import { splittingOf } from "./splitting.ts";

const MAX_NAME_LENGTH = 256;

export interface RequestFacts {
  readonly api: Api;
  /** As endpoints serve it: aliases are resolved. Undefined where the request names none, and its API lets it. */
  readonly model: string | undefined;
  /** An adapter beside the model. An adapter that is served under a name of its own is the model. */
  readonly adapter: string | undefined;
  readonly stream: boolean;
  /** Limit of generated tokens, where the request has one; 1 where nothing is generated. */
  readonly maxTokens: number | undefined;
  readonly prompt: PromptText;
  /** One prompt, one answer. Engines hand over KV blocks of one sequence: the decode leg of a batch would read the wrong ones. */
  readonly single: boolean;
  /** One answer to each prompt. */
  readonly oneAnswer: boolean;
  /** One token of it, made elsewhere, is all that the answer needs of its prefill. */
  readonly cuttable: boolean;
  /** No probabilities of the prompt's own tokens are asked for: who decodes does not compute them. */
  readonly unscored: boolean;
  /** The engine's own: lower goes first at vLLM. */
  readonly priority: number | undefined;
  /** Who asks, as the client says: good for fairness within a tenant, no identity. */
  readonly user: string | undefined;
  /** Requests of one conversation, as the client says. */
  readonly session: string | undefined;
  /** Whose it is, as the gateway says; empty: nobody's in particular. */
  readonly tenant: string;
  /** What separates prefix caches at the engine. Never to be logged. */
  readonly salt: string | undefined;
  /** Members that have to change whatever leg the body goes to: the model of an alias, the salt of a tenant. */
  readonly edits: Edits;
  readonly scan: Scan;
}

export interface FactsConfig {
  /** Model name of clients -> model name of engines. */
  readonly aliases: Readonly<Record<string, string>>;
  readonly rates: PromptRates;
  /** Where tenants are kept apart at the engines. */
  readonly saltKey?: Buffer;
  /** What becomes of requests that engines take no salt for, where there is a key. */
  readonly unsalted: "refuse" | "route";
}

export interface FactsInput {
  readonly api: Api;
  readonly body: Buffer;
  readonly headers: HeaderList;
  readonly tenant: string;
  /** `none`: the body is not looked into. `cut`: more of it follows, unseen and unchanged. */
  readonly extent: "whole" | "cut" | "none";
  /** The scan of this very body, where it was made while the body arrived. */
  readonly scan?: RequestScan;
}

const bad = (message: string, param?: string): Problem => ({
  status: 400,
  reason: "BodyInvalid",
  message,
  ...(param === undefined ? {} : { param }),
});

export const isProblem = (value: RequestFacts | Problem): value is Problem => "status" in value;

/** The facts, or why the request is refused. */
export function readFacts(config: FactsConfig, input: FactsInput): RequestFacts | Problem {
  try {
    return saltProblem(config, input) ?? READERS[input.extent](config, input);
  } catch (error) {
    if (error instanceof ScanError || error instanceof SyntaxError)
      return bad(`the request body is not valid JSON: ${error.message}`);
    throw error;
  }
}

/** Where tenants must not share caches, nothing is computed that they could share. */
function saltProblem({ saltKey, unsalted }: FactsConfig, { api, extent }: FactsInput): Problem | undefined {
  const salted = api.work === "text" || (extent === "whole" && api.salt !== undefined);
  if (saltKey === undefined || unsalted === "route" || salted) return undefined;
  const message = "tenants are kept apart, and engines take no cache salt in such a request: it is not served";
  return { status: 404, reason: "TenantUnsalted", message };
}

/** Nothing of the body is known, so nothing of it can be changed or recognised again. */
function headFacts(config: FactsConfig, { api, headers, tenant }: FactsInput): RequestFacts | Problem {
  const named = modelOfHead(headers);
  if (named === false) return bad(`header ${HEADER.model} must be the name of a model`);
  return {
    api,
    model: resolve(config, named),
    adapter: undefined,
    stream: false,
    maxTokens: undefined,
    prompt: { parts: [], bytes: 0, extraTokens: 0, media: 0, listed: false, bytesPerToken: config.rates.bytesPerToken },
    single: false,
    oneAnswer: false,
    cuttable: false,
    unscored: false,
    priority: undefined,
    user: undefined,
    session: undefined,
    tenant,
    salt: undefined,
    edits: NO_EDITS,
    scan: NOTHING_SEEN,
  };
}

/** The start of a body: the model where it stands there, and as much of the prompt. Nothing of it can be changed. */
function cutFacts(config: FactsConfig, input: FactsInput): RequestFacts | Problem {
  const head = headFacts(config, input);
  const { body, api } = input;
  const scan = (input.scan ?? scanOf(body)).sofar();
  const fields = new Fields(body, scan);
  if (isProblem(head) || fields.twice !== undefined) return isProblem(head) ? head : twice(fields.twice ?? "");
  const named = modelOfStart(scan, fields);
  if (named === false) return bad("model must be the name of a model", "model");
  const model = named === undefined ? head.model : resolve(config, named);
  const prompt = promptOf(api, fields, { body, media: scan.media, rates: config.rates });
  return { ...head, model, prompt, stream: fields.first("stream") === "t" };
}

/** Half a name is none; false where what stands there is no name. */
function modelOfStart({ open }: Scan, fields: Fields): string | false | undefined {
  const named = open?.key === "model" ? undefined : fields.value("model");
  return named === undefined || isModelName(named) ? named : false;
}

const READERS = { whole: bodyFacts, cut: cutFacts, none: headFacts } as const;

function twice(key: string): Problem {
  const shown = key.slice(0, 64);
  // Whoever disagrees about which of two counts is an attack surface.
  return bad(`"${shown}" is given twice`, shown);
}

const NO_EDITS: Edits = new Map();
const NOTHING_SEEN: Scan = { members: [], close: 0, media: new Media() };

function bodyFacts(config: FactsConfig, input: FactsInput): RequestFacts | Problem {
  const { api, body, tenant } = input;
  const scan = (input.scan ?? scanOf(body)).finish();
  const fields = new Fields(body, scan);
  const named = (fields.value("model") ?? modelOfHead(input.headers)) as string | false | undefined;
  const problem = bodyProblem(body, fields) ?? checkFields(api, fields);
  if (problem !== undefined) return problem;
  if (named === false) return bad(`header ${HEADER.model} must be the name of a model`);
  const salt = saltOf(config, input, fields);
  return {
    ...{ api, tenant, scan, salt },
    model: resolve(config, named),
    adapter: adapterOf(api, fields),
    stream: fields.first("stream") === "t",
    maxTokens: api.work === "generate" ? limitOf(api, fields) : 1,
    prompt: promptOf(api, fields, { body, media: scan.media, rates: config.rates }),
    ...splittingOf(api, fields),
    priority: integerOf(fields.value("priority")),
    user: userOf(fields),
    session: nameOf(fields.value("prompt_cache_key")) ?? nameOf(fields.value("previous_response_id")),
    edits: editsOf(config, { api, fields, salt }),
  };
}

/** What the grammar does not tell: text that is none, and names that two readers would read in two ways. */
function bodyProblem(body: Buffer, fields: Fields): Problem | undefined {
  if (!isUtf8(body)) return bad("the request body is not UTF-8");
  return fields.twice === undefined ? undefined : twice(fields.twice);
}

function scanOf(body: Buffer): RequestScan {
  const scan = new RequestScan();
  scan.push(body);
  return scan;
}

/** False where what the header says is no name. It is read only where the body names none. */
function modelOfHead(headers: HeaderList): string | false | undefined {
  const named = headerOf(headers, HEADER.model);
  return named === "" ? undefined : isModelName(named) && named;
}

const resolve = ({ aliases }: FactsConfig, model: string | undefined): string | undefined =>
  model !== undefined && Object.hasOwn(aliases, model) ? aliases[model] : model;

/** The client's salt as it is, or the tenant's in its place. */
function saltOf({ saltKey }: FactsConfig, { api, tenant }: FactsInput, fields: Fields): string | undefined {
  const own = api.salt === undefined ? undefined : ((fields.value(api.salt) ?? undefined) as string | undefined);
  return saltKey === undefined || api.salt === undefined ? own : tenantSalt(saltKey, tenant, own);
}

function editsOf(
  { aliases, saltKey }: FactsConfig,
  { api, fields, salt }: { api: Api; fields: Fields; salt: string | undefined },
): Edits {
  const edits = new Map<string, string>();
  const model = fields.value("model");
  if (typeof model === "string" && Object.hasOwn(aliases, model)) edits.set("model", JSON.stringify(aliases[model]));
  if (saltKey !== undefined && api.salt !== undefined) edits.set(api.salt, JSON.stringify(salt));
  return edits;
}

/** A list is one for each prompt of a batch. */
function adapterOf({ adapter = "" }: Api, fields: Fields): string | undefined {
  const value = fields.value(adapter) ?? undefined;
  return value === undefined ? undefined : JSON.stringify(value);
}

const integerOf = (value: unknown): number | undefined => (Number.isSafeInteger(value) ? (value as number) : undefined);

const nameOf = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" && value.length <= MAX_NAME_LENGTH ? value : undefined;

/** OpenAI's two names for it, and Anthropic's. */
function userOf(fields: Fields): string | undefined {
  const metadata = fields.value("metadata") as { user_id?: unknown } | null | undefined;
  return nameOf(fields.value("safety_identifier")) ?? nameOf(fields.value("user")) ?? nameOf(metadata?.user_id);
}

/** What block keys of the request are seeded with, once its model is known. */
export const seedFor = ({ adapter, salt, tenant }: RequestFacts, model: string): string =>
  seedOf({ model, adapter, salt, tenant });
