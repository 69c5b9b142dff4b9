/**
 * KV transfer between a prefill and a decode leg: what `kv_transfer_params` ask for, what they answer, and the blocks
 * that a finished prefill leg keeps pinned until somebody pulls them or the lease ends.
 *
 * Formats: vLLM's NixlConnector (pull) and vLLM-Ascend's MooncakeConnectorV1, which share the request and differ in the
 * answer. `remote_host` and `remote_port`, the side channel of the real ones, are here the engine's own HTTP address.
 */
import { isObject } from "../../kinds/kube.ts";
import type { Cancel, Timers } from "../../ports.ts";
import type { EngineCounts } from "./facts.ts";
import type { FinishReason } from "./output.ts";
import type { RemoteSource } from "./sequence.ts";

/** `mooncake`: vLLM-Ascend's MooncakeConnectorV1; `mooncake-bootstrap`: upstream vLLM's MooncakeConnector. */
export type PairConnector = "nixl" | "nixl-push" | "mooncake" | "mooncake-bootstrap" | "mooncake-layerwise" | "sglang";

/** Where the legs meet that know each other by an id alone. */
export interface Meeting {
  readonly id: string;
  /** The prefill leg answers when decode has its KV. */
  readonly awaited?: true;
  /** The blocks go to this engine by themselves. */
  readonly pushTo?: { readonly host: string; readonly port: number };
}

/** `broken`: a decode leg whose parameters are incomplete; the engine warns and computes the prompt itself. */
export type TransferIntent =
  | { readonly kind: "none" | "broken" }
  | { readonly kind: "prefill"; readonly meeting?: Meeting }
  | {
      readonly kind: "decode";
      readonly source: RemoteSource;
      /** Told where this engine is before it waits. */
      readonly metaserver?: string;
    };

/** Longest identifier believed; engine ids are UUIDs, request ids a header of a client. */
export const MAX_ID_LENGTH = 512;

const isId = (value: unknown): value is string =>
  typeof value === "string" && value.length > 0 && value.length <= MAX_ID_LENGTH;

const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) > 0 && Number(value) < 65536;

/** Reads the parameters of a request. vLLM believes any of them; nothing here is an error. */
export function readTransfer(value: unknown): TransferIntent {
  const params = isObject(value) ? value : {};
  if (params["do_remote_prefill"] === true) return readSource(params);
  return { kind: params["do_remote_decode"] === true ? "prefill" : "none" };
}

function readSource(params: Readonly<Record<string, unknown>>): TransferIntent {
  const { remote_engine_id, remote_request_id, remote_host, remote_port, remote_block_ids } = params;
  const isNamed = isId(remote_engine_id) && isId(remote_request_id);
  if (!isNamed || !isId(remote_host) || !isPort(remote_port)) return { kind: "broken" };
  if (!Array.isArray(remote_block_ids) || remote_block_ids.length === 0) return { kind: "broken" };
  const source = { engineId: remote_engine_id, requestId: remote_request_id, host: remote_host, port: remote_port };
  return { kind: "decode", source };
}

const BY_LENGTH_ALONE: readonly PairConnector[] = ["mooncake", "mooncake-bootstrap"];

/**
 * A prefill leg keeps its blocks when it ends as its connector wants: both of Mooncake only by length, NIXL, in newer
 * releases, also by a stop.
 */
export const keepsBlocks = (connector: PairConnector, finish: FinishReason): boolean =>
  finish === "length" || !BY_LENGTH_ALONE.includes(connector);

export interface PrefillResult {
  readonly engineId: string;
  readonly requestId: string;
  readonly host: string;
  readonly port: number;
  readonly blocks: readonly number[];
  readonly tokens: number;
  readonly blockSize: number;
  readonly lastTokenId: number;
  readonly tensorParallel: number;
}

/** What the prefill leg answers; opaque to whoever carries it to the decode leg. */
export const transferParams = (connector: PairConnector, result: PrefillResult): Record<string, unknown> => ({
  do_remote_prefill: true,
  do_remote_decode: false,
  remote_engine_id: result.engineId,
  remote_request_id: result.requestId,
  remote_host: result.host,
  remote_port: result.port,
  ...(connector === "mooncake" ? mooncakeFields(result) : nixlFields(result)),
});

