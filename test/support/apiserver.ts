/**
 * A small API server over TLS for our own objects: list with pages and selectors, watch with bookmarks, 410, optimistic
 * locking, server-side apply, JSON and merge patches, deletion with preconditions. It validates nothing else; what the
 * real server does beyond that is proved by the end-to-end tests.
 */
import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import jsonpatch from "fast-json-patch";
import { issueAuthority, issueServing } from "../../src/certs/issue.ts";
import { createTransport, type Transport } from "../../src/cluster/transport.ts";
import { isObject, type JsonObject, type KubeObject } from "../../src/kinds/kube.ts";
import { pluralOf } from "../../src/kinds/resource.ts";

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly contentType: string;
  readonly body: unknown;
}

interface Watcher {
  readonly collection: string;
  readonly matches: (object: KubeObject) => boolean;
  readonly response: ServerResponse;
}

/** What an intercepting test answers instead of the server: a status with a body, `hang`, or `reset`. */
export type Intercepted =
  | { readonly status: number; readonly body: unknown; readonly headers?: Readonly<Record<string, string>> }
  | "hang"
  | "reset"
  | undefined;

export interface FakeApiServer {
  readonly url: string;
  readonly ca: string;
  readonly requests: SeenRequest[];
  /** Resource names that the server does not have. */
  readonly missing: Set<string>;
  intercept: (request: SeenRequest) => Intercepted;
  /** Stores an object as somebody else's write would, and tells watchers. Gives it as stored. */
  put(object: KubeObject): KubeObject;
  drop(object: KubeObject): void;
  find(plural: string, name: string): KubeObject | undefined;
  all(plural: string): KubeObject[];
  /** A bookmark on every watch. */
  bookmark(): void;
  /** Raw text on every watch of a resource. */
  say(plural: string, text: string): void;
  /** Ends watches in order (`end`) or breaks their connection (`reset`). */
  cut(how: "end" | "reset"): void;
  watching(plural: string): number;
  /** Resource versions before this one are gone: watches from them and page tokens get 410. */
  expire(): void;
  transport(timeoutMs?: number): Transport;
  stop(): Promise<void>;
}

const PATH = /^\/(?:api|apis)\/((?:[^/]+\/)?v[^/]+)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/;

interface Target {
  readonly apiVersion: string;
  readonly namespace: string | undefined;
  readonly plural: string;
  readonly name: string | undefined;
}

export async function startApiServer(): Promise<FakeApiServer> {
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const leaf = await issueServing(context, authority, ["127.0.0.1"]);
  const server = createServer({ cert: leaf.certificate, key: leaf.key });
  const fake = new Fake(server, authority.certificate);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  fake.url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return fake;
}

class Fake implements FakeApiServer {
  url = "";
  readonly ca: string;
  readonly requests: SeenRequest[] = [];
  readonly missing = new Set<string>();
  intercept: (request: SeenRequest) => Intercepted = () => undefined;
  private readonly server: Server;
  private readonly objects = new Map<string, KubeObject>();
  private readonly watchers = new Set<Watcher>();
  private version = 100;
  private oldest = 0;

  constructor(server: Server, ca: string) {
    this.server = server;
    this.ca = ca;
    server.on("request", (request, response) => {
      void this.serve(request, response);
    });
  }

  transport(timeoutMs = 2000): Transport {
    const server = new URL(this.url);
    return createTransport({ connect: () => Promise.resolve({ server, options: { ca: this.ca } }), timeoutMs });
  }

  put(object: KubeObject): KubeObject {
    const plural = pluralOf(object.kind);
    const key = keyFor(plural, object.metadata.namespace, object.metadata.name ?? "");
    const before = this.objects.get(key);
    this.version += 1;
    const stored = structuredClone(object);
    stored.metadata.uid = before?.metadata.uid ?? object.metadata.uid ?? randomUUID();
    stored.metadata.resourceVersion = String(this.version);
    this.objects.set(key, stored);
    this.tell(plural, before === undefined ? "ADDED" : "MODIFIED", stored);
    return stored;
  }

  drop(object: KubeObject): void {
    const plural = pluralOf(object.kind);
    const key = keyFor(plural, object.metadata.namespace, object.metadata.name ?? "");
    const stored = this.objects.get(key);
    if (stored === undefined) return;
    this.objects.delete(key);
    this.version += 1;
    this.tell(plural, "DELETED", {
      ...stored,
      metadata: { ...stored.metadata, resourceVersion: String(this.version) },
    });
  }

