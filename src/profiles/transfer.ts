/**
 * KV transfer configuration: what Tandem gives each role, and what a user's own says.
 *
 * Data and pure functions only: JSON in, JSON out, in the format of vLLM's KVTransferConfig. Never an `engine_id`: peers
 * cache addresses by it, so that each engine process must make its own.
 */
import type { Connector, Role } from "../kinds/endpoint.ts";
import { isObject, type JsonObject } from "../kinds/kube.ts";
import { connectorProfile } from "./connectors.ts";
import type { EngineId } from "./engines.ts";

/** What one role's transfer configuration is made of. A WorkloadSpec is one. */
export interface TransferSide {
  readonly connector: Connector;
  readonly engine: EngineId;
  readonly parallelism: { readonly tp: number; readonly dp: number; readonly pp?: number };
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
  const profile = connectorProfile(side.connector, side.engine);
  if (profile === undefined || profile.className === "") return undefined;
  const module = side.connectorModule === undefined ? {} : { kv_connector_module_path: side.connectorModule };
  return { kv_connector: profile.className, kv_role: KV_ROLE[role], ...module };
}

/** What the configuration of Tandem adds. */
export interface TransferOptions {
  /** `kv_load_failure_policy`, where the engine's version knows the key. */
  readonly loadFailurePolicy?: "recompute" | "fail" | undefined;
}

/**
 * `--kv-transfer-config` of a connector that needs to know nothing of the other role, as JSON; undefined for others.
 * The format is vLLM's KVTransferConfig.
 */
export function transferConfig(role: Role, side: TransferSide, options: TransferOptions = {}): string | undefined {
  const profile = connectorProfile(side.connector, side.engine);
  const own = ownPart(role, side);
  if (profile === undefined || own === undefined || profile.needsBothSizes) return undefined;
  // A prefill engine loads nothing.
  const loads = role !== "prefill" && profile.reportsFailures === true && options.loadFailurePolicy !== undefined;
  return JSON.stringify({ ...own, ...(loads ? { kv_load_failure_policy: options.loadFailurePolicy } : {}) });
}

/** The configuration of each role, as JSON, for a connector that wants both roles' sizes on both sides. */
export interface TransferConfigs {
  readonly prefill: string;
  readonly decode: string;
}

/** Context parallel sizes travel with each request; the pipeline's counts as 1 where it is absent. */
const sizes = ({ parallelism: { dp, tp, pp } }: TransferSide): JsonObject => ({
  dp_size: dp,
  tp_size: tp,
  ...(pp === undefined || pp === 1 ? {} : { pp_size: pp }),
});

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
      kv_port: String(side.kvPort ?? connectorProfile(side.connector, side.engine)?.port ?? 0),
      kv_connector_extra_config: shared,
    });
  return { prefill: config("prefill", prefill), decode: config("decode", decode) };
}

/** Class names found in the field -> connector. */
const CLASS_NAMES: Readonly<Record<string, Connector>> = {
  NixlConnector: "nixl",
  NixlPullConnector: "nixl",
  NixlPushConnector: "nixl-push",
  MooncakeConnector: "mooncake",
  MooncakeConnectorV1: "mooncake",
  MooncakeHybridConnector: "mooncake",
  MooncakeLayerwiseConnector: "mooncake-layerwise",
};

/** Classes that keep blocks for the engine itself or in a store beside it: they hand nothing from prefill to decode. */
const STORES =
  /^(LMCache|AscendStore|MooncakeConnectorStore|MooncakeStore|Offloading|SimpleCPUOffload|CPUOffloading|UCM)/;

/** What a user's own `--kv-transfer-config` says, as far as Tandem reads it. */
export interface GivenTransfer {
  readonly connector?: Connector;
  readonly className?: string;
  readonly role?: Role;
  readonly port?: number;
  /** SGLang's transfer backend. */
  readonly backend?: string;
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
  const found = inner.find((one) => Object.hasOwn(CLASS_NAMES, text(one["kv_connector"]) ?? "")) ?? inner[0];
  return found === undefined ? config : { engine_id: config["engine_id"], kv_role: config["kv_role"], ...found };
}

/** Reads a user's transfer configuration. A class that Tandem does not know leaves `connector` absent. */
export function readTransfer(given: JsonObject): GivenTransfer {
  const config = meant(given);
  const className = text(config["kv_connector"]);
  const known = className !== undefined && Object.hasOwn(CLASS_NAMES, className) ? CLASS_NAMES[className] : undefined;
  const extra = config["kv_connector_extra_config"];
  return present<GivenTransfer>({
    connector: known ?? (STORES.test(className ?? "") ? "none" : undefined),
    className,
    role: givenRole(config["kv_role"]),
    port: givenPort(config["kv_port"]),
    engineId: text(config["engine_id"]),
    extra: isObject(extra) ? extra : undefined,
  });
}

/** The connector class of a connector's name, for messages. */
export const roleName = (role: Role): string => KV_ROLE[role];

/** SGLang's flags of disaggregation. `--disaggregation-mode null` is its way to say none. */
export const SGLANG_TRANSFER = {
  mode: "--disaggregation-mode",
  backend: "--disaggregation-transfer-backend",
  port: "--disaggregation-bootstrap-port",
} as const;

const SGLANG_ROLE: Readonly<Record<string, Role>> = { prefill: "prefill", decode: "decode" };

/** Reads SGLang's own flags; undefined where none says that it is half of a pair. */
export function readDisaggregation(first: (flag: string) => string | undefined): GivenTransfer | undefined {
  const mode = first(SGLANG_TRANSFER.mode);
  if (mode === undefined || mode === "null") return undefined;
  return present<GivenTransfer>({
    connector: "sglang",
    className: undefined,
    role: Object.hasOwn(SGLANG_ROLE, mode) ? SGLANG_ROLE[mode] : undefined,
    port: givenPort(first(SGLANG_TRANSFER.port)),
    backend: first(SGLANG_TRANSFER.backend),
    engineId: undefined,
    extra: undefined,
  });
}
