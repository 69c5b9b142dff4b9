/** What product of a device a pod asks for, and which ports its transfer library takes by itself. */
import { entry, type PodSpec } from "../../kinds/kube.ts";
import type { CountRule, DeviceProfile } from "./profile.ts";

/** The product that a pod's node selector names, if a rule knows it. */
export const countRule = (device: DeviceProfile, spec: PodSpec): CountRule | undefined =>
  device.rules.find((candidate) => entry(spec.nodeSelector, candidate.label) === candidate.value);

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
