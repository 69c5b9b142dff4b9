/** Checks of device requests: profile, engine and count must agree, and the device plugin must be able to give them. */
import { unselected } from "../../gang/fit.ts";
import { amountOf } from "../../gang/quantity.ts";
import { entry, type Container, type StringMap } from "../../kinds/kube.ts";
import { ANNOTATION } from "../../kinds/names.ts";
import { selectorMatches } from "../../kinds/selector.ts";
import { denied, warned, type Verdict } from "../../kinds/verdict.ts";
import type { DeviceProfile } from "../../profiles/devices.ts";
import { countRule, handsOut, nodeRule, rounded, runsOn } from "../../profiles/devices/product.ts";
import { askedCompanions, matches, requestedNames } from "../../profiles/devices/request.ts";
import type { Check, Facts } from "./check.ts";

type DeviceCheck = (device: DeviceProfile, facts: Facts) => readonly Verdict[];

const contradicts = (message: string): Verdict => denied("DevicesContradict", message);

const vendor: DeviceCheck = (device, { spec: { engine } }) =>
  runsOn(engine, device)
    ? []
    : [contradicts(`engine ${engine} does not run on device profile ${device.name}; give ${ANNOTATION.accelerator}`)];

/** The request must be of the declared profile, and not below what the engine's sizes use. */
const request: DeviceCheck = (device, { spec, inferred: { request: asked } }) => {
  const wanted = rounded(device, spec.acceleratorsPerPod);
  if (asked === undefined) return [];
  if (!matches(device.resource, asked.resource))
    return [contradicts(`${ANNOTATION.accelerator} is ${spec.accelerator}, but ${asked.resource} is requested`)];
  return rounded(device, asked.count) === wanted ? [] : enough(asked.count, spec.acceleratorsPerPod, asked.resource);
};

/** Of a device that no profile knows, only a DeviceClass tells how many are asked for. */
const foreign: Check = ({ spec, inferred: { foreign: resource, foreignCount } }) =>
  resource === undefined || foreignCount === undefined ? [] : enough(foreignCount, spec.acceleratorsPerPod, resource);

function enough(count: number, wanted: number, resource: string): Verdict[] {
  if (count === wanted) return [];
  const text = `${count} x ${resource} requested, the engine's sizes use ${wanted}`;
  return [count < wanted ? contradicts(text) : warned("DevicesContradict", text)];
}

const countIn = ({ spec, inferred }: Facts): number => inferred.request?.count ?? spec.acceleratorsPerPod;

const listed = (counts: readonly number[]): string => `one pod gets ${counts.join(", ")}`;

/** Counts that the device plugin hands out at all, and of the selected product. */
const counts: DeviceCheck = (device, facts) => {
  const count = countIn(facts);
  if (count === 0) return [];
  if (device.counts.length > 0 && !device.counts.includes(count))
    return [contradicts(`${count} x ${device.resource}: ${listed(device.counts)}`)];
  if (rounded(device, count) % device.unit !== 0)
    return [contradicts(`${count} x ${device.resource}: one pod gets 1 or a multiple of ${device.unit}`)];
  return product(device, facts, count);
};

const product = (device: DeviceProfile, { spec, template, inferred }: Facts, count: number): Verdict[] => {
  const rule = countRule(device, template.spec);
  if (rule === undefined) return [];
  const resource = inferred.request?.resource ?? device.resource;
  const where = `${count} x ${resource} for container ${spec.container} on ${rule.product} (node label ${rule.label})`;
  if (!handsOut(rule, count))
    return [contradicts(`${where}: ${rule.counts.length === 0 ? `a node has ${rule.perNode}` : listed(rule.counts)}`)];
  if (spec.nodesPerInstance === 1 || !rule.wholeNodes || count === rule.perNode) return [];
  return [contradicts(`${where}: over several nodes each pod must ask for ${rule.perNode}`)];
};

const written = ({ resources }: Container, of: "limits" | "requests", resource: string): string | undefined => {
  const amount = resources?.[of]?.[resource];
  return amount === undefined ? undefined : String(amount);
};

