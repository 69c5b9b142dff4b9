/**
 * KV connectors: what each is on each engine, and which two sides can hand KV blocks to each other.
 *
 * Data and pure functions only. It decides from what both sides declare, never from addresses or load, and what is not
 * known never refuses a pair. The configuration that a role is given is in `transfer.ts`.
 */
import type { Compatibility, Connector } from "../kinds/endpoint.ts";
import type { EngineId, Release } from "./engines.ts";

/**
 * `sequential`: prefill, then decode with what prefill answered. `concurrent`: both at once, they meet by themselves.
 * `decode-first`: decode, which asks for its prefill when it has blocks for it.
 */
export type Legs = "sequential" | "concurrent" | "decode-first";

/**
 * `pull`: parameters of the prefill's answer. `push`: its coordinates, known beforehand. `bootstrap`: a server on the
 * prefill engine that knows a transfer by an id. `room`: the same for SGLang. `metaserver`: a callback of decode.
 */
export type Wire = "pull" | "push" | "bootstrap" | "room" | "metaserver";

/** What a connector is on one engine, and what it needs. */
export interface ConnectorProfile {
  /** `kv_connector`, the class that vLLM loads; empty where the engine has flags of its own instead. */
  readonly className: string;
  /** Both roles' parallel sizes stand in each role's configuration, so that one must know the other. */
  readonly needsBothSizes: boolean;
  /** First port of the side channel (NIXL), the handshake (Mooncake of Ascend) or the bootstrap server. */
  readonly port: number;
  /** Ports from `port` on: one for each data-parallel rank, for each device, or one alone. */
  readonly ports: "rank" | "device" | "one";
  /** Environment that names that port to the engine. */
  readonly portEnv?: string;
  /** Environment that names the address at which the other side reaches it. */
  readonly hostEnv?: string;
  /** Loads blocks asynchronously and reports those that failed, so that `kv_load_failure_policy` has a meaning. */
  readonly reportsFailures?: true;
  /** In which order the router runs the two legs. */
  readonly legs: Legs;
  /** How the legs find each other: what stands in their bodies and headers. */
  readonly wire: Wire;
  /** Milliseconds for which an engine of default settings keeps prefilled blocks that nobody fetches. */
  readonly leaseMs: number;
  /** Its decode engine waits for a prefill and computes no prompt by itself. */
  readonly needsPrefill?: true;
  /** First release of the engine that has it. */
  readonly since: Release;
}

/** AscendDirectTransport binds at random in [20000, 20000 + 1000 x devices of the node): 36000 is clear of it with 16. */
const ASCEND_PORT = 36000;

/** Connector and engine -> profile. A pair that is absent does not exist: no version of that engine has the class. */
const PROFILES: Readonly<Record<Connector, Readonly<Partial<Record<EngineId, ConnectorProfile>>>>> = {
  nixl: {
    vllm: {
      className: "NixlConnector",
      // As the release notes of 0.9.0 and ai-dynamo/dynamo#1345 say.
      since: [9, 0],
      needsBothSizes: false,
      port: 5600,
      ports: "rank",
      portEnv: "VLLM_NIXL_SIDE_CHANNEL_PORT",
      hostEnv: "VLLM_NIXL_SIDE_CHANNEL_HOST",
      reportsFailures: true,
      legs: "sequential",
      wire: "pull",
      // `kv_lease_duration`, which waiting decoders renew; 480 s without renewal before vLLM 0.22.
      leaseMs: 30_000,
    },
  },
  "nixl-push": {
    vllm: {
      className: "NixlPushConnector",
      // After 0.23; older ones do not know the class.
      since: [24, 0],
      needsBothSizes: false,
      port: 5600,
      ports: "rank",
      portEnv: "VLLM_NIXL_SIDE_CHANNEL_PORT",
      hostEnv: "VLLM_NIXL_SIDE_CHANNEL_HOST",
      reportsFailures: true,
      legs: "concurrent",
      wire: "push",
      leaseMs: 30_000,
    },
  },
  mooncake: {
    vllm: {
      className: "MooncakeConnector",
      // vllm#24718; 0.11.2 needed Mooncake's own class still (kvcache-ai/Mooncake#1080).
      since: [13, 0],
      needsBothSizes: false,
      port: 8998,
      ports: "one",
      portEnv: "VLLM_MOONCAKE_BOOTSTRAP_PORT",
      reportsFailures: true,
      legs: "concurrent",
      wire: "bootstrap",
      // `VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT`.
      leaseMs: 480_000,
    },
    "vllm-ascend": {
      className: "MooncakeConnectorV1",
      // vllm-ascend#1568 came with candidates of 0.10; 0.11.0 is the first release that has it.
      since: [11, 0],
      needsBothSizes: true,
      port: ASCEND_PORT,
      ports: "device",
      legs: "sequential",
      wire: "pull",
      // `VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT`.
      leaseMs: 480_000,
    },
  },
  "mooncake-layerwise": {
    "vllm-ascend": {
      className: "MooncakeLayerwiseConnector",
      // In the checklist of its first candidate, vllm-ascend#3927.
      since: [11, 0],
      needsBothSizes: true,
      port: ASCEND_PORT,
      ports: "device",
      legs: "decode-first",
      wire: "metaserver",
      leaseMs: 480_000,
    },
  },
  // `--disaggregation-mode` came with 0.4.5, `--disaggregation-transfer-backend` with 0.4.5.post1 (sglang#5328), as the
  // `server_args.py` of the published wheels say.
  sglang: {
    sglang: {
      className: "",
      since: [4, 6],
      needsBothSizes: false,
      port: 8998,
      ports: "one",
      legs: "concurrent",
      wire: "room",
      // `SGLANG_DISAGGREGATION_WAITING_TIMEOUT`.
      leaseMs: 300_000,
      needsPrefill: true,
    },
  },
  none: {},
};

