/** What kubelets do that are not here: a container's environment as it would start, and the statuses they would report. */
import {
  annotationOf,
  labelOf,
  type Container,
  type EnvVar,
  type KubeObject,
  type Pod,
} from "../../../src/kinds/kube.ts";
import { STATUS } from "../../../src/kinds/names.ts";
import { LISTENING, type Cluster } from "./control-plane.ts";

/** What the kubelet would make of a container's environment when it starts. */
export function environment(pod: Pod, container: Container): Map<string, string> {
  const known = new Map<string, string>();
  for (const variable of container.env ?? []) known.set(variable.name, valueOf(pod, variable, known));
  return known;
}

const FIELD = /^metadata\.(labels|annotations)\['(.+)'\]$/;

function valueOf(pod: Pod, { value = "", valueFrom }: EnvVar, known: ReadonlyMap<string, string>): string {
  const path = (valueFrom?.["fieldRef"] as { fieldPath?: string } | undefined)?.fieldPath;
  return path === undefined ? expanded(value, known) : fieldOf(pod, path);
}

function fieldOf(pod: Pod, path: string): string {
  const match = FIELD.exec(path);
  if (match === null) return (path === "status.podIP" ? pod.status?.podIP : pod.metadata.name) ?? "";
  const read = match[1] === "labels" ? labelOf : annotationOf;
  return read(pod, match[2] ?? "") ?? "";
}

const expanded = (text: string, known: ReadonlyMap<string, string>): string =>
  text.replace(/\$\((\w+)\)/g, (whole, name: string) => known.get(name) ?? whole);

export const engineOf = (pod: Pod): Container => pod.spec.containers[0] as Container;
export const argumentsOf = (pod: Pod): string[] =>
  (engineOf(pod).args ?? []).map((word) => expanded(word, environment(pod, engineOf(pod))));
export const valuesOf = (words: readonly string[], flag: string): string[] =>
  words.flatMap((word, index) =>
    word === flag ? [words[index + 1] ?? ""] : word.startsWith(`${flag}=`) ? [word.slice(flag.length + 1)] : [],
  );
/** The engine of the pod ended just now, and runs again. */
export async function restarts(cluster: Cluster, pod: Pod): Promise<void> {
  const { name = "", namespace = "", creationTimestamp: startedAt } = pod.metadata;
  const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const lastState = { terminated: { exitCode: 1, startedAt, finishedAt: time } };
  const run = { restartCount: 1, state: { running: { startedAt: time } }, lastState };
  const containerStatuses = (pod.status?.containerStatuses ?? []).map((status) =>
    status.name === engineOf(pod).name ? { ...status, ...run } : status,
  );
  const patch = ["--subresource=status", "--type=strategic", "-p", JSON.stringify({ status: { containerStatuses } })];
  await cluster.must(["patch", "pod", "-n", namespace, name, ...patch]);
}

/** Its engine answers probes from now on, or does not. */
export const listens = (cluster: Cluster, { metadata }: Pod, yes: boolean): Promise<string> =>
  cluster.must([
    ...["annotate", "--overwrite", "pod", "-n", metadata.namespace ?? "", metadata.name ?? ""],
    `${LISTENING}=${yes}`,
  ]);

/** The Service by whose name the pod finds its leader. */
export const leadersService = async (
  cluster: Cluster,
  pod: Pod,
): Promise<KubeObject & { spec: { selector: Record<string, string> } }> => {
  const [name = "", namespace = ""] = (annotationOf(pod, STATUS.leader) ?? "").split(".");
  return (await cluster.api.get(`/api/v1/namespaces/${namespace}/services/${name}`)) as never;
};
