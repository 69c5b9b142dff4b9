/** What product of a device a pod asks for, what a product hands out, and which ports its transfer library takes. */
import { entry, type Node, type PodSpec, type StringMap } from "../../kinds/kube.ts";
import type { EngineId } from "../engines.ts";
import type { CountRule, DeviceProfile } from "./profile.ts";

/**
 * The product that a pod's node selector, its profile's or its required node affinity names, if a rule knows it. Of several products that
 * would do, one rule with the counts of all; undefined as soon as the pod may go to a node of no known product.
 */
export function countRule(device: DeviceProfile, spec: PodSpec): CountRule | undefined {
  const named = { ...device.nodeSelector, ...spec.nodeSelector };
  const selected = device.rules.find((rule) => isValue(rule, entry(named, rule.label)));
  return selected ?? together(required(spec).map((values) => rulesOf(device, values)));
}

/** The product of a node by its labels. */
export const nodeRule = (device: DeviceProfile, { metadata }: Node): CountRule | undefined =>
  device.rules.find((rule) => isValue(rule, entry(metadata.labels as StringMap | undefined, rule.label)));

const isValue = ({ value: wanted }: CountRule, value: string | undefined): boolean =>
  wanted.endsWith("*") ? value?.startsWith(wanted.slice(0, -1)) === true : value === wanted;

/** Label key -> values that a term permits. */
type Permitted = ReadonlyMap<string, readonly string[]>;

/** Terms of the required node affinity; a node has to match one of them. */
function required({ affinity }: PodSpec): readonly Permitted[] {
  const { nodeSelectorTerms = [] } = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? {};
  return nodeSelectorTerms.map(
    ({ matchExpressions = [] }) =>
      new Map(
        matchExpressions.filter(({ operator }) => operator === "In").map(({ key, values = [] }) => [key, values]),
      ),
  );
}

/** The rules of every value that a term permits; empty where one of them is no known product. */
function rulesOf(device: DeviceProfile, permitted: Permitted): readonly CountRule[] {
  const label = device.rules.find((rule) => permitted.has(rule.label))?.label;
  const values = label === undefined ? [] : (permitted.get(label) ?? []);
  const found = values.map((value) => device.rules.find((rule) => rule.label === label && isValue(rule, value)));
  return found.every((rule) => rule !== undefined) ? found : [];
}

/** One rule of many: what any of them hands out; annotations only where all say the same. */
function together(terms: readonly (readonly CountRule[])[]): CountRule | undefined {
  const rules = [...new Set(terms.flat())];
  const [first, ...rest] = rules;
  if (first === undefined || terms.some((term) => term.length === 0)) return undefined;
  if (rest.length === 0) return first;
  const free = rules.some(({ counts }) => counts.length === 0);
  return {
    ...first,
    product: rules.map(({ product }) => product).join(" or "),
    counts: free ? [] : [...new Set(rules.flatMap(({ counts }) => counts))].sort((a, b) => a - b),
    perNode: Math.max(...rules.map(({ perNode }) => perNode)),
    wholeNodes: rules.every(({ wholeNodes }) => wholeNodes),
    annotations: {},
  };
}

/** Whether one pod gets so many; empty counts mean any number up to a whole node. */
export const handsOut = ({ counts, perNode }: CountRule, count: number): boolean =>
  counts.length === 0 ? count <= perNode : counts.includes(count);

/** Devices that a request of so many comes to: some are handed out together. */
export const rounded = ({ unit }: DeviceProfile, count: number): number => (count === 1 ? unit : count);

/**
 * First handshake port of the Mooncake connector: clear of the [20000, 20000 + 1000 x devices of the node) that
 * AscendDirectTransport binds at random. On nodes of 8 it stays below Linux's ephemeral ports, which begin at 32768.
 */
export const mooncakePort = (perNode: number | undefined): number => (perNode === 8 ? 28000 : 36000);

/** Ports that AscendDirectTransport may bind by itself on a node of so many devices; 16 where that is not known. */
export const reservedPorts = (perNode: number | undefined): { readonly first: number; readonly last: number } => ({
  first: 20000,
  last: 20000 + 1000 * (perNode ?? 16) - 1,
});

/** Whether an engine runs on a profile's devices; one of no vendor says nothing about engines. */
export const runsOn = (engine: EngineId, { vendor }: DeviceProfile): boolean =>
  engine === "sglang" || vendor === "other" || (engine === "vllm-ascend") === (vendor === "ascend");
