/** The words of a device profile's labels and annotations, filled in for one pod. */
import type { StringMap } from "../../kinds/kube.ts";
import { configuredDevices, type DeviceProfile } from "../../profiles/devices.ts";
import { countRule, rounded } from "../../profiles/devices/product.ts";
import type { CountRule } from "../../profiles/devices/profile.ts";
import { deviceRequest } from "../../profiles/devices/request.ts";
import { cellObjectName, cellOf } from "../../workload/cell.ts";
import { containerOf, type StageContext } from "../stage.ts";

export interface DeviceWords {
  /** The product that the pod selects, if it is known. */
  readonly rule: CountRule | undefined;
  /** Name of the cell's objects; a label value. */
  readonly cell: string;
  /** Devices of the pod; 0 where that is not known. */
  readonly devices: number;
  /** Devices of the instance that the pod is part of. */
  readonly instance: number;
}

export function deviceWords(context: StageContext, device: DeviceProfile): DeviceWords {
  const { spec, template, settings } = context;
  const asked = deviceRequest(containerOf(context), configuredDevices(settings))?.count;
  const devices = asked ?? (spec.acceleratorsPerPod === 0 ? 0 : rounded(device, spec.acceleratorsPerPod));
  return {
    rule: countRule(device, template.spec),
    cell: cellObjectName(cellOf(spec)),
    devices,
    instance: devices * spec.nodesPerInstance,
  };
}

/** Entries with their words filled in; one that needs a number that is not known is left out. */
export function filled(
  map: StringMap,
  { cell, devices, instance }: DeviceWords,
): readonly (readonly [string, string])[] {
  const entries = Object.entries(map).filter(([, text]) => devices > 0 || !/\{(devices|instance)\}/.test(text));
  const fill = (text: string): string =>
    text.replaceAll("{cell}", cell).replaceAll("{devices}", String(devices)).replaceAll("{instance}", String(instance));
  return entries.map(([key, text]) => [key, fill(text)]);
}
