/** The cells of which some workload's pods wait behind gates, with all of their pods. */
import { keyOf, labelOf, type KubeObject, type Pod } from "../../kinds/kube.ts";
import { LABEL, OWNERSHIP } from "../../kinds/names.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import type { WaitingCell } from "../../gang/gates.ts";
import { cellName, isMember, nodesOf, podsByCell } from "../../gang/members.ts";
import { missingPartner, type Service } from "../../gang/partner.ts";
import { waitsForGang } from "../../gang/waiting.ts";
import { cellKey, cellOf, serviceKey } from "../../workload/cell.ts";
import type { WorkloadSpec } from "../../workload/spec.ts";
import { templateOf } from "../../workload/template.ts";
import { schedulerOf, type Contract, type Contracts } from "../contracts.ts";
import { selects } from "../labels.ts";
import { recordKey } from "./record.ts";

export interface GatedCell extends Omit<WaitingCell, "failures"> {
  readonly owners: readonly [Contract, ...Contract[]];
  /** The ConfigMap that says that it stood. */
  readonly record: KubeObject | undefined;
}

export function gatedCells(contracts: Contracts, { pods, configMaps }: ClusterSnapshot): readonly GatedCell[] {
  const members = podsByCell(pods);
  const stored = new Map(configMaps.filter(isOwned).map((configMap) => [keyOf(configMap), configMap]));
  return contracts.cells.flatMap((cell): GatedCell[] => {
    const [first, ...rest] = cell.filter((contract) => waitsForGang(contract.spec, schedulerOf(contract)));
    if (first === undefined) return [];
    const record = stored.get(recordKey(first));
    const key = cellKey(cellOf(first.spec));
    const specs = cell.map(({ spec }) => spec);
    const found = [...(members.get(key) ?? []), ...strays(cell, pods)];
    const stood = record !== undefined;
    const others = nodesOfOthers(key, members);
    const partner = stood ? undefined : missingPartner(specs, () => serviceOf(first, contracts, members));
    const name = cellName(first.spec);
    return [{ key, name, specs, partner, members: found, others, owners: [first, ...rest], record, stood }];
  });
}

function serviceOf(
  { spec }: Contract,
  { all }: Pick<Contracts, "all">,
  members: ReadonlyMap<string, readonly Pod[]>,
): Service {
  const service = (key: string): boolean => serviceKey(key) === serviceKey(cellKey(cellOf(spec)));
  return {
    specs: all.map(({ spec }) => spec).filter((one) => service(cellKey(cellOf(one)))),
    pods: [...members].flatMap(([key, pods]) => (service(key) ? pods : [])),
  };
}

/** Where the service's other cells are. */
const nodesOfOthers = (key: string, members: ReadonlyMap<string, readonly Pod[]>): readonly string[] =>
  [...members].flatMap(([other, pods]) =>
    other !== key && serviceKey(other) === serviceKey(key) ? nodesOf(pods) : [],
  );

const isOwned = (object: KubeObject): boolean => labelOf(object, OWNERSHIP.label) === OWNERSHIP.value;

/**
 * Pods of workloads that admission missed, while no webhook answered: without labels, but the rest of their cell must
 * not wait for them behind gates. They count as they are, and nobody gives them back.
 */
function strays(cell: readonly Contract[], pods: readonly Pod[]): readonly Pod[] {
  const missed = cell.filter(
    ({ workload }) => templateOf(workload)?.template.metadata?.labels?.[LABEL.model] === undefined,
  );
  return missed.flatMap((contract) =>
    pods.filter((pod) => isStray(pod, contract)).map((pod) => labelled(pod, contract.spec)),
  );
}

const isStray = (pod: Pod, contract: Contract): boolean =>
  pod.metadata.namespace === contract.spec.namespace &&
  labelOf(pod, LABEL.model) === undefined &&
  isMember(pod) &&
  selects(contract, pod);

const labelled = (pod: Pod, { model, role, group, cell }: WorkloadSpec): Pod => ({
  ...pod,
  metadata: {
    ...pod.metadata,
    labels: {
      ...pod.metadata.labels,
      [LABEL.model]: model,
      [LABEL.role]: role,
      [LABEL.group]: group,
      [LABEL.cell]: cell,
    },
  },
});
