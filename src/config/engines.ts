/** Engines in the configuration: where they are, what is asked of them, and how they are spoken to. */
import Type from "typebox";
import { closed, integer, oneOf, PORT, text } from "./fields.ts";

export const StaticEndpoint = Type.Object(
  {
    address: Type.String({
      description: "ip:port of the engine's API server.",
      pattern: `^(\\[[0-9a-fA-F:]+\\]|[^:\\s]+):${PORT}$`,
      accepts: "ip:port",
    }),
    role: oneOf(["prefill", "decode", "both"], "both", "What the endpoint may be used for."),
    model: Type.String({ description: "Handle of the service, as the label tandem.sh/model.", minLength: 1 }),
    served: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description: "Model names that requests may use, beside those that /v1/models lists.",
    }),
    group: text("", "Unit of pairing; default: the model."),
    cell: text("0", "Unit of gang and topology."),
    connector: oneOf(
      ["nixl", "nixl-push", "mooncake", "mooncake-layerwise", "sglang", "none"],
      "nixl",
      "How KV blocks travel.",
    ),
    engine: oneOf(
      ["", "vllm", "vllm-ascend", "sglang"],
      "",
      "The engine; empty: the one that its connector belongs to, vllm-ascend for mooncake.",
    ),
    kvPort: integer(0, 0, 65535, "First port of the connector; 0: the connector's own."),
    ranks: integer(1, 1, 1024, "Data-parallel ranks behind the address."),
    eventsPort: integer(0, 0, 65535, "Port of its KV events, of the first rank; 0: not known."),
    replayPort: integer(0, 0, 65535, "Port at which it sends KV events again, of the first rank; 0: none."),
    prefillRunner: oneOf(["router", "sidecar"], "router", "Who runs the prefill leg of requests that it decodes."),
    domains: Type.Array(Type.String(), {
      default: [],
      maxItems: 16,
      description: "What the engine lies in, the widest first and its node last; by which distances are told.",
    }),
    fabric: text("", "Endpoints of different fabrics never pair."),
    compat: text("", "Endpoints with different values never pair."),
  },
  { ...closed, description: "An engine named in the configuration instead of discovered by label." },
);

export const PassedPath = Type.Object(
  {
    path: Type.String({
      description: "The whole path, without a query.",
      pattern: "^/[^?#\\s]{1,255}$",
      accepts: "a path as /v1/audio/transcriptions",
    }),
    methods: Type.Array(Type.Enum(["GET", "POST", "PUT", "DELETE"]), {
      default: ["POST"],
      minItems: 1,
      description: "Methods that are accepted.",
    }),
  },
  { ...closed, description: "A path that is passed to an engine of the model without being looked into." },
);

/** Prefill leg. */
export const PrefillLeg = Type.Object(
  {
    timeoutMs: integer(60000, 100, 3600000, "Deadline of one prefill leg."),
    policy: oneOf(
      ["cost", "always"],
      "cost",
      "Remote prefill where it costs less, or wherever an endpoint is to be had.",
    ),
    leaseMs: integer(
      0,
      0,
      3600000,
      "How long blocks that no decode engine fetched count as pinned on their prefill engine; 0: as its connector keeps them.",
    ),
    attempts: integer(3, 1, 10, "Prefill endpoints tried while connections are refused."),
    headers: Type.Array(
      Type.String({ pattern: "^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$", accepts: "a header name in lower case" }),
      {
        default: ["authorization", "traceparent", "tracestate"],
        maxItems: 64,
        description:
          "Client headers that go along on the prefill leg. Never those that route, frame the message or are the router's.",
      },
    ),
  },
  { ...closed, description: "Prefill leg." },
);

/** Towards engines. */
export const EngineAccess = Type.Object(
  {
    scheme: oneOf(["http", "https"], "http", "How engines are reached: the prefill leg, and scraping."),
    caFile: text("", "PEM of the authorities that sign engines' certificates; empty: those of the system."),
    serverName: Type.String({
      default: "",
      pattern: "^[A-Za-z0-9.-]{0,253}$",
      accepts: "a DNS name, or empty",
      description: "Name that engines' certificates must carry; empty: the address of each.",
    }),
    certFile: text("", "PEM certificate that the router shows to engines; with keyFile."),
    keyFile: text("", "PEM key of that certificate."),
    tokenFile: text("", "File with a token or API key for engines, in the place of the client's; empty: none."),
    tokenHeader: Type.String({
      default: "authorization",
      pattern: "^[a-z0-9-]{1,128}$",
      accepts: "a header name in lower case",
      description: "Header of the token: `Bearer` and the token in authorization, the token alone in another.",
    }),
  },
  { ...closed, description: "Towards engines. Files are read again when they change." },
);
