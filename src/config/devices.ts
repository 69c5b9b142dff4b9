/**
 * Schema of one device profile: what a device plugin hands out under which name, and what a pod needs beside it.
 *
 * The built-in profiles (`src/profiles/devices/`) and those of `admission.profiles` are values of this one schema.
 */
import Type, { type Static } from "typebox";

const closed = { additionalProperties: false };
const text = (description: string) => Type.String({ default: "", maxLength: 253, description });
const flag = (description: string) => Type.Boolean({ default: false, description });
const counts = (description: string) =>
  Type.Array(Type.Integer({ minimum: 1, maximum: 1024 }), { default: [], maxItems: 1024, description });

const LABEL_KEY = "^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE = "^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$";
/** As a label value, or one that is filled in for each pod. */
const FILLED_VALUE = "^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?|\\{cell\\}|\\{devices\\}|\\{instance\\})?$";
/** Owned by the device plugin: from here it would hand out devices that belong to other pods. */
const VARIABLE = "^(?!ASCEND_VISIBLE_DEVICES$|NVIDIA_VISIBLE_DEVICES$)[A-Za-z_][A-Za-z0-9_]{0,252}$";

const map = (key: string, value: string, description: string) =>
  Type.Record(Type.String(), Type.String({ pattern: value, maxLength: 1024 }), {
    default: {},
    propertyNames: { pattern: key },
    maxProperties: 64,
    accepts: "a map of names to texts",
    description,
  });

const resource = (description: string) =>
  Type.String({
    pattern: "^[a-z0-9][a-z0-9.-]{0,251}/[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\\*?[A-Za-z0-9_.-]{0,62}$",
    maxLength: 317,
    accepts: "an extended resource, as vendor.example/device; * stands for any characters",
    description,
  });

export const CompanionResource = Type.Object(
  {
    resource: resource("Extended resource that goes with the device."),
    amount: Type.String({
      default: "",
      pattern: "^([1-9]\\d{0,15}([KMGTPE]i|[kMGTPE])?)?$",
      accepts: "a Kubernetes quantity, or empty for none",
      description: "Requested beside the devices where it is not; empty: only recognised.",
    }),
    largestPart: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 1e12,
      description:
        "Largest amount, in the unit of the resource, that is part of a device and not the whole. A pod gets parts of one device only. 0: any amount goes with any count.",
    }),
    annotations: map(LABEL_KEY, "", "Annotations of the pod without which the resource means nothing."),
  },
  { ...closed, description: "A resource beside the device: memory or cores of a share." },
);

export const CountRule = Type.Object(
  {
    label: Type.String({
      pattern: LABEL_KEY,
      accepts: "a label key",
      description: "Node label that tells the product, as a node selector or required node affinity names it.",
    }),
    value: Type.String({
      pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\\*?$",
      accepts: "a label value; * at its end stands for any rest",
      description: "Its value.",
    }),
    product: Type.String({ minLength: 1, maxLength: 100, description: "The product, for messages." }),
    counts: counts("Devices that one pod may ask for; empty: any number."),
    perNode: Type.Integer({ minimum: 1, maximum: 1024, description: "Devices of one node." }),
    ring: Type.Integer({
      default: 0,
      minimum: 0,
      maximum: 1024,
      description:
        "Devices of one ring, numbered in a row: a pod that fits a ring gets devices of one, any other whole rings. 0: no rings.",
    }),
    wholeNodes: flag("An instance over several nodes must ask for all devices of each."),
    annotations: map(LABEL_KEY, "", "Annotations of a pod that asks for this product; values as in `annotations`."),
  },
  { ...closed, description: "Which counts of one pod a product hands out." },
);

export const HostMount = Type.Object(
  {
    name: Type.String({
      pattern: "^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$",
      accepts: "a DNS label of at most 52 characters",
      description: "Name of the volume.",
    }),
    path: Type.String({
      pattern: "^/[^:]{1,250}$",
      accepts: "an absolute path",
      description: "Path on the node and in the container, read only.",
    }),
    type: Type.Enum(["File", "Directory"], { default: "Directory", description: "What must be there." }),
    for: Type.Enum(["transfer", "engine"], {
      default: "engine",
      description: "`transfer`: only for an engine that loads a KV connector.",
    }),
  },
  { ...closed, description: "A file or folder of the node that the engine reads." },
);

export const DeviceProfileSchema = Type.Object(
  {
    name: Type.String({
      pattern: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
      accepts: "a DNS label",
      description: "Value of tandem.sh/accelerator. That of a built-in profile replaces it.",
    }),
    resource: resource("Extended resource of the device; one with * is recognised, never added."),
    companions: Type.Array(CompanionResource, {
      default: [],
      maxItems: 16,
      description:
        "Resources beside it. Of profiles with one resource, a request with a companion is that of the profile with it.",
    }),
    vendor: Type.Enum(["nvidia", "ascend", "amd", "intel", "google", "aws", "other"], {
      default: "other",
      description: "Whose device: vLLM-Ascend runs on ascend, and vLLM does not.",
    }),
    fabric: text(
      "Devices that can reach each other's memory: pairs form within one fabric. Empty: the profile's name.",
    ),
    share: flag("A slice of a device, or one handed out to several pods."),
    measures: Type.Enum(["devices", "cores"], {
      default: "devices",
      description: "What the amount counts; of `cores` any amount is one device.",
    }),
    unit: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 1024,
      description: "Devices handed out together: one becomes so many, other counts are multiples.",
    }),
    counts: counts("Devices that one pod may ask for, whatever the product; empty: any number."),
    rules: Type.Array(CountRule, { default: [], maxItems: 256, description: "Counts by product." }),
    allocated: Type.Array(Type.String({ pattern: LABEL_KEY, accepts: "an annotation key" }), {
      default: [],
      maxItems: 8,
      description:
        "Annotations of running pods that tell their devices, as Ascend910-0,Ascend910-3; the first that is there counts.",
    }),
    requestsEqualLimits: flag("The device plugin wants requests written out and equal to limits."),
    runtimeClassName: Type.String({
      default: "",
      pattern: "^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$",
      accepts: "the name of a RuntimeClass, or empty for none",
      description: "RuntimeClass of the pods. The cluster must have it.",
    }),
    nodeSelector: map(LABEL_KEY, LABEL_VALUE, "Node labels that the pods select."),
    labels: map(
      LABEL_KEY,
      FILLED_VALUE,
      "Labels of the pods. `{cell}` stands for the name of the cell's objects, `{devices}` for the devices of the pod, `{instance}` for those of its instance.",
    ),
    annotations: map(LABEL_KEY, "", "Annotations of the pods, with the same words."),
    env: map(VARIABLE, "", "Environment of the engine container."),
    mounts: Type.Array(HostMount, { default: [], maxItems: 32, description: "Files and folders of the node." }),
    podGroup: Type.Enum(["cell", "instance"], {
      default: "cell",
      description: "What one PodGroup of Volcano holds: a scheduler plugin may check whole PodGroups.",
    }),
    scheduler: Type.Enum(["any", "volcano", "webhook"], {
      default: "any",
      description:
        "Who hands out the devices: `any` scheduler; a plugin of `volcano`; one that a `webhook` of the device plugin names, but only on pods that name none.",
    }),
  },
  { ...closed, description: "A device profile." },
);

export type DeviceProfile = Readonly<Static<typeof DeviceProfileSchema>>;
export type CountRule = Static<typeof CountRule>;
export type HostMount = Static<typeof HostMount>;
export type CompanionResource = Static<typeof CompanionResource>;
