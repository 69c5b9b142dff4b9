/**
 * The cost of a pick, taken apart: every term of J of every candidate, in milliseconds. For people who ask why; picks are
 * made from the sums, and this is computed from the same input afterwards, for those picks alone that somebody may ask for.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { decodeCost, ownPrefillMs, pinnedCost, prefillCost, requestsOn, transferCost } from "./cost.ts";
import { distanceOf } from "./distance.ts";
import { batchOn, pairs, type Candidate, type Pick as Choice, type PickInput } from "./pick.ts";

/** Prefill on one endpoint. The terms add up to `costMs`. */
export interface PrefillTerms {
  /** Prefill work already there. */
  readonly queueMs: number;
  /** This prompt's uncached part. */
  readonly ownMs: number;
  /** What that part costs others: prefill capacity and somebody's cache. */
  readonly capacityMs: number;
  /** What requests in flight there suffer from it. */
  readonly interferenceMs: number;
  /** What blocks that wait to be fetched add. */
  readonly pinnedMs: number;
  readonly costMs: number;
}

interface Row {
  readonly endpoint: Pick<Endpoint, "name" | "address" | "role">;
  /** Leading prompt tokens that it is thought to hold. */
  readonly cachedTokens: number;
  /** By what that is known. */
  readonly whence: NonNullable<Candidate["whence"]>;
  readonly requests: number;
  readonly chosen: boolean;
}

export interface PrefillRow extends Row {
  readonly prefill: PrefillTerms;
}

export interface DecodeRow extends Row {
  /** Decode steps as long as the batch there makes them. */
  readonly decodeMs: number;
  /** Prefill on this very endpoint. */
  readonly local: PrefillTerms;
  /** Prefill on the cheapest partner; absent where there is none. */
  readonly remote?: { readonly by: string; readonly prefillMs: number; readonly transferMs: number };
  /** `decodeMs` and the way to prefill that counts. */
  readonly costMs: number;
}

export interface PickTerms {
  /** Cheapest first, the chosen one always among them. */
  readonly decode: readonly DecodeRow[];
  readonly prefill: readonly PrefillRow[];
  /** Candidates, of which the rows are the cheapest. */
  readonly candidates: { readonly decode: number; readonly prefill: number };
}

/** @param most rows of each kind */
export function termsOf(input: PickInput, pick: Choice, most: number): PickTerms {
  const prefill = input.prefill.map((candidate) =>
    prefillRow(candidate, candidate === pick.prefill[0]?.candidate, input),
  );
  const priced = input.prefill.map((candidate, index) => ({ candidate, row: prefill[index] as PrefillRow }));
  const decode = input.decode.map((candidate) => decodeRow(candidate, candidate === pick.decode, priced, input));
  return {
    decode: cheapest(decode, ({ costMs }) => costMs, most),
    prefill: cheapest(prefill, ({ prefill: { costMs } }) => costMs, most),
    candidates: { decode: decode.length, prefill: prefill.length },
  };
}

/** The terms of the chosen endpoint alone. */
export function chosenTerms(input: PickInput, pick: Choice): PickTerms {
  const [first] = pick.prefill;
  return termsOf({ ...input, decode: [pick.decode], prefill: first === undefined ? [] : [first.candidate] }, pick, 1);
}

function cheapest<T extends Row>(rows: readonly T[], cost: (row: T) => number, most: number): readonly T[] {
  const sorted = rows.toSorted((a, b) => cost(a) - cost(b));
  const kept = sorted.slice(0, most);
  const chosen = sorted.find((row) => row.chosen);
  return chosen === undefined || kept.includes(chosen) ? kept : [...kept.slice(0, -1), chosen];
}

const endpointOf = ({ name, address, role }: Endpoint): Row["endpoint"] => ({ name, address, role });

function rowOf({ endpoint, load, stats, cachedTokens, whence = "history" }: Candidate, chosen: boolean): Row {
  return { endpoint: endpointOf(endpoint), cachedTokens, whence, requests: requestsOn(load, stats), chosen };
}

const prefillRow = (candidate: Candidate, chosen: boolean, input: PickInput): PrefillRow => ({
  ...rowOf(candidate, chosen),
  prefill: prefillTerms(candidate, input),
});

/** Each term by the same function as in the pick, with what is not asked for at zero. */
function prefillTerms({ endpoint, load, stats, ...known }: Candidate, input: PickInput): PrefillTerms {
  const { constants, promptTokens } = input;
  const ownMs = load.slowness * ownPrefillMs(promptTokens, known.cachedTokens, constants);
  const at = (prefillMs: number, requests: number): number =>
    prefillCost(ownMs, endpoint.role, { prefillMs, requests }, constants);
  const pinnedMs = pinnedCost(ownMs, load.pinnedTokens, known.capacityTokens ?? 0, constants);
  const alone = at(0, 0);
  return {
    queueMs: load.prefillMs,
    ownMs,
    capacityMs: alone - ownMs,
    interferenceMs: at(0, requestsOn(load, stats)) - alone,
    pinnedMs,
    costMs: at(load.prefillMs, requestsOn(load, stats)) + pinnedMs,
  };
}

interface Priced {
  readonly candidate: Candidate;
  readonly row: PrefillRow;
}

function decodeRow(candidate: Candidate, chosen: boolean, priced: readonly Priced[], input: PickInput): DecodeRow {
  const local = prefillTerms(candidate, input);
  const remote = cheapestRemote(candidate.endpoint, priced, input);
  const remoteMs = remote === undefined ? Infinity : remote.prefillMs + remote.transferMs;
  const localMs = input.alone?.(candidate.endpoint) === false ? Infinity : local.costMs;
  const decodeMs = decodeCost(batchOn(candidate), input.outputTokens, input.constants);
  const isRemote = remoteMs < Infinity && (input.policy === "always" || remoteMs < localMs);
  return {
    ...rowOf(candidate, chosen),
    decodeMs,
    local,
    ...(remote === undefined ? {} : { remote }),
    costMs: decodeMs + (isRemote ? remoteMs : localMs),
  };
}

function cheapestRemote(decode: Endpoint, priced: readonly Priced[], input: PickInput): DecodeRow["remote"] {
  let best: DecodeRow["remote"];
  for (const { candidate, row } of priced) {
    if (!pairs(candidate.endpoint, decode, input)) continue;
    const transferMs = transferCost(input.promptTokens, input.constants, distanceOf(candidate.endpoint, decode));
    const prefillMs = row.prefill.costMs;
    if (best === undefined || prefillMs + transferMs < best.prefillMs + best.transferMs)
      best = { by: candidate.endpoint.name, prefillMs, transferMs };
  }
  return best;
}
