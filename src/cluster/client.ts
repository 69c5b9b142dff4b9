/**
 * The API server as the ports see it: KubeReader and KubeWriter over the transport.
 *
 * Decides nothing. Every call has the configured deadline; a 404 is "not there" for reading and "done" for deleting;
 * everything else that fails is a KubeError.
 */
import type { Config } from "../config/schema.ts";
import { hasStatus } from "../kinds/kube-error.ts";
import { isObject, type KubeObject, type ObjectRef } from "../kinds/kube.ts";
import { FIELD_MANAGER } from "../kinds/names.ts";
import { refOf } from "../kinds/resource.ts";
import type { Clock, KubeReader, KubeWriter, PatchType, PodBinder } from "../ports.ts";
import { createEventLedger, eventObject } from "./event.ts";
import { loadKubeconfig } from "./kubeconfig.ts";
import { createTransport, malformed, type Transport } from "./transport.ts";

export interface KubeClient extends KubeReader, KubeWriter, PodBinder {
  readonly transport: Transport;
  /** The server's own time, by the last answer: milliseconds since the Unix epoch; undefined before the first. */
  serverNow(): number | undefined;
  close(): void;
}

export interface KubeClientOptions {
  readonly clock: Clock;
  /** Field manager of creates and patches; applies name their own. Default: the controller's. */
  readonly manager?: string;
  readonly fence?: Fence;
}

/** For writes of one of several replicas: none of them is carried out once another one may have taken over. */
export interface Fence {
  /** Asked as the last thing before a write leaves; false: it fails with `Withheld`. */
  readonly mayWrite: () => boolean;
  /** The server gives up by itself what it has not carried out by then, in milliseconds: nobody may be there to abort it. */
  readonly withinMs: number;
}

/** Objects of one page of a list. */
export const PAGE_SIZE = 500;

const PATCH_TYPES: Readonly<Record<PatchType, string>> = {
  json: "application/json-patch+json",
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
};

/** Finds the cluster and its credentials; nothing is sent before the first call. */
export async function createKubeClient(config: Config["cluster"], options: KubeClientOptions): Promise<KubeClient> {
  const kubeconfig = await loadKubeconfig(config.kubeconfig);
  const monotonic = (): number => options.clock.monotonic();
  let heard: { readonly serverMs: number; readonly at: number } | undefined;
  const transport = createTransport({
    connect: () => kubeconfig.connect(),
    close: () => kubeconfig.close(),
    timeoutMs: config.requestTimeoutMs,
    onDate: (serverMs) => (heard = { serverMs, at: monotonic() }),
  });
  const serverNow = (): number | undefined =>
    heard === undefined ? undefined : heard.serverMs + monotonic() - heard.at;
  return { ...createClientOver(transport, options), serverNow };
}

export function createClientOver(transport: Transport, options: KubeClientOptions): KubeClient {
  const parts = { ...reader(transport), ...writer(transport, options), ...binder(transport) };
  return { ...parts, transport, serverNow: () => undefined, close: () => transport.close() };
}

/** `/api/v1/...` or `/apis/GROUP/VERSION/...` of a kind, in its namespace where there is one. */
export const collectionPath = (kind: Omit<ObjectRef, "name">): string => {
  const root = kind.apiVersion.includes("/") ? "apis" : "api";
  const inside = kind.namespace === undefined ? "" : `/namespaces/${encodeURIComponent(kind.namespace)}`;
  return `/${root}/${kind.apiVersion}${inside}/${kind.plural}`;
};

const objectPath = (ref: ObjectRef): string =>
  `${collectionPath(ref)}/${encodeURIComponent(ref.name)}${ref.subresource === undefined ? "" : `/${ref.subresource}`}`;

function reader(transport: Transport): KubeReader {
  return {
    get: async (ref) => {
      try {
        return asObject(await transport.call({ method: "GET", path: objectPath(ref) }));
      } catch (error) {
        if (hasStatus(error, 404)) return undefined;
        throw error;
      }
    },
    list: async (kind, selector) => {
      const items: KubeObject[] = [];
      const query = { limit: String(PAGE_SIZE), labelSelector: selector };
      let next: string | undefined;
      do {
        const page = asPage(
          await transport.call({ method: "GET", path: collectionPath(kind), query: { ...query, continue: next } }),
        );
        items.push(...page.items);
        next = page.next;
      } while (next !== undefined);
      return items;
    },
  };
}

