/**
 * RDMA of the devices stage. Extended resources of RDMA device plugins have site names: they are recognised wherever the
 * user asks for one, and added only where the configuration names the site's.
 */
import { append, set, type Wish } from "../change.ts";
import { containerOf, inContainer, type StageContext } from "../stage.ts";

/** As rdma/roce_gdr, rdma/hca_shared_devices_a, vke.volcengine.com/rdma, vpc.amazonaws.com/efa. */
const RDMA = /rdma|\/efa$/i;

const asked = (context: StageContext): string | undefined => {
  const { limits, requests } = containerOf(context).resources ?? {};
  return Object.keys({ ...limits, ...requests }).find((resource) => RDMA.test(resource));
};

/** Transfer over the pod's own network cards. Ascend's go over the devices' network, which comes with them. */
const transfers = ({ spec }: StageContext): boolean =>
  ["nixl", "nixl-push", "mooncake"].includes(spec.connector) && spec.device?.vendor !== "ascend";

/** The site's resource, for an engine that transfers and asks for none itself. */
export function rdmaWishes(context: StageContext): Wish[] {
  const { resource, count } = context.settings.rdma;
  if (resource === "" || !transfers(context) || asked(context) !== undefined) return [];
  return [set(inContainer(context, "resources", "limits", resource), String(count))];
}

/** Memory is registered with the network card by locking it. With the site's resource, or the user's own. */
export function lockMemory(context: StageContext): Wish[] {
  const { resource, lockMemory: wanted } = context.settings.rdma;
  if (resource === "" || !wanted || !transfers(context) || asked(context) === undefined) return [];
  return [append(inContainer(context, "securityContext", "capabilities", "add"), ["IPC_LOCK"])];
}

/** For the verdict: what KV will travel over. */
export function rdmaHint(context: StageContext): string {
  if (!context.spec.connector.startsWith("nixl")) return "";
  const named = asked(context);
  return named === undefined
    ? "; no RDMA resource is requested, so KV travels over TCP"
    : `; KV may travel over ${named}`;
}
