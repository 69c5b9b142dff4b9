/** Places of instances over several pods in the local cluster: the controller's own decisions, carried out on objects. */
import type { Config } from "../config/schema.ts";
import type { Action } from "../controller/action.ts";
import { contractsOf } from "../controller/contracts.ts";
import { slotActions } from "../controller/slots.ts";
import { isObject, keyOf, type JsonObject, type Pod } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { configuredDevices } from "../profiles/devices.ts";

/** A record, then the places: nothing is lost here, so that two rounds do. */
const ROUNDS = 2;
const everywhere = (): boolean => true;
/** As `controller.instancePorts`; nothing runs here that would use them. */
const BLOCKS = { first: 14000, size: 64, count: 93 };

/** The snapshot with every whole instance formed and its pods let go. */
export function withInstances(snapshot: ClusterSnapshot, config: Pick<Config, "admission">): ClusterSnapshot {
  let current = snapshot;
  for (let round = 0; round < ROUNDS; round++) {
    const contracts = contractsOf(current, { config, acts: everywhere });
    const devices = configuredDevices(config.admission);
    const actions = slotActions({ ...current, contracts, acts: everywhere, devices, blocks: BLOCKS });
    current = actions.reduce(perform, current);
  }
  return current;
}

/** Carries out what creates Services and patches Pods. */
export function perform(snapshot: ClusterSnapshot, action: Action): ClusterSnapshot {
  if (action.do === "apply") return { ...snapshot, services: [...snapshot.services, action.object] };
  if (action.do !== "patch") return snapshot;
  const key = `${action.ref.namespace ?? ""}/${action.ref.name}`;
  const pods = snapshot.pods.map((pod) => (keyOf(pod) === key ? (merged(pod, action.body) as Pod) : pod));
  return { ...snapshot, pods };
}

/** A JSON merge patch (RFC 7386). */
export function merged(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const given: JsonObject = isObject(target) ? target : {};
  const changes = Object.entries(patch)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => [key, value === null ? null : merged(given[key], value)]);
  const entries = Object.entries({ ...given, ...(Object.fromEntries(changes) as JsonObject) });
  return Object.fromEntries(entries.filter(([, value]) => value !== null));
}
