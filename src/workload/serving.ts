/**
 * Who is routed to: one rule for admission, the controller and discovery.
 *
 * Internal data parallelism has one API server for the whole instance, on node rank 0; hybrid and external have one on
 * every node, or one for each rank. A headless engine has none. Prefill engines answer the router alone, never clients.
 */
import type { Role } from "../kinds/endpoint.ts";
import type { DataParallelMode } from "./spec.ts";

export interface ServingFacts {
  readonly headless?: true;
  readonly rankPorts?: unknown;
  readonly dataParallelMode: DataParallelMode;
}

/** True where every pod of an instance has an API server. */
export const everyNodeServes = ({ headless, rankPorts, dataParallelMode }: ServingFacts): boolean =>
  headless !== true && (rankPorts !== undefined || dataParallelMode !== "internal");

/** True where the pod of this node rank has an API server. */
export const hasServer = (facts: ServingFacts, nodeRank: number): boolean =>
  facts.headless !== true && (nodeRank === 0 || everyNodeServes(facts));

/** True where the pod may get requests of clients. */
export const isEntry = (facts: ServingFacts & { readonly role: Role }, nodeRank: number): boolean =>
  facts.role !== "prefill" && hasServer(facts, nodeRank);