/** The profile of a connector on an engine; undefined where the engine has no such connector. */
export const connectorProfile = (connector: Connector, engine: EngineId): ConnectorProfile | undefined =>
  PROFILES[connector][engine];

/** The connectors that an engine has, for messages. */
export const connectorsOf = (engine: EngineId): readonly Connector[] =>
  (Object.keys(PROFILES) as Connector[]).filter((connector) => PROFILES[connector][engine] !== undefined);

/** The connector's profile on an engine; where it has none there or the engine is not known, those of all engines. */
const profilesOf = (connector: Connector, engine: string): readonly ConnectorProfile[] => {
  const own = Object.hasOwn(PROFILES[connector], engine) ? PROFILES[connector][engine as EngineId] : undefined;
  return own === undefined ? Object.values(PROFILES[connector]) : [own];
};

/** Whether the router hands KV over with a connector: the one list, for routing and for what admission says of it. */
export const isHandedOver = (connector: Connector, engine: string): boolean => profilesOf(connector, engine).length > 0;

/** How the router runs the legs of a connector; undefined where it is `none`, or none that the engine has. */
export const legsOf = (
  connector: Connector,
  engine: string,
): Pick<ConnectorProfile, "legs" | "wire" | "leaseMs" | "port"> | undefined => profilesOf(connector, engine)[0];

/** Whether a decode engine with the connector prefills prompts that nobody prefilled for it. */
export const prefillsAlone = (connector: Connector, engine: string): boolean =>
  profilesOf(connector, engine).every(({ needsPrefill }) => needsPrefill !== true);

/** Class names that an engine's connectors have, for messages. */
export const classNamesOf = (engine: EngineId): readonly string[] =>
  connectorsOf(engine).flatMap((connector) => PROFILES[connector][engine]?.className || []);

type Rule = (prefill: Compatibility, decode: Compatibility) => string | undefined;

/** Refuses two known and different values; an empty one is not known. */
const sameKnown =
  (what: string, of: (side: Compatibility) => string): Rule =>
  (prefill, decode) => {
    const [a, b] = [of(prefill), of(decode)];
    return a === "" || b === "" || a === b ? undefined : `${what} differs: prefill ${a}, decode ${b}`;
  };

const sameTag: Rule = (prefill, decode) =>
  prefill.tag === decode.tag ? undefined : `tandem.sh/compat differs: prefill "${prefill.tag}", decode "${decode.tag}"`;

const transfers: Rule = (prefill) =>
  prefill.connector === "none" ? "connector none transfers no KV blocks" : undefined;

/** MooncakeConnectorV1 has one decode rank read from whole prefill ranks, so it cannot split a prefill rank's heads. */
const mooncakeSizes: Rule = (prefill, decode) => {
  const [p, d] = [prefill.tensorParallel, decode.tensorParallel];
  const upstream = prefill.engine === "vllm" || decode.engine === "vllm";
  if (prefill.connector !== "mooncake" || upstream || p === undefined || d === undefined || p >= d) return undefined;
  return `mooncake wants tensor parallel size of prefill >= decode: prefill ${p}, decode ${d}`;
};

const RULES: readonly Rule[] = [
  sameTag,
  sameKnown("fabric", (side) => side.fabric),
  sameKnown("connector", (side) => side.connector),
  sameKnown("engine", (side) => side.engine),
  transfers,
  mooncakeSizes,
];

/** Why the two sides cannot hand KV blocks to each other, in words; undefined when they can. */
export function compatible(prefill: Compatibility, decode: Compatibility): string | undefined {
  for (const rule of RULES) {
    const reason = rule(prefill, decode);
    if (reason !== undefined) return reason;
  }
  return undefined;
}
