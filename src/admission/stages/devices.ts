/**
 * Stage devices: on the workload the device request, which is what keeps a pod native-safe without us; on the Pod what
 * the device and its transfer library read from the node, and shared memory for the engine's processes.
 */
import type { Container } from "../../kinds/kube.ts";
import { labelOf } from "../../kinds/kube.ts";
import { changed, skipped, warned } from "../../kinds/verdict.ts";
import { configuredDevices, deviceNames, type DeviceProfile, type Devices } from "../../profiles/devices.ts";
import type { HostMount } from "../../profiles/devices/profile.ts";
import { foreignRequest } from "../../profiles/devices/request.ts";
import { item, set, type Wish } from "../change.ts";
import { at, containerOf, inContainer, nothing, type StageContext, type StageResult } from "../stage.ts";

export function devicesOnWorkload(context: StageContext): StageResult {
  const { accelerator, acceleratorsPerPod, device } = context.spec;
  const devices = configuredDevices(context.settings);
  const foreign = foreignRequest(containerOf(context), devices);
  if (foreign !== undefined) return nothing(`${foreign} is requested, which no device profile knows; it stands`);
  if (device === undefined) return unknownProfile(accelerator, devices);
  if (acceleratorsPerPod === 0) return nothing("the number of devices cannot be told");
  return {
    changes: requestWishes(context, device),
    verdict: changed("DevicesInjected", `${acceleratorsPerPod} x ${device.resource}`, {
      numbers: { devices: acceleratorsPerPod },
    }),
  };
}

/** Without a name nothing was asked for; a name that no profile has is a mistake of the configuration. */
function unknownProfile(name: string, devices: Devices): StageResult {
  if (name === "") return nothing("no device profile is named");
  const message = `no device profile is called "${name}"; there are ${deviceNames(devices).join(", ")}`;
  return { changes: [], verdict: warned("DevicesContradict", message) };
}

/** Limits alone suffice: the API server makes requests equal. Some device plugins want them written out. */
function requestWishes(context: StageContext, device: DeviceProfile): Wish[] {
  const count = String(asked(containerOf(context), device) ?? context.spec.acceleratorsPerPod);
  const limit = set(inContainer(context, "resources", "limits", device.resource), count);
  const request = set(inContainer(context, "resources", "requests", device.resource), count);
  return device.requestsEqualLimits ? [limit, request] : [limit];
}

/** What the user wrote on either side is completed on the other. */
const asked = ({ resources }: Container, device: DeviceProfile): string | number | undefined =>
  resources?.limits?.[device.resource] ?? resources?.requests?.[device.resource];

const SHARED_MEMORY = "/dev/shm";

/** Mounted at the path or above it, with or without a slash at the end. */
const isMounted = (container: Container, path: string): boolean =>
  (container.volumeMounts ?? []).some(({ mountPath }) => `${path}/`.startsWith(`${mountPath.replace(/\/+$/, "")}/`));

/** The wanted name of a volume, or a longer one where a volume of the user's has it already. */
function freeName({ template }: StageContext, wanted: string): string {
  const taken = new Set((template.spec.volumes ?? []).map(({ name }) => name));
  let name = wanted;
  while (taken.has(name)) name += "-tandem";
  return name;
}

/** Tensor-parallel processes exchange through /dev/shm; a container runtime gives 64 MiB. */
function sharedMemory(context: StageContext): Wish[] {
  if (isMounted(containerOf(context), SHARED_MEMORY)) return [];
  const name = freeName(context, "tandem-shm");
  return [
    item(at(context, "spec", "volumes"), {
      name,
      emptyDir: { medium: "Memory", sizeLimit: context.settings.sharedMemory },
    }),
    item(inContainer(context, "volumeMounts"), { name, mountPath: SHARED_MEMORY }, "mountPath"),
  ];
}

const hostMount =
  (context: StageContext) =>
  ({ name: wanted, path, type }: HostMount): Wish[] => {
    const name = freeName(context, wanted);
    return [
      item(at(context, "spec", "volumes"), { name, hostPath: { path, type } }),
      item(inContainer(context, "volumeMounts"), { name, mountPath: path, readOnly: true }, "mountPath"),
    ];
  };

/** Read by the transfer library: of no use to an engine that transfers nothing. */
function transferMounts(context: StageContext, device: DeviceProfile | undefined): Wish[] {
  if (device === undefined || context.spec.connector === "none") return [];
  const container = containerOf(context);
  return device.mounts.filter(({ path }) => !isMounted(container, path)).flatMap(hostMount(context));
}

/** Pod Security levels that refuse hostPath volumes: with one, the whole pod would be refused. */
const refusesHostPath = ({ namespace }: StageContext): boolean =>
  namespace !== undefined &&
  ["baseline", "restricted"].includes(labelOf(namespace, "pod-security.kubernetes.io/enforce") ?? "");

/** Extended resources of RDMA device plugins have site names, so that they can be recognised but not injected. */
const RDMA = /rdma|\/efa$/i;

const transferHint = (context: StageContext): string => {
  const limits = containerOf(context).resources?.limits;
  const named = Object.keys(limits ?? {}).find((resource) => RDMA.test(resource));
  if (context.spec.connector !== "nixl") return "";
  return named === undefined
    ? "; no RDMA resource is requested, so KV travels over TCP"
    : `; KV may travel over ${named}`;
};

export function devicesOnPod(context: StageContext): StageResult {
  const mounts = transferMounts(context, context.spec.device);
  const shared = sharedMemory(context);
  if (mounts.length > 0 && refusesHostPath(context))
    return {
      changes: shared,
      verdict: skipped("DevicesInjected", "the Namespace refuses hostPath volumes, so driver files are not mounted"),
    };
  const driver = mounts.length === 0 ? "" : `; ${mounts.length / 2} driver files of the node`;
  return {
    changes: [...shared, ...mounts],
    verdict: changed("DevicesInjected", `shared memory${driver}${transferHint(context)}`),
  };
}