const limits: DeviceCheck = (device, { inferred: { container } }) =>
  requestedNames(container, device).flatMap((resource) => {
    const [limit, asked] = (["limits", "requests"] as const).map((of) => written(container, of, resource));
    if (limit === undefined || asked === undefined || limit === asked) return [];
    return [contradicts(`${resource}: requests ${asked} must equal limits ${limit}`)];
  });

/** Parts are of one device: a pod with several devices has them whole. */
const parts: DeviceCheck = (device, facts) => {
  const { inferred, template } = facts;
  return askedCompanions(inferred.container, device).flatMap(({ resource, asked, largestPart, annotations }) => [
    ...(countIn(facts) > 1 && amountOf(resource, asked) <= largestPart
      ? [contradicts(`${resource} ${asked} is a part of one device, but ${countIn(facts)} are requested; leave it out`)]
      : []),
    ...lacking(annotations, template.metadata?.annotations).map((needed) =>
      warned("DevicesContradict", `${resource} counts only with the annotation ${needed} on the pods`),
    ),
  ]);
};

const lacking = (wanted: StringMap, found: StringMap | undefined): string[] =>
  Object.entries(wanted)
    .filter(([key, value]) => entry(found, key) !== value)
    .map(([key, value]) => `${key}: ${value}`);

/** Who will schedule the pods, as far as the user's template and declaration tell. */
const schedulerOf = ({ spec, template }: Facts): string => {
  const given = template.spec.schedulerName ?? "default-scheduler";
  return given === "default-scheduler" && spec.scheduler === "volcano" ? "volcano" : given;
};

const scheduler: DeviceCheck = (device, facts) => {
  const name = schedulerOf(facts);
  if (device.scheduler === "volcano" && name !== "volcano")
    return [
      warned(
        "SchedulerContradict",
        `${device.resource} is handed out by Volcano; give ${ANNOTATION.scheduler}: volcano`,
      ),
    ];
  // Under `volcano` no other webhook will name its own scheduler, and nobody hands the devices out.
  if (device.scheduler !== "webhook" || name !== "volcano") return [];
  return [
    warned(
      "SchedulerContradict",
      `devices of ${device.name} are handed out by a scheduler that its own webhook names, not by ${name}; give ${ANNOTATION.scheduler}: keep`,
    ),
  ];
};

/**
 * Where nodes with the resource are known among those that the pod selects, one of them must be able to give so many to
 * one pod. Where none is, nothing is known: a pool may be scaled to zero. So whoever has larger nodes made on demand
 * selects their pool, by node selector or required node affinity, or says `tandem.sh/skip: devices`.
 */
const nodes: DeviceCheck = (device, facts) => {
  const { spec, snapshot, template, inferred } = facts;
  const count = device.measures === "devices" ? countIn(facts) : 0;
  const resource = inferred.request?.resource ?? device.resource;
  const having = snapshot.nodes.filter(
    (node) =>
      allocatable(node.status?.allocatable, resource) > 0 &&
      selectorMatches({ matchLabels: device.nodeSelector }, node.metadata.labels) &&
      unselected(template, node) === undefined,
  );
  if (count === 0 || having.length === 0 || spec.skip.includes("devices")) return [];
  const most = Math.max(...having.map(({ status }) => allocatable(status?.allocatable, resource)));
  if (count > most) return [denied("DevicesTooMany", `${count} x ${resource}: no node has more than ${most}`)];
  const products = having.map((node) => nodeRule(device, node));
  if (products.some((rule) => rule === undefined || handsOut(rule, count))) return [];
  const names = [...new Set(products.map((rule) => rule?.product ?? ""))].join("; ");
  return [denied("DevicesTooMany", `${count} x ${resource}: no node hands out so many to one pod (${names})`)];
};

const allocatable = (map: Readonly<Record<string, string | number>> | undefined, resource: string): number =>
  map !== undefined && Object.hasOwn(map, resource) ? amountOf(resource, map[resource] ?? 0) : 0;

const ALL: readonly DeviceCheck[] = [vendor, request, counts, limits, parts, scheduler, nodes];

const ofProfile =
  (check: DeviceCheck): Check =>
  (facts) =>
    facts.spec.device === undefined ? [] : check(facts.spec.device, facts);

export const DEVICE_CHECKS: readonly Check[] = [foreign, ...ALL.map(ofProfile)];
