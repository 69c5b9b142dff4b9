/**
 * What a request asks of KV transfer, by the connector of the engine that reads it: `kv_transfer_params` of vLLM's
 * connectors, a bootstrap room of SGLang's.
 *
 * Pulled transfers name everything; the others name a meeting: an id under which the prefill engine keeps the blocks, and
 * for which the decode engine waits. Formats: reference kv-cache-and-pd.md, section 5.
 */
import { isObject } from "../../kinds/kube.ts";
import { WireError, type Body } from "./fields.ts";
import type { RemoteSource } from "./sequence.ts";
import { MAX_ID_LENGTH, readTransfer, type PairConnector, type TransferIntent } from "./transfer.ts";

interface Reader {
  readonly connector: PairConnector;
  readonly role: "prefill" | "decode" | "both";
  /** The caller's id of the request, without the engine's own suffix. */
  readonly id: string;
}

type Params = Readonly<Record<string, unknown>>;

const isId = (value: unknown): value is string =>
  typeof value === "string" && value.length > 0 && value.length <= MAX_ID_LENGTH;

const MEETINGS: Readonly<Record<PairConnector, (body: Body, reader: Reader) => TransferIntent>> = {
  nixl: (body) => readTransfer(body["kv_transfer_params"]),
  mooncake: (body) => readTransfer(body["kv_transfer_params"]),
  "nixl-push": (body, { id }) => pushed(paramsOf(body), id),
  "mooncake-bootstrap": (body) => bootstrapped(paramsOf(body)),
  "mooncake-layerwise": (body, { id }) => layerwise(paramsOf(body), id),
  sglang: inRoom,
};

/** Throws WireError where the engine refuses. */
export const readIntent = (body: Body, reader: Reader): TransferIntent => MEETINGS[reader.connector](body, reader);

const paramsOf = (body: Body): Params => {
  const params = body["kv_transfer_params"];
  return isObject(params) ? params : {};
};

/** The prefill engine stages blocks under the id of the request; decode registers with it under the same. */
function pushed(params: Params, id: string): TransferIntent {
  if (params["do_remote_prefill"] !== true)
    return params["do_remote_decode"] === true ? { kind: "prefill", meeting: { id } } : { kind: "none" };
  const { remote_engine_id: engineId, remote_host: host, remote_port: port } = params;
  if (!isId(engineId) || !isId(host) || !Number.isInteger(port)) return { kind: "broken" };
  return { kind: "decode", source: { engineId, requestId: id, host, port: Number(port), waits: true } };
}

/** Both legs name a transfer; decode finds the engine by its bootstrap server. */
function bootstrapped(params: Params): TransferIntent {
  const { transfer_id: id, remote_engine_id: engineId, remote_bootstrap_addr: address } = params;
  if (params["do_remote_prefill"] !== true)
    return params["do_remote_decode"] === true && isId(id) ? { kind: "prefill", meeting: { id } } : { kind: "none" };
  if (!isId(id) || !isId(engineId) || !isId(address) || !URL.canParse(address)) return { kind: "broken" };
  const { hostname, port } = new URL(address);
  const host = hostname.replace(/^\[|\]$/g, "");
  return { kind: "decode", source: { engineId, requestId: id, host, port: Number(port), waits: true } };
}

/** Decode asks the router for its prefill, which then comes to it by itself. */
function layerwise(params: Params, id: string): TransferIntent {
  const { metaserver, remote_host: host, remote_port: port } = params;
  if (params["do_remote_prefill"] === true)
    return isId(metaserver) ? { kind: "decode", source: { ...HERE, requestId: id }, metaserver } : { kind: "broken" };
  if (params["do_remote_decode"] !== true) return { kind: "none" };
  if (!isId(host) || !Number.isInteger(port)) return { kind: "broken" };
  return { kind: "prefill", meeting: { id, pushTo: { host, port: Number(port) } } };
}

/** Comes by itself. */
const HERE = { engineId: "", host: "", port: 0, waits: true } as const;

const ROOM_NEEDED = new WireError(
  400,
  "BadRequestError",
  "Disaggregated request received without bootstrap room id",
  "bootstrap_room",
);

/** SGLang: an engine that is half of a pair serves nothing without a room. A batch has its first room here. */
function inRoom(body: Body, { role }: Reader): TransferIntent {
  const [host, port, room] = ["bootstrap_host", "bootstrap_port", "bootstrap_room"].map((key) => body[key]);
  if (role === "both") return { kind: "none" };
  if (!Number.isSafeInteger(room) || !isId(host) || !Number.isInteger(port)) throw ROOM_NEEDED;
  const id = `room-${Number(room)}`;
  if (role === "prefill") return { kind: "prefill", meeting: { id, awaited: true } };
  const source: RemoteSource = {
    engineId: "",
    requestId: id,
    host: host.replace(/^\[|\]$/g, ""),
    port: Number(port),
    waits: true,
  };
  return { kind: "decode", source };
}
