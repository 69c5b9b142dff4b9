/**
 * What the head of a request tells: which API it is for, whose it is, and what is refused before any body byte.
 *
 * The paths that are served are those of the table of APIs, the list of models, and what the configuration passes
 * through; everything else is 404. A tenant is whom a header or the path names, as configured: both must be written by
 * the gateway, never by the client.
 */
import type { Config } from "../../config/schema.ts";
import type { Problem } from "../answers.ts";
import { headerOf, type HeaderList } from "../headers.ts";
import { API_PATHS, apiOf, MODELS_PATH, OPAQUE, type Api, type ErrorShape } from "./apis.ts";

export interface Head {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: HeaderList;
}

export type HeadConfig = Pick<Config["router"], "maxBodyBytes" | "passthrough" | "encodedBodies" | "tenant">;

/** Where a request wants to go. */
export interface Located {
  /** With its query, without the part that names the tenant: what engines are asked for. */
  readonly path: string;
  /** Empty: nobody's in particular. */
  readonly tenant: string;
  readonly api: Api;
  /** The list of models. */
  readonly models: boolean;
  /** The body is not looked into: it is encoded, or of an API that is only passed through. */
  readonly opaque: boolean;
  /** Accepted methods. */
  readonly methods: readonly string[];
}

const MAX_TENANT_LENGTH = 256;

/** Path without its query. */
export const pathOf = (path: string): string => path.split("?", 1)[0] ?? "";

/** Whose clients sent it: errors have to be in their shape whatever else is wrong. */
export const errorsOf = (path: string): ErrorShape =>
  /\/v1\/messages(\/count_tokens)?$/.test(pathOf(path)) ? "anthropic" : "openai";

/** Where it goes and whose it is, or why it goes nowhere. */
export function locate(config: HeadConfig, head: Head): Located | Problem {
  const { path, tenant } = splitTenant(config, head);
  const problem = tenantProblem(config, head, tenant);
  if (problem !== undefined) return problem;
  const known = pathOf(path);
  const passed = config.passthrough.find((each) => each.path === known);
  const api = apiOf(known);
  const rest = { path, tenant };
  if (known === MODELS_PATH) return { ...rest, api: OPAQUE, models: true, opaque: false, methods: ["GET"] };
  if (api !== undefined) return { ...rest, api, models: false, opaque: isEncoded(head.headers), methods: ["POST"] };
  if (passed !== undefined) return { ...rest, api: OPAQUE, models: false, opaque: true, methods: passed.methods };
  return notServed(config, known);
}

export const isLocated = (value: Located | Problem): value is Located => "api" in value;

function notServed({ passthrough }: HeadConfig, path: string): Problem {
  const accepted = [...API_PATHS, MODELS_PATH, ...passthrough.map((each) => each.path)].join(", ");
  return { status: 404, reason: "PathUnknown", message: `path ${cut(path)} is not served; accepted: ${accepted}` };
}

/** Clients choose it, and it comes back to them in a message. */
const cut = (text: string): string => (text.length > 256 ? `${text.slice(0, 256)}...` : text);

/** Refuses what headers alone tell: path, method, media type, encoding, announced length. */
export function checkHead(config: HeadConfig, head: Head): Problem | undefined {
  const located = locate(config, head);
  if (!isLocated(located)) return located;
  if (!located.methods.includes(head.method)) return wrongMethod(head, located);
  if (located.models) return undefined;
  return checkMedia(config, head.headers, located) ?? checkLength(head.headers, config.maxBodyBytes);
}

const wrongMethod = ({ method }: Head, { path, methods }: Located): Problem => ({
  status: 405,
  reason: "MethodRefused",
  message: `method ${cut(method)} is not accepted on ${cut(pathOf(path))}; accepted: ${methods.join(", ")}`,
});

const unsupported = (message: string): Problem => ({ status: 415, reason: "MediaTypeUnsupported", message });

function checkMedia(config: HeadConfig, headers: HeaderList, { api }: Located): Problem | undefined {
  const type = headerOf(headers, "content-type").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (isEncoded(headers) && config.encodedBodies === "refuse")
    return unsupported(`content-encoding ${cut(encodingOf(headers))} is not accepted; accepted: identity`);
  if (api !== OPAQUE && type !== "application/json")
    return unsupported(`content-type ${cut(type) || "(none)"} is not accepted; accepted: application/json`);
  return undefined;
}

const valuesOf = (headers: HeaderList, name: string): readonly string[] =>
  headers.filter(([key]) => key === name).map(([, value]) => value);

/** All of them: an engine may look at another one than the first. */
const encodingOf = (headers: HeaderList): string =>
  valuesOf(headers, "content-encoding").join(", ").trim().toLowerCase();

const isEncoded = (headers: HeaderList): boolean => !["", "identity"].includes(encodingOf(headers));

const checkLength = (headers: HeaderList, maxBodyBytes: number): Problem | undefined =>
  Number(headerOf(headers, "content-length")) > maxBodyBytes ? tooLarge(maxBodyBytes) : undefined;

export const tooLarge = (maxBodyBytes: number): Problem => ({
  status: 413,
  reason: "BodyTooLarge",
  message: `the request body exceeds ${maxBodyBytes} bytes`,
});

/** The tenant, and the path without it. A header that is configured is the only word on it. */
function splitTenant({ tenant }: HeadConfig, { path, headers }: Head): { path: string; tenant: string } {
  if (tenant.header !== "") return { path, tenant: headerOf(headers, tenant.header) };
  if (tenant.pathPrefix === "" || !path.startsWith(tenant.pathPrefix)) return { path, tenant: "" };
  const rest = path.slice(tenant.pathPrefix.length);
  const end = rest.indexOf("/");
  // The segment as it stands: whoever writes one tenant in two ways has two caches.
  return end <= 0 ? { path, tenant: "" } : { path: rest.slice(end), tenant: rest.slice(0, end) };
}

function tenantProblem({ tenant: { header } }: HeadConfig, { headers }: Head, tenant: string): Problem | undefined {
  const refused = (message: string): Problem => ({ status: 400, reason: "TenantAmbiguous", message });
  if (header !== "" && valuesOf(headers, header).length > 1) return refused(`header ${header} is given more than once`);
  return tenant.length > MAX_TENANT_LENGTH
    ? refused(`the tenant has more than ${MAX_TENANT_LENGTH} characters`)
    : undefined;
}