function writer(to: Transport, { clock, manager = FIELD_MANAGER.controller, fence }: KubeClientOptions): KubeWriter {
  const ledger = createEventLedger(() => clock.monotonic());
  const query = { fieldManager: manager };
  const transport = fence === undefined ? to : fenced(to, fence);
  const create = async (object: KubeObject): Promise<KubeObject> => {
    const path = collectionPath(refOf(object));
    return asObject(await transport.call({ method: "POST", path, query, body: object }));
  };
  return {
    create,
    apply: async (object, applier) =>
      asObject(
        await transport.call({
          method: "PATCH",
          path: objectPath(refOf(object)),
          query: { fieldManager: applier, force: "true" },
          contentType: "application/apply-patch+yaml",
          body: object,
        }),
      ),
    patch: async (ref, type, body) =>
      asObject(
        await transport.call({
          method: "PATCH",
          path: objectPath(ref),
          query,
          contentType: PATCH_TYPES[type],
          body,
        }),
      ),
    remove: (ref, uid, resourceVersion) => remove(transport, ref, { uid, resourceVersion }),
    event: async (about, verdict) => {
      const event = eventObject(about, verdict, clock.now());
      if (!ledger.fresh(event)) return;
      await create(event).catch((error: unknown) => {
        if (hasStatus(error, 409)) return;
        ledger.forget(event);
        throw error;
      });
    },
  };
}

const fenced = (transport: Transport, { mayWrite, withinMs }: Fence): Transport => ({
  ...transport,
  call: (call) =>
    transport.call({ ...call, mayLeave: mayWrite, query: { ...call.query, timeout: `${Math.ceil(withinMs)}ms` } }),
});

/** The uid makes sure that a successor of the same name is not bound in its predecessor's place. */
const binder = (transport: Transport): PodBinder => ({
  bind: async ({ namespace, name, uid }, node, timeoutMs) => {
    await transport.call({
      method: "POST",
      path: objectPath({ apiVersion: "v1", plural: "pods", namespace, name, subresource: "binding" }),
      body: {
        apiVersion: "v1",
        kind: "Binding",
        metadata: { namespace, name, uid },
        target: { apiVersion: "v1", kind: "Node", name: node },
      },
      signal: AbortSignal.timeout(Math.max(1, Math.ceil(timeoutMs))),
    });
  },
});

interface Preconditions {
  readonly uid: string | undefined;
  readonly resourceVersion: string | undefined;
}

/** 404: gone already. 409 with a uid alone: that incarnation is gone and another one stands in its place. */
async function remove(transport: Transport, ref: ObjectRef, preconditions: Preconditions): Promise<void> {
  const { uid, resourceVersion } = preconditions;
  const body = { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Background", preconditions };
  try {
    await transport.call({ method: "DELETE", path: objectPath(ref), body });
  } catch (error) {
    if (hasStatus(error, 404) || (uid !== undefined && resourceVersion === undefined && hasStatus(error, 409))) return;
    throw error;
  }
}

export function asObject(value: unknown): KubeObject {
  if (isObject(value) && typeof value["kind"] === "string" && isObject(value["metadata"])) return value as KubeObject;
  throw malformed("the answer is not a Kubernetes object");
}

export interface Page {
  readonly items: readonly KubeObject[];
  readonly version: string;
  /** Token of the next page. */
  readonly next?: string;
}

/** A page of a list. Its items carry neither apiVersion nor kind: both follow from the list's own. */
export function asPage(value: unknown): Page {
  const list = asObject(value);
  const items: unknown = list["items"];
  if (!Array.isArray(items) && items !== null) throw malformed("the answer is not a list");
  const next = list.metadata["continue"];
  const kind = list.kind.replace(/List$/, "");
  return {
    items: ((items ?? []) as JsonItem[]).map((item) => asObject({ apiVersion: list.apiVersion, kind, ...item })),
    version: list.metadata.resourceVersion ?? "",
    ...(typeof next === "string" && next !== "" ? { next } : {}),
  };
}

type JsonItem = Readonly<Record<string, unknown>>;
