/** What a script is offered that is not known to load a connector: everything that it takes to load the engine's own. */
import type { WorkloadSpec } from "./spec.ts";

/** The contract by which a pod is configured. What discovery is told goes by the contract itself. */
export const asOffered = (spec: WorkloadSpec): WorkloadSpec =>
  spec.offered === undefined ? spec : { ...spec, connector: spec.offered };
