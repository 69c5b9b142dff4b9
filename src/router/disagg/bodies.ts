/**
 * Bodies of the two legs, by splicing: the prefill leg generates one token and keeps its KV blocks, the decode leg
 * carries what the prefill engine answered, byte for byte.
 *
 * Formats: vLLM's NixlConnector and vLLM-Ascend's MooncakeConnectorV1 (reference kv-cache-and-pd.md, 5.1 and 5.3).
 */
import type { Connector } from "../../kinds/endpoint.ts";
import type { RequestFacts } from "../request/facts.ts";
import { editBytes, editObject, valueBytes } from "../request/edit.ts";
import { scanObject, ScanError } from "../request/scan.ts";

const PARAMS = "kv_transfer_params";

/** Members by which an engine is told of another host: vLLM's, and SGLang's for its bootstrap. Never a client's to set. */
const NAMES_HOSTS = [PARAMS, "bootstrap_host", "bootstrap_port", "bootstrap_room"];
const WITHOUT_HOSTS = NAMES_HOSTS.map((key) => [key, undefined] as const);

/** Asks the engine to keep the blocks of the prompt for a remote decode. */
const KEEP_FOR_REMOTE = JSON.stringify({
  do_remote_decode: true,
  do_remote_prefill: false,
  remote_engine_id: null,
  remote_block_ids: null,
  remote_host: null,
  remote_port: null,
});

const has = (facts: RequestFacts, key: string): boolean => facts.scan.members.some((member) => member.key === key);

/** The prefill leg: one token, no stream. Mooncake must finish by `length`, which `min_tokens: 1` makes sure of. */
export function prefillBody(body: Buffer, facts: RequestFacts, connector: Connector): Buffer {
  const edits = new Map<string, Uint8Array | string | undefined>([
    ...facts.edits,
    ...WITHOUT_HOSTS,
    ["stream", "false"],
    ["stream_options", undefined],
    [PARAMS, KEEP_FOR_REMOTE],
  ]);
  const { within } = facts.api.leg ?? {};
  const limits = legLimits(facts, connector);
  if (within === undefined) for (const [key, value] of limits) edits.set(key, value);
  else edits.set(within, editBytes(memberOf(facts, body, within) ?? Buffer.from("{}"), limits));
  return editObject(body, facts.scan, edits);
}

function legLimits(facts: RequestFacts, connector: Connector): Map<string, string | undefined> {
  const { limit = "max_tokens", limitToo } = facts.api.leg ?? {};
  const limits = new Map([
    [limit, "1"],
    ["min_tokens", connector === "mooncake" ? "1" : undefined],
  ]);
  if (limitToo !== undefined && has(facts, limitToo)) limits.set(limitToo, "1");
  return limits;
}

/** The bytes of an object that is a member; undefined where there is none. */
function memberOf({ scan }: RequestFacts, body: Buffer, key: string): Buffer | undefined {
  const member = scan.members.find((each) => each.key === key);
  return member === undefined || body[member.start] !== 0x7b ? undefined : valueBytes(body, member);
}

/**
 * The decode leg. Without `params` the engine prefills by itself; a client's own members that name hosts are taken out.
 * Returns the very same buffer where nothing changes.
 */
export function decodeBody(body: Buffer, facts: RequestFacts, params: Buffer | undefined): Buffer {
  const named = NAMES_HOSTS.filter((key) => has(facts, key));
  if (params === undefined && named.length === 0 && facts.edits.size === 0) return body;
  const without = named.map((key) => [key, undefined] as const);
  return editObject(
    body,
    facts.scan,
    new Map([...facts.edits, ...without, ...(params === undefined ? [] : [[PARAMS, params] as const])]),
  );
}

export interface PrefillResult {
  /** Opaque: goes into the decode leg as it is. Absent where the engine kept nothing. */
  readonly params: Buffer | undefined;
  /** `usage.prompt_tokens_details.cached_tokens`, where the engine reports it. */
  readonly cachedTokens: number | undefined;
}

/** Reads the prefill engine's answer; undefined where it is no JSON object. What it says goes on only as valid JSON. */
export function readPrefillResult(body: Buffer): PrefillResult | undefined {
  try {
    const scan = scanObject(body);
    const raw = (key: string): Buffer | undefined => {
      const member = scan.members.find((each) => each.key === key);
      return member === undefined ? undefined : valueBytes(body, member);
    };
    const params = raw(PARAMS);
    return { params: isObject(params) ? params : undefined, cachedTokens: cachedTokens(raw("usage")) };
  } catch (error) {
    if (error instanceof ScanError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The scan has let nothing pass that is no JSON. */
const isObject = (raw: Buffer | undefined): boolean => raw?.[0] === 0x7b;

function cachedTokens(usage: Buffer | undefined): number | undefined {
  const value =
    usage === undefined
      ? undefined
      : (JSON.parse(usage.toString("utf8")) as { prompt_tokens_details?: { cached_tokens?: unknown } | null } | null);
  const cached = value?.prompt_tokens_details?.cached_tokens;
  return Number.isSafeInteger(cached) && (cached as number) >= 0 ? (cached as number) : undefined;
}