  find(plural: string, name: string): KubeObject | undefined {
    return this.all(plural).find((object) => object.metadata.name === name);
  }

  all(plural: string): KubeObject[] {
    return [...this.objects].filter(([key]) => key.startsWith(`${plural}/`)).map(([, object]) => object);
  }

  bookmark(): void {
    for (const { response } of this.watchers)
      response.write(`${JSON.stringify({ type: "BOOKMARK", object: this.bookmarkObject() })}\n`);
  }

  private bookmarkObject(): KubeObject {
    return { apiVersion: "v1", kind: "Bookmark", metadata: { resourceVersion: String(this.version) } };
  }

  say(plural: string, text: string): void {
    for (const watcher of this.watchers) if (watcher.collection === plural) watcher.response.write(text);
  }

  cut(how: "end" | "reset"): void {
    const cutting = [...this.watchers];
    this.watchers.clear();
    for (const { response } of cutting)
      if (how === "end") response.end();
      else response.destroy();
  }

  watching(plural: string): number {
    return [...this.watchers].filter((watcher) => watcher.collection === plural).length;
  }

  expire(): void {
    this.version += 1;
    this.oldest = this.version;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private tell(plural: string, type: string, object: KubeObject): void {
    for (const watcher of this.watchers)
      if (watcher.collection === plural && watcher.matches(object))
        watcher.response.write(`${JSON.stringify({ type, object })}\n`);
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen = await readRequest(request);
    this.requests.push(seen);
    const intercepted = this.intercept(seen);
    if (intercepted === "hang") return;
    if (intercepted === "reset") {
      response.destroy();
      return;
    }
    if (intercepted !== undefined) {
      for (const [name, value] of Object.entries(intercepted.headers ?? {})) response.setHeader(name, value);
      reply(response, intercepted.status, intercepted.body);
      return;
    }
    try {
      this.answer(seen, response);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reply(response, error.code, {
        kind: "Status",
        status: "Failure",
        code: error.code,
        reason: error.reason,
        message: error.message,
      });
    }
  }

  private answer(seen: SeenRequest, response: ServerResponse): void {
    const target = targetOf(seen.path);
    if (target === undefined || this.missing.has(target.plural)) {
      reply(response, 404, "404 page not found");
      return;
    }
    if (seen.method === "GET" && seen.query["watch"] === "true") this.watch(target, seen, response);
    else if (seen.method === "GET" && target.name === undefined) reply(response, 200, this.list(target, seen));
    else if (seen.method === "GET") reply(response, 200, this.existing(target));
    else if (seen.method === "POST") reply(response, 201, this.create(target, seen.body as KubeObject));
    else if (seen.method === "DELETE") reply(response, 200, this.delete(target, seen.body));
    else reply(response, 200, this.patch(target, seen));
  }

  private list(target: Target, { query }: SeenRequest): JsonObject {
    const all = this.all(target.plural).filter(filterOf(target, query));
    const [start, at] = (query["continue"] ?? `0@${this.version}`).split("@").map(Number) as [number, number];
    if (at < this.oldest) throw new Refusal(410, "Expired", "The provided continue parameter is too old");
    const end = start + Number(query["limit"] ?? all.length);
    const more = end < all.length ? { continue: `${end}@${at}` } : {};
    const kind = all[0]?.kind ?? "Thing";
    return {
      kind: `${kind}List`,
      apiVersion: target.apiVersion,
      metadata: { resourceVersion: String(this.version), ...more },
      // As the real server: items of a list carry neither apiVersion nor kind.
      items: all.slice(start, end).map((object) => merged(object, { apiVersion: null, kind: null })),
    };
  }

  private watch(target: Target, { query }: SeenRequest, response: ServerResponse): void {
    const from = Number(query["resourceVersion"]);
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    if (from < this.oldest) {
      const object = { kind: "Status", code: 410, reason: "Expired", message: `too old resource version: ${from}` };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    const matches = filterOf(target, query);
    const watcher = { collection: target.plural, matches, response };
    this.watchers.add(watcher);
    response.once("close", () => this.watchers.delete(watcher));
    for (const object of this.all(target.plural))
      if (matches(object) && Number(object.metadata.resourceVersion) > from)
        response.write(`${JSON.stringify({ type: "ADDED", object })}\n`);
  }

  private existing(target: Target): KubeObject {
    const found = this.objects.get(keyFor(target.plural, target.namespace, target.name ?? ""));
    if (found === undefined) throw new Refusal(404, "NotFound", `${target.plural} "${target.name ?? ""}" not found`);
    return found;
  }

  private create(target: Target, object: KubeObject): KubeObject {
    if (this.objects.has(keyFor(target.plural, target.namespace, object.metadata.name ?? "")))
      throw new Refusal(409, "AlreadyExists", `${target.plural} "${object.metadata.name ?? ""}" already exists`);
    return this.put(object);
  }

  private delete(target: Target, body: unknown): KubeObject {
    const found = this.existing(target);
    const { uid, resourceVersion } = asked(body);
    if (uid !== undefined && uid !== found.metadata.uid) throw new Refusal(409, "Conflict", "uid differs");
    if (resourceVersion !== undefined && resourceVersion !== found.metadata.resourceVersion)
      throw new Refusal(409, "Conflict", "resourceVersion differs");
    this.drop(found);
    return found;
  }

  private patch(target: Target, { contentType, body }: SeenRequest): KubeObject {
    const key = keyFor(target.plural, target.namespace, target.name ?? "");
    if (contentType === "application/apply-patch+yaml")
      return this.put(merged(this.objects.get(key) ?? {}, body) as KubeObject);
    const before = this.existing(target);
    const after = structuredClone(before);
    const patched =
      contentType === "application/json-patch+json" ? applied(after, body) : (merged(after, body) as KubeObject);
    if (patched.metadata.resourceVersion !== before.metadata.resourceVersion)
      throw new Refusal(409, "Conflict", "the object has been modified");
    return this.put(patched);
  }
}

class Refusal extends Error {
  readonly code: number;
  readonly reason: string;
  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

const keyFor = (plural: string, namespace: string | undefined, name: string): string =>
  `${plural}/${namespace ?? ""}/${name}`;

function targetOf(path: string): Target | undefined {
  // A namespace itself has the path that namespaced objects are under.
  const own = /^\/api\/v1\/namespaces(?:\/([^/]+))?$/.exec(path);
  if (own !== null) return { apiVersion: "v1", namespace: undefined, plural: "namespaces", name: own[1] };
  const match = PATH.exec(path);
  if (match === null) return undefined;
  return { apiVersion: match[1] ?? "", namespace: match[2], plural: match[3] ?? "", name: match[4] };
}

function filterOf(target: Target, query: Readonly<Record<string, string>>): (object: KubeObject) => boolean {
  const label = query["labelSelector"];
  const name = query["fieldSelector"]?.replace("metadata.name=", "");
  return (object) =>
    (target.namespace === undefined || object.metadata.namespace === target.namespace) &&
    (name === undefined || object.metadata.name === name) &&
    (label === undefined || hasLabel(object, label));
}

function hasLabel(object: KubeObject, selector: string): boolean {
  const [key = "", value] = selector.split("=");
  const found = object.metadata.labels?.[key];
  return value === undefined ? found !== undefined : found === value;
}

function applied(object: KubeObject, operations: unknown): KubeObject {
  try {
    return jsonpatch.applyPatch(object, operations as jsonpatch.Operation[], true).newDocument;
  } catch (error) {
    throw new Refusal(422, "Invalid", (error as Error).message);
  }
}

/** RFC 7396. */
function merged(base: unknown, over: unknown): unknown {
  if (!isObject(over)) return over;
  const result: JsonObject = isObject(base) ? { ...base } : {};
  for (const [key, value] of Object.entries(over))
    if (value === null) Reflect.deleteProperty(result, key);
    else result[key] = merged(result[key], value);
  return result;
}

async function readRequest(request: IncomingMessage): Promise<SeenRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const url = new URL(request.url ?? "/", "https://x");
  const text = Buffer.concat(chunks).toString("utf8");
  return {
    method: request.method ?? "",
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    contentType: request.headers["content-type"] ?? "",
    body: text === "" ? undefined : (JSON.parse(text) as unknown),
  };
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json" }).end(text);
}

const asked = (body: unknown): Readonly<Record<string, unknown>> =>
  isObject(body) && isObject(body["preconditions"]) ? body["preconditions"] : {};
