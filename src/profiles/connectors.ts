/**
 * KV connectors: which two sides can hand KV blocks to each other, and the transfer configuration each role is given.
 *
 * Data and pure functions only. It decides from what both sides declare, never from addresses or load, and what is not
 * known never refuses a pair.
 */
import type { Compatibility, Connector, Role } from "../kinds/endpoint.ts";
import { isObject, type JsonObject } from "../kinds/kube.ts";

/** What a connector is called in `--kv-transfer-config`, and what it needs. */
export interface ConnectorProfile {
  /** `kv_connector`, the class an engine loads. */
  readonly className: string;
  /** Both roles' parallel sizes stand in each role's configuration, so that one must know the other. */
  readonly needsBothSizes: boolean;
  /** First port of the side channel (NIXL) or of the handshake (Mooncake). */
  readonly port: number;
}

/** The connectors whose configuration Tandem writes; others are recognised and left to the user. */
export const CONNECTORS: Readonly<Partial<Record<Connector, ConnectorProfile>>> = {
  // VLLM_NIXL_SIDE_CHANNEL_PORT, one more for each data-parallel rank.
  nixl: { className: "NixlConnector", needsBothSizes: false, port: 5600 },
  // AscendDirectTransport binds at random in [20000, 20000 + 1000 x devices of the node): 36000 is clear of it with 16.
  mooncake: { className: "MooncakeConnectorV1", needsBothSizes: true, port: 36000 },
};

/** Class names found in the field -> connector. */
const CLASS_NAMES: Readonly<Record<string, Connector>> = {
  NixlConnector: "nixl",
  MooncakeConnectorV1: "mooncake",
  MooncakeHybridConnector: "mooncake",
  MooncakeLayerwiseConnector: "mooncake-layerwise",
};

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
  if (prefill.connector !== "mooncake" || p === undefined || d === undefined || p >= d) return undefined;
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

/** What one role's transfer configuration is made of. A WorkloadSpec is one. */
export interface TransferSide {
  readonly connector: Connector;
  readonly parallelism: { readonly tp: number; readonly dp: number };
  /** First port of the handshake; the connector's own when absent. */
  readonly kvPort?: number;
  /** `kv_connector_module_path`, for engine versions that do not register the connector themselves. */
  readonly connectorModule?: string;
}

const KV_ROLE: Readonly<Record<Role, string>> = {
  prefill: "kv_producer",
  decode: "kv_consumer",
  both: "kv_both",
};

/** The part of `--kv-transfer-config` that a role can know alone; undefined where Tandem does not write it. */
function ownPart(role: Role, side: TransferSide): JsonObject | undefined {
  const profile = CONNECTORS[side.connector];
  if (profile === undefined) return undefined;
  const module = side.connectorModule === undefined ? {} : { kv_connector_module_path: side.connectorModule };
  return { kv_connector: profile.className, kv_role: KV_ROLE[role], ...module };
}

/**
 * `--kv-transfer-config` of a connector that needs to know nothing of the other role, as JSON; undefined for others.
 * The format is vLLM's KVTransferConfig.
 */
export function transferConfig(role: Role, side: TransferSide): string | undefined {
  if (CONNECTORS[side.connector]?.needsBothSizes !== false) return undefined;
  return JSON.stringify(ownPart(role, side));
}

/** The configuration of each role, as JSON, for a connector that wants both roles' sizes on both sides. */
export interface TransferConfigs {
  readonly prefill: string;
  readonly decode: string;
}

const sizes = (side: TransferSide): JsonObject => ({ dp_size: side.parallelism.dp, tp_size: side.parallelism.tp });

/**
 * `--kv-transfer-config` of both roles. The same `kv_connector_extra_config` stands in both, because a vLLM-Ascend
 * decoder trusts its own copy of the prefill sizes. No `engine_id`: decoders cache addresses by it, so the engine makes
 * a fresh one for each process.
 */
export function transferConfigs(prefill: TransferSide, decode: TransferSide): TransferConfigs {
  const shared = { prefill: sizes(prefill), decode: sizes(decode) };
  const config = (role: "prefill" | "decode", side: TransferSide): string =>
    JSON.stringify({
      ...ownPart(role, side),
      kv_port: String(side.kvPort ?? CONNECTORS[side.connector]?.port ?? 0),
      kv_connector_extra_config: shared,
    });
  return { prefill: config("prefill", prefill), decode: config("decode", decode) };
}

/** What a user's own `--kv-transfer-config` says, as far as Tandem reads it. */
export interface GivenTransfer {
  readonly connector?: Connector;
  readonly className?: string;
  readonly role?: Role;
  readonly port?: number;
  readonly engineId?: string;
  /** `kv_connector_extra_config`, to compare both roles. */
  readonly extra?: JsonObject;
}

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

const givenRole = (value: unknown): Role | undefined =>
  (Object.keys(KV_ROLE) as Role[]).find((role) => KV_ROLE[role] === value);

const givenPort = (value: unknown): number | undefined => {
  const port = Number(value);
  return value !== undefined && Number.isInteger(port) ? port : undefined;
};

/** Drops what is undefined, so that absent stays absent. */
const present = <T extends object>(value: { [K in keyof T]: T[K] | undefined }): T =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;

/**
 * A MultiConnector's own connectors stand in its extra configuration; the first that transfers is meant. What it leaves
 * out (`engine_id`, `kv_role`) it takes from the outer one.
 */
function meant(config: JsonObject): JsonObject {
  const extra = config["kv_connector_extra_config"];
  const inner = isObject(extra) && Array.isArray(extra["connectors"]) ? extra["connectors"].filter(isObject) : [];
  const found = inner.find((one) => Object.hasOwn(CLASS_NAMES, text(one["kv_connector"]) ?? ""));
  return found === undefined ? config : { engine_id: config["engine_id"], kv_role: config["kv_role"], ...found };
}

/** Reads a user's transfer configuration. A class that Tandem does not know leaves `connector` absent. */
export function readTransfer(given: JsonObject): GivenTransfer {
  const config = meant(given);
  const className = text(config["kv_connector"]);
  const extra = config["kv_connector_extra_config"];
  return present<GivenTransfer>({
    connector: className !== undefined && Object.hasOwn(CLASS_NAMES, className) ? CLASS_NAMES[className] : undefined,
    className,
    role: givenRole(config["kv_role"]),
    port: givenPort(config["kv_port"]),
    engineId: text(config["engine_id"]),
    extra: isObject(extra) ? extra : undefined,
  });
}

/** The connector class of a connector's name, for messages. */
export const roleName = (role: Role): string => KV_ROLE[role];