/** Block ids are a list for each group of KV layers; there is one group here. */
const nixlFields = (result: PrefillResult): Record<string, unknown> => ({
  remote_block_ids: [result.blocks],
  tp_size: result.tensorParallel,
  remote_num_tokens: result.tokens,
  remote_blocks_expiry_time: null,
});

const mooncakeFields = (result: PrefillResult): Record<string, unknown> => ({
  remote_block_ids: result.blocks,
  remote_pcp_size: 1,
  remote_dcp_size: 1,
  remote_ptp_size: result.tensorParallel,
  last_token_id: result.lastTokenId,
  remote_multi_nodes_meta_mapping: {},
  num_prompt_blocks: result.blocks.length,
  remote_block_size: result.blockSize,
});

export interface Pin {
  readonly blocks: readonly number[];
  readonly tokens: number;
  readonly digest: number;
  /** Told what became of it. */
  readonly ended?: (pulled: boolean) => void;
}

export type PinCounts = Pick<EngineCounts, "pinsPulled" | "pinsRenewed" | "pinsExpired">;

interface HeldPin extends Pin {
  cancel: Cancel;
}

/** Blocks of finished prefill legs by request id. Each is pulled once, or dropped, or expires with its lease. */
export class Pins {
  readonly #timers: Timers;
  readonly #leaseMs: number;
  readonly #free: (blocks: readonly number[]) => void;
  readonly #counts: PinCounts;
  readonly #pins = new Map<string, HeldPin>();
  /** Releases of pins that are being pulled. */
  readonly #pulling = new Set<Cancel>();

  constructor(timers: Timers, leaseMs: number, free: (blocks: readonly number[]) => void, counts: PinCounts) {
    this.#timers = timers;
    this.#leaseMs = leaseMs;
    this.#free = free;
    this.#counts = counts;
  }

  get size(): number {
    return this.#pins.size;
  }

  hold(requestId: string, pin: Pin): void {
    // Two that give one name to their meeting: the newer stands, as in a dictionary.
    this.drop(requestId);
    this.#pins.set(requestId, { ...pin, cancel: this.#lease(requestId) });
  }

  /** Begins the lease anew, because the decode leg still waits for its turn; false where nothing is pinned. */
  renew(requestId: string): boolean {
    const pin = this.#pins.get(requestId);
    if (pin === undefined) return false;
    this.#counts.pinsRenewed += 1;
    pin.cancel();
    pin.cancel = this.#lease(requestId);
    return true;
  }

  /** Hands a pin over once; its blocks are freed after `transferMs`. Undefined where nothing is pinned. */
  claim(requestId: string, transferMs: number): Pin | undefined {
    const pin = this.#take(requestId);
    if (pin === undefined) return undefined;
    this.#counts.pinsPulled += 1;
    pin.ended?.(true);
    const cancel = this.#timers.after(Math.min(transferMs, this.#leaseMs), () => {
      this.#pulling.delete(cancel);
      this.#free(pin.blocks);
    });
    this.#pulling.add(cancel);
    return pin;
  }

  drop(requestId: string): boolean {
    const pin = this.#take(requestId);
    if (pin !== undefined) this.#free(pin.blocks);
    pin?.ended?.(false);
    return pin !== undefined;
  }

  /** Forgets all without freeing: the cache goes too. */
  stop(): void {
    for (const pin of this.#pins.values()) pin.cancel();
    for (const cancel of this.#pulling) cancel();
    this.#pins.clear();
    this.#pulling.clear();
  }

  #take(requestId: string): HeldPin | undefined {
    const pin = this.#pins.get(requestId);
    pin?.cancel();
    this.#pins.delete(requestId);
    return pin;
  }

  #lease(requestId: string): Cancel {
    return this.#timers.after(this.#leaseMs, () => {
      this.#counts.pinsExpired += 1;
      this.drop(requestId);
    });
  }
}
