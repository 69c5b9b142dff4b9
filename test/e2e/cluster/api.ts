/** Plain HTTPS calls to the test cluster's API server, as one user. */
import { Agent, request } from "undici";
import type { JsonObject, KubeObject } from "../../../src/kinds/kube.ts";
import type { Server } from "./components.ts";

const TIMEOUT_MS = 20_000;

export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type PatchKind = "merge-patch" | "strategic-merge-patch" | "json-patch" | "apply-patch";

/** Paths are those of the Kubernetes API, as `/api/v1/namespaces/default/pods`. Failures are ApiErrors. */
export interface Api {
  get(path: string): Promise<KubeObject>;
  list(path: string): Promise<KubeObject[]>;
  post(path: string, body: object): Promise<KubeObject>;
  patch(path: string, kind: PatchKind, body: unknown): Promise<KubeObject>;
  remove(path: string): Promise<void>;
  close(): Promise<void>;
}

export function connect(server: Server, token: string): Api {
  const agent = new Agent({ connect: { ca: server.ca }, headersTimeout: TIMEOUT_MS, bodyTimeout: TIMEOUT_MS });
  const call = async (method: string, path: string, type?: string, body?: unknown): Promise<JsonObject> => {
    const headers = { authorization: `Bearer ${token}`, ...(type === undefined ? {} : { "content-type": type }) };
    const options = body === undefined ? {} : { body: JSON.stringify(body) };
    const reply = await request(`${server.url}${path}`, {
      method: method as "GET",
      dispatcher: agent,
      headers,
      ...options,
    });
    const text = await reply.body.text();
    if (reply.statusCode >= 300) throw new ApiError(reply.statusCode, `${method} ${path}: ${reply.statusCode} ${text}`);
    return JSON.parse(text) as JsonObject;
  };
  return {
    get: async (path) => (await call("GET", path)) as KubeObject,
    list: async (path) => (await call("GET", path))["items"] as KubeObject[],
    post: async (path, body) => (await call("POST", path, "application/json", body)) as KubeObject,
    patch: async (path, kind, body) => (await call("PATCH", path, `application/${kind}+json`, body)) as KubeObject,
    remove: async (path) => {
      await call("DELETE", path);
    },
    close: () => agent.destroy(),
  };
}
