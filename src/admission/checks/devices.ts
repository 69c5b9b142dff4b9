/** Checks of device requests: profile, engine and count must agree, and the device plugin must be able to give them. */
import type { Container } from "../../kinds/kube.ts";
import { ANNOTATION } from "../../kinds/names.ts";
import { denied, warned } from "../../kinds/verdict.ts";
import type { DeviceProfile } from "../../profiles/devices.ts";
import { countRule } from "../../profiles/devices/product.ts";
import type { Check, Facts } from "./check.ts";

const deviceOf = ({ spec }: Facts): DeviceProfile | undefined => spec.device;

const vendor: Check = (facts) => {
  const device = deviceOf(facts);
  const { engine } = facts.spec;
  if (device === undefined || engine === "sglang") return [];
  if ((engine === "vllm-ascend") === (device.vendor === "ascend")) return [];
  return [
    denied(
      "DevicesContradict",
      `engine ${engine} does not run on device profile ${device.name}; give ${ANNOTATION.accelerator}`,
    ),
  ];
};

/** The request must be of the declared profile, and not below what the engine's sizes use. */
const request: Check = (facts) => {
  const { spec, inferred } = facts;
  const asked = inferred.request;
  if (asked === undefined) return [];
  if (asked.device.name !== spec.accelerator)
    return [
      denied(
        "DevicesContradict",
        `${ANNOTATION.accelerator} is ${spec.accelerator}, but ${asked.device.resource} is requested`,
      ),
    ];
  const wanted = spec.acceleratorsPerPod;
  if (asked.count === wanted) return [];
  const text = `${asked.count} x ${asked.device.resource} requested, the engine's sizes use ${wanted}`;
  return [asked.count < wanted ? denied("DevicesContradict", text) : warned("DevicesContradict", text)];
};

/** Counts that the device plugin of the selected product hands out. */
const counts: Check = (facts) => {
  const device = deviceOf(facts);
  const rule = device === undefined ? undefined : countRule(device, facts.template.spec);
  const count = facts.inferred.request?.count ?? facts.spec.acceleratorsPerPod;
  if (rule === undefined || count === 0 || rule.counts.includes(count)) return [];
  return [denied("DevicesContradict", `${count} devices on ${rule.product}: one pod gets ${rule.counts.join(", ")}`)];
};

const quantity = ({ resources }: Container, of: "limits" | "requests", device: DeviceProfile): string | undefined => {
  const value = resources?.[of]?.[device.resource];
  return value === undefined ? undefined : String(value);
};

const limits: Check = (facts) => {
  const device = deviceOf(facts);
  if (device === undefined) return [];
  const [limit, asked] = (["limits", "requests"] as const).map((of) => quantity(facts.inferred.container, of, device));
  if (limit === undefined || asked === undefined || limit === asked) return [];
  return [denied("DevicesContradict", `${device.resource}: requests ${asked} must equal limits ${limit}`)];
};

export const DEVICE_CHECKS: readonly Check[] = [vendor, request, counts, limits];
