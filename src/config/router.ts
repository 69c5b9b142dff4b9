/** `router` of the configuration: what is listened on, which requests are routed, and within which bounds. */
import Type from "typebox";
import { EngineAccess, PassedPath, PrefillLeg, StaticEndpoint } from "./engines.ts";
import { KvEvents } from "./events.ts";
import { ExplainPicks } from "./explain.ts";
import { closed, flag, integer, listen, oneOf, text } from "./fields.ts";
import { PickCost, PrefixIndex } from "./pick.ts";
import { PromptTokenizer } from "./tokenizer.ts";

export const Router = Type.Object(
  {
    listen: listen("127.0.0.1:9002", "gRPC address of ext_proc."),
    healthListen: listen("127.0.0.1:9003", "gRPC health service."),
    endpoints: Type.Object(
      {
        static: Type.Array(StaticEndpoint, {
          default: [],
          description: "Engines by address; empty: Pods by label.",
        }),
      },
      { ...closed, description: "Where engines are found." },
    ),
    namespaces: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description: "Namespaces whose Pods are routed to; empty: every one, or every one that has opted in.",
    }),
    inferencePool: Type.String({
      default: "",
      description:
        "InferencePool whose endpoint picker this router is: its members are routed to, and prefill engines of its namespace by label; empty: Pods by label.",
      pattern: "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$",
      accepts: "namespace/name, or empty for none",
    }),
    unknownModels: oneOf(
      ["refuse", "continue"],
      "refuse",
      "What becomes of requests for a model that no endpoint is known to serve: 404, or on to the only service that there is, whose engine decides; 404 where there are several.",
    ),
    replicas: Type.Object(
      {
        listen: listen("", "HTTP address on which other replicas of the router tell of their work."),
        peers: Type.String({
          default: "",
          maxLength: 4096,
          description: "`host:port` of all replicas, as a headless Service resolves it, or several with commas.",
        }),
        tokenFile: Type.String({
          default: "",
          description:
            "File with a token that all replicas share; empty: those are heard whose addresses `router.replicas.peers` resolves to.",
        }),
        readers: Type.String({
          default: "",
          maxLength: 4096,
          description:
            "Names, with commas, whose addresses may ask for statistics beside the replicas', where there is no token: the autoscaler's headless Service.",
        }),
      },
      { ...closed, description: "Other replicas of the router." },
    ),
    callbacks: Type.Object(
      {
        listen: listen(
          "",
          "HTTP address on which decode engines ask for the prefill of their requests (connector mooncake-layerwise); that of `router.replicas.listen` is shared; empty: off, and such prompts are prefilled where they are decoded.",
        ),
        advertise: Type.String({
          default: "",
          pattern: "^(\\[?[0-9a-fA-F:]+\\]?|[A-Za-z0-9.-]{1,253})?$",
          accepts: "an address or a name",
          description: "Address of this replica, and of no other, as decode engines reach it; the Pod's.",
        }),
      },
      { ...closed, description: "Calls of decode engines." },
    ),
    maxBodyBytes: integer(16777216, 1024, 268435456, "Largest request body; 413 above."),
    maxBufferedBytes: integer(134217728, 1048576, 8589934592, "Request bodies held at once; 429 above."),
    bodyTimeoutMs: integer(60000, 100, 3600000, "Time in which a request, with its body, must be here; 408 after it."),
    encodedBodies: oneOf(
      ["refuse", "route"],
      "refuse",
      "Bodies with a content-encoding: 415, or unread to an endpoint by load. An unread body may name transfer hosts.",
    ),
    passthrough: Type.Array(PassedPath, {
      default: [],
      maxItems: 256,
      description: "Paths beside the APIs that are understood; all others are 404.",
    }),
    aliases: Type.Record(Type.String({ minLength: 1, maxLength: 256 }), Type.String({ minLength: 1, maxLength: 256 }), {
      default: {},
      description: "Model names of clients, and what they stand for at the engines; answers name the engines' model.",
    }),
    tenant: Type.Object(
      {
        header: Type.String({
          default: "",
          description: "Header with the tenant, set by the gateway and never by clients; empty: none.",
          pattern: "^[a-z0-9-]*$",
          accepts: "a header name in lower case",
        }),
        pathPrefix: Type.String({
          default: "",
          description: "The path segment after it is the tenant, and both are taken off; without a header only.",
          pattern: "^(/[A-Za-z0-9._~-]+)*/$|^$",
          accepts: "a path that ends in a slash, as /tenants/",
        }),
        saltKeyFile: text(
          "",
          "File with a secret of 32 bytes or more: engines keep the prefix caches of tenants apart; empty: as clients ask.",
        ),
        unsalted: oneOf(
          ["refuse", "route"],
          "refuse",
          "With a key, what becomes of requests in which engines take no cache salt.",
        ),
      },
      { ...closed, description: "Whose a request is." },
    ),
    leaveMs: integer(
      6000,
      0,
      600000,
      "After SIGTERM new streams are served for so long while the health service says that it goes; not where nobody ever asked that.",
    ),
    drainMs: integer(90000, 0, 3600000, "Streams that run are given so long to end after that; then they are cut."),
    maxStreams: integer(2000, 1, 100000, "Concurrent ext_proc streams of one connection."),
    maxConnections: integer(
      1024,
      1,
      65535,
      "Connections of proxies; each of their threads holds one. More are closed.",
    ),
    tls: Type.Object(
      {
        certFile: text("", "PEM of the certificate that ext_proc serves with, and its chain; empty: plain text."),
        keyFile: text("", "PEM of its key."),
        clientCaFile: text("", "PEM of the authorities of proxies' certificates; empty: any proxy is served."),
      },
      { ...closed, description: "TLS of ext_proc. Files are read again while it runs." },
    ),
    maxInflightPerEndpoint: integer(512, 1, 100000, "Requests of one router on one endpoint; 429 when all are full."),
    fallbacks: integer(
      0,
      0,
      8,
      "Endpoints named behind the picked one, for Envoy to go on to; 0 where it takes one only, as ORIGINAL_DST does.",
    ),
    unseenBodies: oneOf(
      ["plain", "any"],
      "plain",
      "Where requests go whose body Envoy does not send whole: to endpoints without a KV connector, or to any. A client's own KV transfer parameters stay in such a body.",
    ),
    scrapeIntervalMs: integer(1000, 50, 60000, "Time between two reads of an engine's metrics."),
    scrapeTimeoutMs: integer(2000, 10, 60000, "Deadline of one such read."),
    hold: Type.Object(
      {
        maxRequests: integer(1000, 0, 100000, "Requests of one model that wait; 503 above. 0: none is held."),
        maxBytes: integer(
          268435456,
          1024,
          8589934592,
          "Bytes of their bodies; those of all models together are half of router.maxBufferedBytes at most.",
        ),
        ttlMs: integer(300000, 100, 3600000, "Time that one waits; 503 after it."),
      },
      {
        ...closed,
        description: "Requests for groups that are scaled to zero, until the autoscaler has started an engine.",
      },
    ),
    explainHeaders: flag(false, "Answers name the endpoints chosen, in x-tandem-* headers."),
    prefill: PrefillLeg,
    engine: EngineAccess,
    cost: PickCost,
    index: PrefixIndex,
    events: KvEvents,
    tokenizer: PromptTokenizer,
    explain: ExplainPicks,
  },
  { ...closed, description: "ext_proc router." },
);
