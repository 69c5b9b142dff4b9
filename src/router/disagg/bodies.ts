/**
 * Bodies of the two legs, by splicing: nothing is parsed and written again, so that what a client sent reaches both
 * engines byte for byte. Which members a connector adds is its wire's to say (`wires/`).
 */
import type { RequestFacts } from "../request/facts.ts";
import { editBytes, editObject, valueBytes, type Edits } from "../request/edit.ts";
import { scanObject, ScanError, type Scan } from "../request/scan.ts";

/** vLLM's member of a KV transfer. */
export const PARAMS = "kv_transfer_params";

/**
 * Members by which an engine is told of another host or rank: vLLM's, of KV and of an encoder's cache, and SGLang's. Never
 * a client's to set.
 */
const NAMES_HOSTS = [
  PARAMS,
  "ec_transfer_params",
  "bootstrap_host",
  "bootstrap_port",
  "bootstrap_room",
  "bootstrap_pair_key",
  "routed_dp_rank",
  "data_parallel_rank",
  "disagg_prefill_dp_rank",
];
const WITHOUT_HOSTS = NAMES_HOSTS.map((key) => [key, undefined] as const);

const NO_MEMBERS: Edits = new Map();

const has = (facts: RequestFacts, key: string): boolean => facts.scan.members.some((member) => member.key === key);

/** A leg that makes one token and no stream, with the members given. */
export function onlyPrefill(body: Buffer, facts: RequestFacts, members: Edits): Buffer {
  const edits = new Map<string, Uint8Array | string | undefined>([
    ...facts.edits,
    ...WITHOUT_HOSTS,
    ["stream", "false"],
    ["stream_options", undefined],
    ...members,
  ]);
  const limits = legLimits(facts);
  const { within } = facts.api.leg ?? {};
  if (within === undefined) for (const [key, value] of limits) edits.set(key, value);
  else edits.set(within, samplingWith({ body, facts, within }, members, limits));
  return editObject(body, facts.scan, edits);
}

interface Sampling {
  readonly body: Buffer;
  readonly facts: RequestFacts;
  /** The member that holds it. */
  readonly within: string;
}

/**
 * Sampling parameters that are an object, with `limits`, and the transfer among their `extra_args`: up to 0.28 vLLM's
 * API of tokens reads it nowhere else (vllm#42644). A client's own are refused (`request/checks.ts`).
 */
function samplingWith({ body, facts, within }: Sampling, members: Edits, limits: Edits = NO_MEMBERS): Buffer {
  const sampling = memberOf(facts.scan, body, within) ?? EMPTY;
  const params = members.get(PARAMS);
  if (params === undefined) return editBytes(sampling, limits);
  const extra = memberOf(scanObject(sampling), sampling, EXTRA) ?? EMPTY;
  return editBytes(sampling, new Map([...limits, [EXTRA, editBytes(extra, new Map([[PARAMS, params]]))]]));
}

const EMPTY = Buffer.from("{}");
const EXTRA = "extra_args";

/**
 * Most connectors keep what ended by its length alone (`FINISHED_LENGTH_CAPPED`): a prompt whose answer would be empty must
 * not end before its one token, or decode waits for blocks that are gone.
 */
function legLimits(facts: RequestFacts): Map<string, string> {
  const { limit = "max_tokens", limitToo } = facts.api.leg ?? {};
  const limits = new Map([
    [limit, "1"],
    ["min_tokens", "1"],
  ]);
  if (limitToo !== undefined && has(facts, limitToo)) limits.set(limitToo, "1");
  return limits;
}

/** The bytes of an object that is a member; undefined where there is none. */
function memberOf({ members }: Pick<Scan, "members">, body: Buffer, key: string): Buffer | undefined {
  const member = members.find((each) => each.key === key);
  return member === undefined || body[member.start] !== 0x7b ? undefined : valueBytes(body, member);
}

/**
 * The whole request, with the members given; a client's own that name hosts are taken out. Without any the engine
 * prefills by itself. Returns the very same buffer where nothing changes.
 */
export function wholeBody(body: Buffer, facts: RequestFacts, members: Edits = NO_MEMBERS): Buffer {
  const named = NAMES_HOSTS.filter((key) => has(facts, key));
  if (members.size === 0 && named.length === 0 && facts.edits.size === 0) return body;
  const without = named.map((key) => [key, undefined] as const);
  const edits = new Map([...facts.edits, ...without, ...members]);
  const { within } = facts.api.leg ?? {};
  if (within !== undefined && members.has(PARAMS)) edits.set(within, samplingWith({ body, facts, within }, members));
  return editObject(body, facts.scan, edits);
}

export interface PrefillResult {
  /** Opaque: goes into the decode leg as it is. Absent where the engine kept nothing. */
  readonly params: Buffer | undefined;
  /** Of `usage`, as far as the engine reports it. */
  readonly usage: PromptUsage;
}

/** What a prefill engine says of a prompt. */
export interface PromptUsage {
  readonly promptTokens?: number;
  /** `prompt_tokens_details.cached_tokens` */
  readonly cachedTokens?: number;
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
    return { params: isObject(params) ? params : undefined, usage: usageOf(raw("usage")) };
  } catch (error) {
    if (error instanceof ScanError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** The scan has let nothing pass that is no JSON. */
const isObject = (raw: Buffer | undefined): boolean => raw?.[0] === 0x7b;

function usageOf(raw: Buffer | undefined): PromptUsage {
  const value =
    raw === undefined ? undefined : (JSON.parse(raw.toString("utf8")) as Readonly<Record<string, unknown>> | null);
  const details = value?.["prompt_tokens_details"] as { cached_tokens?: unknown } | null | undefined;
  const [prompt, cached] = [value?.["prompt_tokens"], details?.cached_tokens];
  return { ...(isCount(prompt) ? { promptTokens: prompt } : {}), ...(isCount(cached) ? { cachedTokens: cached } : {}) };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
