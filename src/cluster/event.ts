/** Events: what people see in `kubectl describe`, made from a Verdict. */
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { refOf } from "../kinds/resource.ts";
import type { KubeObject } from "../kinds/kube.ts";
import { isDenied, isWarned, type Verdict } from "../kinds/verdict.ts";

/** The API server rejects longer messages. */
const MAX_MESSAGE = 1024;
/** Events live one hour at the server; after that the same one may be told again. */
const TELL_AGAIN_MS = 3_600_000;

export interface EventLedger {
  /** False when the same was told within the hour; else it counts as told from now on. */
  fresh(event: KubeObject): boolean;
  /** Telling failed: the next time it is fresh again. */
  forget(event: KubeObject): void;
}

export function createEventLedger(now: () => number): EventLedger {
  const told = new LRUCache<string, number>({ max: 4096 });
  const key = (event: KubeObject): string => `${event.metadata.namespace ?? ""}/${event.metadata.name ?? ""}`;
  return {
    fresh: (event) => {
      const last = told.get(key(event));
      if (last !== undefined && now() - last < TELL_AGAIN_MS) return false;
      told.set(key(event), now());
      return true;
    },
    forget: (event) => void told.delete(key(event)),
  };
}

/** Its name follows from object, reason and message, so that a second process telling the same meets a 409. */
export function eventObject(about: KubeObject, verdict: Verdict, at: number): KubeObject {
  const message = verdict.message.slice(0, MAX_MESSAGE);
  const time = new Date(at).toISOString().replace(/\.\d+Z$/, "Z");
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: eventName(about, verdict.reason, message), namespace: about.metadata.namespace ?? "default" },
    involvedObject: involved(about),
    reason: verdict.reason,
    message,
    type: isDenied(verdict) || isWarned(verdict) ? "Warning" : "Normal",
    source: { component: "tandem" },
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}

function eventName(about: KubeObject, reason: string, message: string): string {
  const id = JSON.stringify([about.kind, about.metadata.uid ?? "", reason, message]);
  const hash = createHash("sha256").update(id).digest("hex").slice(0, 16);
  return `${(about.metadata.name ?? "tandem").slice(0, 200)}.${hash}`;
}

function involved(about: KubeObject): Record<string, string> {
  const { namespace, name } = refOf(about);
  return {
    apiVersion: about.apiVersion,
    kind: about.kind,
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(about.metadata.uid === undefined ? {} : { uid: about.metadata.uid }),
  };
}
