/** Volumes of the devices stage: shared memory, and files of the node's driver. */
import type { Container } from "../../kinds/kube.ts";
import type { DeviceProfile } from "../../profiles/devices.ts";
import type { HostMount } from "../../profiles/devices/profile.ts";
import { item, type Wish } from "../change.ts";
import { at, containerOf, inContainer, type StageContext } from "../stage.ts";

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

/**
 * Tensor-parallel processes exchange through /dev/shm; a container runtime gives 64 MiB. With `hostIPC` it is the host's,
 * which the pod shares with others (MPS, LMCache's server): a volume would hide it.
 */
export function sharedMemory(context: StageContext): Wish[] {
  const shared = context.template.spec["hostIPC"] === true;
  if (shared || isMounted(containerOf(context), SHARED_MEMORY)) return [];
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

/** What the transfer library reads is of no use to an engine that transfers nothing. Two wishes for each file. */
export function mountWishes(context: StageContext, device: DeviceProfile | undefined): Wish[] {
  const container = containerOf(context);
  const transfers = context.spec.connector !== "none";
  const wanted = (device?.mounts ?? []).filter((mount) => transfers || mount.for === "engine");
  return wanted.filter(({ path }) => !isMounted(container, path)).flatMap(hostMount(context));
}
