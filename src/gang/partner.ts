/**
 * Whether a cell waits for workloads that nobody has made yet.
 *
 * Decided from the contracts of its service and the labelled pods that are there. Of a pair one half is created first,
 * by minutes where a tool applies in waves; held together are only roles that are known, so that a prefill half would
 * take devices, and a domain in which decode finds no room, and serve nobody. A decode half that computes prompts by
 * itself serves, and waits only where `tandem.sh/gang` asks for prefill.
 */
import type { Pod } from "../kinds/kube.ts";
import { prefillsAlone } from "../profiles/connectors.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { podRole } from "./members.ts";
import { minimumViableSet } from "./podgroup.ts";

export type Partner = "prefill" | "decode";

/** What is there of the service (namespace, model and group), whichever cell it is in and whoever made it. */
export interface Service {
  readonly specs: readonly WorkloadSpec[];
  readonly pods: readonly Pod[];
}

/**
 * The role that the cell cannot serve without and of which nothing is there. Undefined where nothing is missing, or the
 * service has one side on purpose: `tandem.sh/gang: prefill=1`, or the other side in another cell or by other means.
 */
export function missingPartner(cell: readonly WorkloadSpec[], service: () => Service): Partner | undefined {
  const shares = minimumViableSet(cell);
  const role = shares[0]?.role;
  if (role === undefined || role === "both" || shares.some((share) => share.role !== role)) return undefined;
  const partner = role === "prefill" ? "decode" : "prefill";
  const needy = shares.map(({ spec }) => spec).filter((spec) => needs(spec, partner));
  return needy.length > 0 && !isThere(partner, service(), needy.every(serves)) ? partner : undefined;
}

const serves = ({ role, connector, engine }: WorkloadSpec): boolean =>
  role === "decode" && prefillsAlone(connector, engine);

const needs = (spec: WorkloadSpec, partner: Partner): boolean =>
  spec.gang.kind === "set" ? spec.gang[partner] > 0 : !serves(spec);

/** A workload without replicas stands for the will to go without it, where that serves. */
const isThere = (partner: Partner, { specs, pods }: Service, goesWithout: boolean): boolean =>
  specs.some(({ role, replicas }) => isPartner(role, partner) && (replicas > 0 || goesWithout)) ||
  pods.some((pod) => isPartner(podRole(pod), partner));

/** Role `both` decodes what it is handed; it hands nothing to a decode engine. */
const isPartner = (role: string, partner: Partner): boolean =>
  role === partner || (role === "both" && partner === "decode");
