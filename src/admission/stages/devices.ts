/**
 * Stage devices: on the workload the device request and what it needs to be scheduled, which keeps a pod native-safe
 * without us; on the Pod what the device and its transfer library read from the node, and shared memory for the engine's
 * processes. What the user asked for is completed, never changed.
 */
import { labelOf } from "../../kinds/kube.ts";
import { changed, warned, type Verdict } from "../../kinds/verdict.ts";
import { configuredDevices, deviceNames, type DeviceProfile, type Devices } from "../../profiles/devices.ts";
import { rounded } from "../../profiles/devices/product.ts";
import { askedAmount, askedCompanions, foreignRequest, requestedNames } from "../../profiles/devices/request.ts";
import { set, type Wish } from "../change.ts";
import { at, containerOf, inContainer, nothing, type StageContext, type StageResult } from "../stage.ts";
import { mountWishes, sharedMemory } from "./mounts.ts";
import { lockMemory, rdmaHint, rdmaWishes } from "./rdma.ts";
import { envWishes } from "./engine.ts";
import { deviceWords, filled } from "./words.ts";

export function devicesOnWorkload(context: StageContext): StageResult {
  const { accelerator, device } = context.spec;
  const devices = configuredDevices(context.settings);
  const container = containerOf(context);
  const foreign = foreignRequest(container, devices);
  if (foreign !== undefined) return nothing(`${foreign} is requested, which no device profile knows; it stands`);
  if (device === undefined) return unknownProfile(accelerator, devices);
  const names = requestedNames(container, device);
  return names.length > 0 ? completed(context, device, names) : added(context, device);
}

/** Without a name nothing was asked for; a name that no profile has is a mistake of the configuration. */
function unknownProfile(name: string, devices: Devices): StageResult {
  if (name === "") return nothing("no device profile is named");
  const message = `no device profile is called "${name}"; there are ${deviceNames(devices).join(", ")}`;
  return { changes: [], verdict: warned("DevicesContradict", message) };
}

/** What the user wrote on either side is completed on the other. */
function completed(context: StageContext, device: DeviceProfile, names: readonly string[]): StageResult {
  const container = containerOf(context);
  const asked = names.map((name) => [name, askedAmount(container, name) ?? ""] as const);
  return {
    changes: [...asked.flatMap(([name, amount]) => requestWishes(context, name, amount)), ...besides(context, device)],
    verdict: injected(asked.map(([name, amount]) => `${amount} x ${name}`).join(", "), context),
  };
}

function added(context: StageContext, device: DeviceProfile): StageResult {
  const { acceleratorsPerPod } = context.spec;
  if (acceleratorsPerPod === 0) return nothing("the number of devices cannot be told");
  if (device.resource.includes("*") || device.measures !== "devices") return unnamed(device);
  const count = rounded(device, acceleratorsPerPod);
  return {
    changes: [...requestWishes(context, device.resource, String(count)), ...besides(context, device)],
    verdict: injected(`${count} x ${device.resource}`, context),
  };
}

/** Which slice, and how much of it, only the user can say. */
const unnamed = ({ name, resource }: DeviceProfile): StageResult => ({
  changes: [],
  verdict: warned(
    "DevicesContradict",
    `device profile ${name} is for pods that ask for ${resource}; write the request`,
  ),
});

const injected = (what: string, { spec }: StageContext): Verdict =>
  changed("DevicesInjected", what, { numbers: { devices: spec.acceleratorsPerPod } });

/** Limits alone suffice: the API server makes requests equal. Some device plugins want them written out. */
function requestWishes(context: StageContext, resource: string, amount: string): Wish[] {
  const limit = set(inContainer(context, "resources", "limits", resource), amount);
  const request = set(inContainer(context, "resources", "requests", resource), amount);
  return context.spec.device?.requestsEqualLimits === true ? [limit, request] : [limit];
}

/** Parts of the device, where to find it and what runs it, and the network beside it. */
function besides(context: StageContext, device: DeviceProfile): Wish[] {
  const asked = askedCompanions(containerOf(context), device).map(({ resource }) => resource);
  const parts = device.companions.filter(({ resource, amount }) => amount !== "" && !asked.includes(resource));
  const { runtimeClassName } = device;
  return [
    ...parts.flatMap(({ resource, amount }) => requestWishes(context, resource, amount)),
    ...Object.entries(device.nodeSelector).map(([key, value]) => set(at(context, "spec", "nodeSelector", key), value)),
    ...(runtimeClassName === "" ? [] : [set(at(context, "spec", "runtimeClassName"), runtimeClassName)]),
    ...rdmaWishes(context),
  ];
}

/** Pod Security levels that refuse hostPath volumes and added capabilities: with one, the whole pod would be refused. */
const isConfined = ({ namespace }: StageContext): boolean =>
  namespace !== undefined &&
  ["baseline", "restricted"].includes(labelOf(namespace, "pod-security.kubernetes.io/enforce") ?? "");

export function devicesOnPod(context: StageContext): StageResult {
  const { device } = context.spec;
  const privileged = [...mountWishes(context, device), ...lockMemory(context)];
  const confined = privileged.length > 0 && isConfined(context);
  const changes = [
    ...sharedMemory(context),
    ...(confined ? [] : privileged),
    ...(device === undefined ? [] : ownWishes(context, device)),
  ];
  const left = confined ? "; the Namespace refuses hostPath volumes and IPC_LOCK, so the pod goes without" : "";
  const files = mountWishes(context, device).length / 2;
  const driver = files === 0 || confined ? "" : `; ${files} driver files of the node`;
  return { changes, verdict: changed("DevicesInjected", `shared memory${driver}${rdmaHint(context)}${left}`) };
}

/** Labels, annotations and environment of the profile and of the product that the pod selects. */
function ownWishes(context: StageContext, device: DeviceProfile): Wish[] {
  const words = deviceWords(context, device);
  const annotations = filled({ ...device.annotations, ...words.rule?.annotations }, words);
  const env = Object.entries(device.env).map(([name, value]) => ({ name, value }));
  return [
    ...filled(device.labels, words).map(([key, value]) => set(at(context, "metadata", "labels", key), value)),
    ...annotations.map(([key, value]) => set(at(context, "metadata", "annotations", key), value)),
    ...envWishes(context, env),
  ];
}
