/**
 * Checks of one object: what the user wrote must not contradict itself. Each denies, and names the place, what stands
 * there and what is accepted. Checks against other workloads are in `group.ts`.
 */
import { labelOf, type Container, type PodTemplate } from "../kinds/kube.ts";
import { ANNOTATION } from "../kinds/names.ts";
import { denied, warned, type Verdict } from "../kinds/verdict.ts";
import { roleName } from "../profiles/connectors.ts";
import { countRule, deviceProfile, deviceRequest, reservedPorts, type DeviceProfile } from "../profiles/devices.ts";
import { infer, type Inferred } from "../workload/infer.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import { serviceLabels } from "./stages/scheduling.ts";

interface Facts {
  readonly spec: WorkloadSpec;
  readonly template: PodTemplate;
  readonly inferred: Inferred;
}

/** A check of one object; nothing where it has no objection. */
type Check = (facts: Facts) => readonly Verdict[];

/** Checks a decoded object, without what Tandem injected. */
export function checkObject(spec: WorkloadSpec, template: PodTemplate): readonly Verdict[] {
  const inferred = infer(template, { container: spec.container, engine: spec.engine });
  return inferred === undefined ? [] : CHECKS.flatMap((check) => check({ spec, template, inferred }));
}

/** Labels that the user wrote into the template select pods already: they cannot mean something else. */
const templateLabels: Check = ({ spec, template }) =>
  Object.entries(serviceLabels(spec)).flatMap(([key, value]) => {
    const found = labelOf(template, key);
    if (found === undefined || found === value) return [];
    return [
      denied("InvalidLabel", `the pod template has ${key}: "${found}", the workload "${value}"`, { subject: key }),
    ];
  });

const deviceOf = ({ spec }: Facts): DeviceProfile | undefined => deviceProfile(spec.accelerator);

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
  const asked = deviceRequest(inferred.container);
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
  const rule = device === undefined ? undefined : countRule(device, facts.template.spec.nodeSelector);
  const count = deviceRequest(facts.inferred.container)?.count ?? facts.spec.acceleratorsPerPod;
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

/** The `http` port is where requests go; a different `--port` means that nobody listens there. */
const ports: Check = ({ spec, inferred }) => {
  const { portFlag } = inferred;
  if (portFlag === undefined || portFlag === spec.port || spec.rankPorts !== undefined) return [];
  return [warned("EngineContradict", `requests go to port ${spec.port}, but --port is ${portFlag}`)];
};

const kvRole: Check = ({ spec, inferred }) => {
  const given = inferred.transfer?.role;
  if (given === undefined || given === "both" || given === spec.role) return [];
  return [
    denied(
      "KvContradict",
      `kv_role ${roleName(given)} in the arguments, but the role is ${spec.role}; give ${roleName(spec.role)}`,
    ),
  ];
};

/** Decoders cache addresses by engine_id: two engines with one id give reads from the wrong one. */
const engineId: Check = ({ spec, inferred }) => {
  const id = inferred.transfer?.engineId;
  if (id === undefined || id.includes("$") || spec.kind === "Pod") return [];
  // A rollout runs the old pod beside the new one, and scaling does not come by here.
  if (spec.replicas < 2)
    return [warned("KvEngineIdShared", `engine_id "${id}" would be shared with every further pod; leave it out`)];
  return [
    denied(
      "KvEngineIdShared",
      `engine_id "${id}" would be shared by ${spec.replicas} replicas; leave it out, or make it of the pod's uid`,
    ),
  ];
};

const LAST_PORT = 65535;

/** Every rank has its own, counted from `kv_port` over all data-parallel ranks. */
const handshakePorts = ({ parallelism: { dp, tp, pp, pcp } }: WorkloadSpec): number => dp * tp * pp * pcp;

const kvPort: Check = ({ spec, template, inferred }) => {
  const port = inferred.transfer?.port;
  const device = deviceProfile(spec.accelerator);
  if (port === undefined || spec.connector !== "mooncake" || device?.vendor !== "ascend") return [];
  const reserved = reservedPorts(countRule(device, template.spec.nodeSelector)?.perNode);
  const last = port + handshakePorts(spec) - 1;
  if (last > LAST_PORT) return [denied("KvContradict", `kv_port ${port}: ports up to ${last} are needed`)];
  if (last < reserved.first || port > reserved.last) return [];
  return [
    warned(
      "KvPortReserved",
      `kv_port ${port} to ${last} meets ${reserved.first} to ${reserved.last}, bound at random by the transfer library`,
    ),
  ];
};

const scheduler: Check = ({ spec, template }) => {
  const name = template.spec.schedulerName ?? "default-scheduler";
  const wanted = { keep: name, volcano: "volcano", default: "default-scheduler" }[spec.scheduler];
  if (name === wanted || name === "default-scheduler") return [];
  return [
    warned(
      "SchedulerContradict",
      `${ANNOTATION.scheduler} is ${spec.scheduler}, but the template names ${name}, which stands`,
    ),
  ];
};

const CHECKS: readonly Check[] = [
  templateLabels,
  vendor,
  request,
  counts,
  limits,
  ports,
  kvRole,
  engineId,
  kvPort,
  scheduler,
];
