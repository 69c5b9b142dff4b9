/** What a test does to Deployments through kubectl, and what it then sees of them: their Pods, Events and audit entries. */
import type { KubeObject, Pod, Workload } from "../../../src/kinds/kube.ts";
import { LABEL } from "../../../src/kinds/names.ts";
import { auditEvents } from "./audit.ts";
import type { Cluster } from "./control-plane.ts";
import type { Output } from "./kubectl.ts";
import { labelledDeployment } from "./load.ts";
import { eventually } from "./process.ts";

/** An Event of Tandem's. */
export interface Told extends KubeObject {
  readonly reason: string;
  readonly message: string;
  readonly type: string;
  readonly count: number;
  readonly source: { readonly component?: string };
}

/** A kind that was absent is looked for every 30 s. */
const TOLD_WITHIN_MS = 45_000;

export interface Deployments {
  readonly send: (verb: "apply" | "create", namespace: string, object: object, ...flags: string[]) => Promise<Output>;
  /** Resolves to what kubectl printed on stderr: the warnings. */
  readonly apply: (namespace: string, object: object) => Promise<string>;
  readonly deployment: (namespace: string, name: string) => Promise<Workload>;
  /** Pods by their label `app`, without those that are going. */
  readonly live: (namespace: string, app: string) => Promise<Pod[]>;
  /** They, once so many run. */
  readonly bound: (namespace: string, app: string, count: number) => Promise<Pod[]>;
  /** Events of Tandem's on a Deployment. */
  readonly eventsOn: (namespace: string, name: string) => Promise<Told[]>;
  /** One of them, once it is there. */
  readonly told: (namespace: string, name: string, reason: string) => Promise<Told>;
  /** Audit annotations of the last write to a Deployment that was answered with `code`. */
  readonly audited: (namespace: string, name: string, code: number) => Readonly<Record<string, string>>;
}

/** A Deployment of a service of its own name, so that no other test's workload is its partner. */
export function workload(name: string, annotations: Record<string, string> = {}, replicas = 1): Workload {
  const object = labelledDeployment(name, { [LABEL.model]: name, [LABEL.role]: "decode" }) as Workload;
  object.metadata.annotations = annotations;
  object.spec.replicas = replicas;
  return object;
}

export const uids = (objects: readonly KubeObject[]): string[] =>
  objects.map(({ metadata }) => metadata.uid ?? "").sort();

/** `cluster` is asked for at every call: tests are written down before it runs. */
export function deployments(cluster: () => Cluster): Deployments {
  const send: Deployments["send"] = (verb, namespace, object, ...flags) =>
    cluster().kubectl([verb, "-n", namespace, ...flags, "-f", "-"], JSON.stringify(object));
  const live: Deployments["live"] = async (namespace, app) =>
    (await cluster().pods(namespace, `app=${app}`)).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const eventsOn: Deployments["eventsOn"] = async (namespace, name) => {
    const query = encodeURIComponent(`involvedObject.kind=Deployment,involvedObject.name=${name}`);
    const all = await cluster().api.list(`/api/v1/namespaces/${namespace}/events?fieldSelector=${query}`);
    return (all as Told[]).filter(({ source }) => source.component === "tandem");
  };
  return {
    send,
    live,
    eventsOn,
    apply: async (namespace, object) => {
      const { code, stderr } = await send("apply", namespace, object);
      if (code !== 0) throw new Error(stderr);
      return stderr;
    },
    deployment: async (namespace, name) =>
      (await cluster().api.get(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`)) as Workload,
    bound: (namespace, app, count) =>
      eventually(`${count} pods of ${app} run`, async () => {
        const pods = await live(namespace, app);
        const all = pods.length === count && pods.every(({ status }) => status?.phase === "Running");
        return all ? pods : undefined;
      }),
    told: (namespace, name, reason) =>
      eventually(
        `an Event ${reason} on ${name}`,
        async () => (await eventsOn(namespace, name)).find((event) => event.reason === reason),
        TOLD_WITHIN_MS,
      ),
    audited: (namespace, name, code) =>
      auditEvents(cluster().folder).findLast(
        ({ objectRef, responseStatus }) =>
          objectRef.resource === "deployments" &&
          objectRef.namespace === namespace &&
          objectRef.name === name &&
          responseStatus?.code === code,
      )?.annotations ?? {},
  };
}
