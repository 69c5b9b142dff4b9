/**
 * The one schema of the configuration: types, defaults, validation and `docs/reference/configuration.md` come from it.
 *
 * Every key has a default, so an empty file is a valid configuration. Unknown keys are errors. Durations carry their
 * unit in the name; sizes are bytes.
 */
import Type, { type Static } from "typebox";
import { Autoscaler } from "./autoscaler.ts";
import { DeviceProfileSchema } from "./devices.ts";
import type { StaticEndpoint } from "./engines.ts";
import { closed, flag, integer, listen, oneOf, quantity, text } from "./fields.ts";
import { PolicyRule } from "./policy.ts";
import { Router } from "./router.ts";

export const ConfigSchema = Type.Object(
  {
    cluster: Type.Object(
      {
        kubeconfig: text("", "Path of a kubeconfig; empty: $KUBECONFIG, the service account, or ~/.kube/config."),
        namespace: text("", "Only this namespace is watched; empty: all."),
        requestTimeoutMs: integer(10000, 100, 60000, "Deadline of one call to the API server."),
      },
      { ...closed, description: "The Kubernetes API server." },
    ),
    admission: Type.Object(
      {
        listen: listen("127.0.0.1:9443", "HTTPS address of the webhooks and of the scheduler extender."),
        target: oneOf(["split", "pod"], "split", "Where injection happens: workload and Pod, or the Pod alone."),
        defaultProfile: text("nvidia", "Device profile of a workload that names and requests none."),
        profiles: Type.Array(DeviceProfileSchema, {
          default: [],
          maxItems: 256,
          description: "Device profiles beside the built-in ones; one of the same name replaces it.",
        }),
        rdma: Type.Object(
          {
            resource: Type.String({
              default: "",
              pattern: "^([a-z0-9][a-z0-9.-]{0,251}/[A-Za-z0-9][A-Za-z0-9_.-]{0,62})?$",
              accepts: "an extended resource, as rdma/roce_gdr, or empty for none",
              description: "Asked for by engines that transfer KV over NIXL or Mooncake and ask for none themselves.",
            }),
            count: integer(1, 1, 1024, "How many of it."),
            lockMemory: flag(true, "The engine container gets the capability IPC_LOCK, to register memory."),
          },
          { ...closed, description: "RDMA of the nodes; Ascend devices bring their own network." },
        ),
        strict: flag(false, "Group checks deny instead of warn."),
        denyContestedAutoscalers: flag(
          false,
          "A workload that Tandem scales and another autoscaler scales, too, is denied instead of warned about.",
        ),
        gates: oneOf(
          ["auto", "off"],
          "auto",
          "Pods of a gang wait behind a gate until there is room for all: under every scheduler but Volcano, which holds gangs itself; or never.",
        ),
        optIn: Type.String({
          default: "",
          description: "Label that a namespace must carry for Tandem to act in it; empty: it acts in all.",
          pattern: "^([A-Za-z0-9][A-Za-z0-9_./-]*(=[A-Za-z0-9_.-]*)?)?$",
          accepts: "a label as tandem.sh/enabled=true, or its key alone",
        }),
        policy: Type.Array(PolicyRule, {
          default: [],
          maxItems: 256,
          description:
            "What namespaces may ask for. Every rule whose selector matches binds: a further rule only narrows.",
        }),
        certificates: Type.Object(
          {
            directory: text("", "Folder with tls.crt and tls.key; empty: the controller's Secret."),
            secret: text(
              "tandem-webhook-tls",
              "Secret with the certificate made by the controller; its authority lies in another, with -authority added.",
            ),
            issuer: oneOf(
              ["tandem", "external"],
              "tandem",
              "Who makes the Secret and the caBundle: the controller, or somebody else, as cert-manager.",
            ),
          },
          { ...closed, description: "Serving certificates." },
        ),
        clientCa: text("", "File with the authorities of accepted client certificates, PEM; empty: any caller."),
        clientName: text("", "Common name that a client certificate must carry; empty: any that clientCa signed."),
        drainMs: integer(4000, 0, 25000, "Webhooks and extender go on answering for so long after SIGTERM."),
        maxBodyBytes: integer(7340032, 65536, 67108864, "Largest AdmissionReview (old and new object together)."),
        sharedMemory: quantity("16Gi", "Size limit of the /dev/shm volume given to engines that have none."),
        kvLoadFailurePolicy: oneOf(
          ["recompute", "fail", "engine"],
          "recompute",
          "What a decode engine does when KV blocks do not arrive: prefill them itself, fail the request, or its default.",
        ),
        kvEvents: Type.Object(
          {
            enabled: flag(true, "Engines are told to publish KV events."),
            first: integer(
              5557,
              1024,
              65000,
              "Port of data-parallel rank 0, followed by those of the others; moved on where another is in the way.",
            ),
          },
          { ...closed, description: "KV events of engines, which the exact prefix index is fed by." },
        ),
        probes: Type.Object(
          {
            startupSeconds: integer(3600, 0, 86400, "Time an engine is given to load its model; 0: no probes at all."),
            livenessSeconds: integer(300, 0, 86400, "A started engine that stays silent so long is killed; 0: never."),
          },
          { ...closed, description: "Probes of engine containers that have none of their own." },
        ),
        drain: Type.Object(
          {
            seconds: integer(
              30,
              0,
              3600,
              "A deleted engine goes on serving for so long before it gets SIGTERM; 0: off.",
            ),
            graceSeconds: integer(
              330,
              0,
              86400,
              "Termination grace of engine pods that have the default of 30: the longest request, the drain included; 0: left.",
            ),
          },
          { ...closed, description: "How engine pods end." },
        ),
        networkInterface: text("eth0", "Network interface that HCCL, Gloo and NCCL are told to use."),
      },
      { ...closed, description: "Webhooks." },
    ),
    extender: Type.Object(
      {
        timeoutMs: integer(500, 10, 10000, "Deadline of one call; keep it at half of the scheduler's httpTimeout."),
        shortlist: flag(
          true,
          "Answer filter for a pod of ours with its planned nodes alone, where any of them takes it; switch it off where another extender comes behind this one.",
        ),
        bind: flag(false, "Serve `bind`, too; needs the right to create pods/binding and to get pods."),
        maxBodyBytes: integer(8388608, 65536, 67108864, "Largest call."),
        volcanoListen: listen(
          "",
          "Plain HTTP address for Volcano's extender plugin, usually of port 9444; it asks nobody who calls, for the plugin has no authority and no token: let only Volcano's scheduler reach it.",
        ),
      },
      { ...closed, description: "kube-scheduler extender." },
    ),
    topology: Type.Object(
      {
        source: oneOf(
          ["hypernodes", "labels", "none"],
          "hypernodes",
          "Where the tree of domains comes from; labels stand in while there are no HyperNodes.",
        ),
        preset: oneOf(
          [
            "",
            "volcano",
            "topograph",
            "topograph-0.3",
            "topograph-0.1",
            "nvidia",
            "mindcluster",
            "aws",
            "gcp",
            "oci",
            "zones",
          ],
          "",
          "Whose node labels make the levels, where `levels` names none.",
        ),
        levels: Type.Array(Type.String({ minLength: 1, maxLength: 317 }), {
          default: [],
          maxItems: 16,
          description: "Node labels from the closest domain to the widest.",
        }),
      },
      { ...closed, description: "Network topology." },
    ),
    gang: Type.Object(
      {
        bindSeconds: integer(
          60,
          1,
          3600,
          "How long pods that were let go may fail to be bound before they are taken back.",
        ),
        liftAfterSeconds: integer(
          600,
          0,
          86400,
          "After so long without room a gang is let go without a place, so that a node autoscaler sees it; 0: never.",
        ),
      },
      { ...closed, description: "Gangs behind scheduling gates." },
    ),
    controller: Type.Object(
      {
        namespace: text("tandem-system", "Namespace of Tandem's own Secret, Lease and Service."),
        service: text("tandem-webhook", "Service in front of the webhooks; its DNS names go into the certificate."),
        alternativeNames: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          description: "Further DNS names and addresses of the webhooks, for the certificate.",
        }),
        webhookConfiguration: text("tandem", "Name of the webhook configurations whose caBundle is kept."),
        lease: text("tandem-controller", "Lease of the acting replica; empty: always act."),
        resyncMs: integer(30000, 1000, 600000, "Longest time between two passes."),
        recovery: Type.Object(
          {
            minAgeMs: integer(
              60000,
              0,
              3600000,
              "Age of an instance that never was ready, before it is replaced because a member restarted.",
            ),
            stalledMs: integer(
              120000,
              1000,
              3600000,
              "Time that a member of an instance which was ready has to be ready again.",
            ),
          },
          {
            ...closed,
            description: "Replacing an instance over several pods of which a member restarts, or is ready no more.",
          },
        ),
        instancePorts: Type.Object(
          {
            // Below Linux's ephemeral ports, and below those that Mooncake's direct transport binds at random.
            first: integer(14000, 1024, 65000, "First port of the first block."),
            size: integer(64, 1, 4096, "Ports of a block."),
            count: integer(93, 1, 1024, "Blocks: instances on the host's network that there may be at once."),
          },
          { ...closed, description: "Ports given to instances over several pods on the host's network." },
        ),
      },
      { ...closed, description: "Controller." },
    ),
    router: Router,
    autoscaler: Autoscaler,
    metrics: Type.Object(
      { listen: listen("127.0.0.1:9090", "HTTP address of /metrics.") },
      { ...closed, description: "Metrics." },
    ),
    admin: Type.Object(
      { listen: listen("127.0.0.1:8081", "HTTP address of /livez, /readyz and /debug.") },
      { ...closed, description: "Probes and admin API." },
    ),
    log: Type.Object(
      { level: oneOf(["debug", "info", "warn", "error"], "info", "Least severe line that is written.") },
      { ...closed, description: "Log." },
    ),
  },
  { ...closed, description: "Configuration of Tandem." },
);

export type Config = Static<typeof ConfigSchema>;
export type StaticEndpointConfig = Static<typeof StaticEndpoint>;
export type PolicyRule = Static<typeof PolicyRule>;
