/** What is said of a node of which too much is kept for other pods. */
import { keyOf } from "../kinds/kube.ts";
import { denied, type Verdict } from "../kinds/verdict.ts";
import { lacking, type Amounts, type Room } from "./devices.ts";
import { formatAmount } from "./quantity.ts";
import type { Hold } from "./reservations.ts";

/** The verdict on such a node, or undefined. `room` is what is free beside what the holders keep. */
export function keptVerdict(
  node: string,
  demand: Amounts,
  { room, holders }: { readonly room: Room; readonly holders: readonly Hold[] },
): Verdict | undefined {
  const resource = lacking(room, node, demand);
  if (resource === undefined) return undefined;
  const [needs, free] = [demand.get(resource) ?? 0, Math.max(0, room.free(node, resource))];
  const amounts = holders.map(({ pod, demand }) => ({ key: keyOf(pod), amount: demand.get(resource) ?? 0 }));
  const reserved = amounts.reduce((sum, { amount }) => sum + amount, 0);
  const who = namedOf(amounts.filter(({ amount }) => amount > 0));
  const message = `needs ${formatAmount(resource, needs)} ${resource}, ${formatAmount(resource, free)} free beside ${formatAmount(resource, reserved)} kept for ${who}`;
  return denied("NodeReserved", message, { subject: node, numbers: { needs, free, reserved } });
}

/** Holders that a message names; the rest are counted. */
const NAMED = 3;

function namedOf(holders: readonly { readonly key: string }[]): string {
  const names = holders.map(({ key }) => key).sort();
  const more = names.length - NAMED;
  return names.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
