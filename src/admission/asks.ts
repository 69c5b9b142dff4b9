/** What a workload asks for, whatever says it: each value with the place where it was found, for the denial. */
import {
  annotationOf,
  entry,
  type Container,
  type KubeObject,
  type Namespace,
  type PodTemplate,
  type StringMap,
} from "../kinds/kube.ts";
import { ANNOTATION, LABEL, STATUS, VOLCANO } from "../kinds/names.ts";
import { configuredDevices } from "../profiles/devices.ts";
import { deviceRequest, foreignRequest } from "../profiles/devices/request.ts";
import { readIntent } from "../workload/intent.ts";
import type { WorkloadSpec } from "../workload/spec.ts";
import type { Settings } from "./stage.ts";

/** Who asks for what. */
export interface Claim {
  readonly spec: WorkloadSpec;
  /** Without what Tandem injected. */
  readonly object: KubeObject;
  readonly template: PodTemplate;
  readonly namespace: Namespace | undefined;
  readonly settings: Settings;
  /** The workload of which the object is a Pod, as far as it is known. */
  readonly workload?: KubeObject | undefined;
}

/** A value, and where it was found, in words. */
export interface Asked {
  readonly value: string;
  readonly from: string;
}

const intentOf = (object: KubeObject) =>
  object.kind === "Pod" ? readIntent(annotationOf(object, STATUS.intent)) : undefined;

const given = ({ metadata }: KubeObject) => ({ ...metadata.annotations, ...metadata.labels });

interface Source {
  readonly map: StringMap | undefined;
  readonly name: string;
}

/** Where keys stand, the strongest first; what a Pod has like its workload is the workload's. */
function sourcesOf({ object, workload, namespace }: Claim): readonly Source[] {
  const own = { map: given(object), name: `the ${object.kind}` };
  const defaults = { map: namespace?.metadata.annotations, name: "the Namespace" };
  const intent = { map: intentOf(object), name: `${STATUS.intent} of the Pods` };
  if (workload === undefined) return [intent, own, defaults];
  const above = { map: given(workload), name: `the ${workload.kind}` };
  return [intent, { ...own, name: `the pod template of ${above.name}` }, above, defaults];
}

/** Where a key of the contract was found, in words; undefined where it is not set. */
export function originOf(claim: Claim, key: string): string | undefined {
  const setting = sourcesOf(claim).filter(({ map }) => entry(map, key) !== undefined);
  const [first] = setting;
  const owner = `the ${claim.workload?.kind ?? ""}`;
  const same = setting.find(({ map, name }) => name === owner && entry(map, key) === entry(first?.map, key));
  return first === undefined ? undefined : `set on ${(same ?? first).name}`;
}

const asked = (value: string, from: string): readonly Asked[] => (value === "" ? [] : [{ value, from }]);

export const modesOf = (claim: Claim): readonly Asked[] =>
  asked(claim.spec.mode, originOf(claim, ANNOTATION.mode) ?? `default of role ${claim.spec.role}`);

export const modelsOf = (claim: Claim): readonly Asked[] => asked(claim.spec.model, originOf(claim, LABEL.model) ?? "");

/** The scheduler that the pods will have: Tandem replaces the default one alone. */
function schedulerOf(claim: Claim): Asked {
  const name = claim.template.spec.schedulerName ?? "default-scheduler";
  if (name !== "default-scheduler") return { value: name, from: "schedulerName of the pod template" };
  const from = originOf(claim, ANNOTATION.scheduler) ?? "default of Kubernetes";
  return { value: claim.spec.scheduler === "volcano" ? VOLCANO.schedulerName : name, from };
}

export const schedulersOf = (claim: Claim): readonly Asked[] => [schedulerOf(claim)];

/** Volcano takes the queue from Tandem's key or from its own, and puts a pod that names none into `default`. */
export function queuesOf(claim: Claim): readonly Asked[] {
  const own = annotationOf(claim.template, VOLCANO.queueName) ?? "";
  const named = [
    ...asked(claim.spec.queue, originOf(claim, ANNOTATION.queue) ?? ""),
    ...asked(own, `${VOLCANO.queueName} of the pod template`),
  ];
  const isDefault = named.length === 0 && schedulerOf(claim).value === VOLCANO.schedulerName;
  return isDefault ? asked("default", "default of Volcano") : named;
}

/** Names that stand in the arguments come first, so that those are nowhere else. */
export const servedOf = (claim: Claim): readonly Asked[] => {
  const { spec, object, workload, namespace } = claim;
  const declared = [object, workload, namespace].map((one) => entry(one?.metadata.annotations, ANNOTATION.servedModel));
  const names = (declared.find((text) => text !== undefined) ?? "").split(",").map((name) => name.trim());
  const origin = originOf(claim, ANNOTATION.servedModel);
  const from = `arguments of container ${spec.container}`;
  return spec.served.map((value) => ({ value, from: names.includes(value) ? (origin ?? from) : from }));
};

/** The containers beside the engine's: what they ask for counts, wherever the contract points. */
const besides = ({ spec, template }: Claim): readonly Container[] =>
  [...template.spec.containers, ...(template.spec.initContainers ?? [])].filter(({ name }) => name !== spec.container);

const engineOf = ({ spec, template }: Claim): Container | undefined =>
  template.spec.containers.find(({ name }) => name === spec.container);

const requested = ({ name }: { readonly name: string }): string => `requested by container ${name}`;

/** A device that no profile knows is bound by the name of its resource. */
export function acceleratorsOf(claim: Claim): readonly Asked[] {
  const devices = configuredDevices(claim.settings);
  const others = besides(claim).flatMap((one) =>
    asked(deviceRequest(one, devices)?.device.name ?? foreignRequest(one, devices) ?? "", requested(one)),
  );
  return [...engineAccelerator(claim), ...others];
}

function engineAccelerator(claim: Claim): readonly Asked[] {
  const devices = configuredDevices(claim.settings);
  const engine = engineOf(claim);
  const foreign = engine === undefined ? undefined : foreignRequest(engine, devices);
  if (engine !== undefined && foreign !== undefined) return asked(foreign, requested(engine));
  const request = engine === undefined ? undefined : deviceRequest(engine, devices);
  const fallback =
    request === undefined ? "default of admission.defaultProfile" : requested({ name: claim.spec.container });
  return asked(claim.spec.accelerator, originOf(claim, ANNOTATION.accelerator) ?? fallback);
}

/** Devices of all containers together; of the engine's, what it asks for or what its sizes come to. */
export function countOf(claim: Claim): { readonly count: number; readonly from: string } {
  const { spec, settings } = claim;
  const amount = (one: Container | undefined): number =>
    one === undefined ? 0 : (deviceRequest(one, configuredDevices(settings))?.count ?? 0);
  const byRequest = amount(engineOf(claim));
  const byContract = originOf(claim, ANNOTATION.acceleratorsPerPod) ?? `parallel sizes of container ${spec.container}`;
  const engine = byRequest >= spec.acceleratorsPerPod ? requested({ name: spec.container }) : byContract;
  const others = besides(claim).filter((one) => amount(one) > 0);
  return {
    count: others.reduce((sum, one) => sum + amount(one), Math.max(spec.acceleratorsPerPod, byRequest)),
    from: [engine, ...others.map(requested)].join("; "),
  };
}
