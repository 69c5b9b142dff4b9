/** The Pods that a workload's templates become, as its controller makes them: names and labels, before admission. */
import { isObject, type KubeObject, type Pod, type Workload } from "../kinds/kube.ts";
import { LWS } from "../kinds/names.ts";
import { groupSize } from "./instance.ts";
import { podFromTemplate, templatesOf } from "./template.ts";

/** One Pod of each template, the first that there would be. */
export function samplePods(workload: Workload): readonly Pod[] {
  const name = `${workload.metadata.name ?? "pod"}-0`;
  if (workload.kind !== "LeaderWorkerSet") return [podFromTemplate(workload, name)];
  const [leader] = [groupPod(workload, 0, 0)];
  return (groupSize(workload) ?? 1) > 1 ? [leader, groupPod(workload, 0, 1)] : [leader];
}

/** Pod `index` of a group of a LeaderWorkerSet: labels as its controller and its webhook write them, 0 is the leader. */
export function groupPod(workload: Workload, group: number, index: number): Pod {
  const { name = "" } = workload.metadata;
  const leader = `${name}-${group}`;
  const templates = templatesOf(workload);
  // Without a template of its own the leader is made from the workers'.
  const pod = podFromTemplate(
    workload,
    index === 0 ? leader : `${leader}-${index}`,
    templates[index === 0 ? 0 : templates.length - 1],
  );
  pod.metadata.labels = {
    ...pod.metadata.labels,
    [LWS.name]: name,
    [LWS.groupIndex]: String(group),
    [LWS.workerIndex]: String(index),
  };
  pod.metadata.annotations = { ...pod.metadata.annotations, [LWS.size]: String(groupSize(workload) ?? 1) };
  pod.spec = { ...pod.spec, subdomain: subdomainOf(workload, leader) };
  return pod;
}

/** One Service for the whole set, unless it asks for one for each group. */
function subdomainOf({ metadata, ...rest }: KubeObject, leader: string): string {
  const spec = isObject(rest["spec"]) ? rest["spec"] : {};
  const network = isObject(spec["networkConfig"]) ? spec["networkConfig"] : {};
  return network["subdomainPolicy"] === "UniquePerReplica" ? leader : (metadata.name ?? "");
}
