/** What the operator lets the workloads of a namespace ask for. */
import Type from "typebox";

const closed = { additionalProperties: false };
const names = (description: string) =>
  Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 253 }), { maxItems: 256, description }));

const Requirement = Type.Object(
  {
    key: Type.String({ minLength: 1 }),
    operator: Type.Enum(["In", "NotIn", "Exists", "DoesNotExist"]),
    values: Type.Optional(Type.Array(Type.String())),
  },
  closed,
);

const NamespaceSelector = Type.Object(
  {
    matchLabels: Type.Optional(Type.Record(Type.String(), Type.String())),
    matchExpressions: Type.Optional(Type.Array(Requirement)),
  },
  {
    ...closed,
    default: {},
    description:
      "Labels of the namespaces that are bound, as a Kubernetes label selector; empty: all. `kubernetes.io/metadata.name` is a namespace's name.",
  },
);

export const PolicyRule = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 253, description: "Named in denials." }),
    namespaceSelector: NamespaceSelector,
    keys: names(
      "The only keys that may be set, as `tandem.sh/queue` or `routing.tandem.sh/*`; `tandem.sh/model` and `tandem.sh/role` always may.",
    ),
    deniedKeys: names("Keys that may not be set."),
    modes: names("Values of `tandem.sh/mode`, the default among them."),
    queues: names("Volcano queues; under Volcano, no queue is the queue `default`."),
    models: names("Values of `tandem.sh/model`."),
    servedModels: names("Model names that requests use, found or declared."),
    accelerators: names("Device profiles; of a device that no profile knows, its resource name."),
    schedulers: names("`schedulerName` of the pods, the default among them."),
    maxAcceleratorsPerPod: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 1024, description: "Most devices of one pod." }),
    ),
  },
  {
    ...closed,
    description: "Bounds for the namespaces that a selector matches. In lists `*` stands for any run of characters.",
  },
);
