/** One pick, as it can be asked for later: what was chosen, among whom, at what price, and what came of it. Never a prompt. */
import type { Verdict } from "../../kinds/verdict.ts";
import type { Forecast } from "../forecast.ts";
import { termsOf, type PickTerms } from "../pick/terms.ts";
import type { Selection } from "../select.ts";

export interface PickRecord {
  /** Of the request, as engines get it: `x-request-id`, made unique. */
  readonly id: string;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly model: string;
  readonly reason: Verdict["reason"];
  readonly message: string;
  readonly decode: string;
  /** The decode endpoint, where prefill ran there. */
  readonly prefill: string;
  readonly expected: Pick<Forecast, "promptTokens" | "cachedTokens" | "whence" | "firstTokenMs">;
  /** Who counted the tokens of the prompt. */
  readonly tokens: "tokenizer" | "engine" | "estimate";
  readonly terms: PickTerms;
  readonly outcome: PickOutcome;
}

/** Filled in as it becomes known; profile `light` tells less. */
export interface PickOutcome {
  promptTokens?: number;
  cachedTokens?: number;
  completionTokens?: number;
  firstTokenMs?: number;
}

/** Rows of each kind: enough to see who was near. */
const ROWS = 10;

/** To be made before anything of the request is counted as load. */
export function recordOf(id: string, at: number, selection: Selection, forecast: Forecast): PickRecord {
  const { pick, input } = selection;
  const { promptTokens, cachedTokens, whence, firstTokenMs } = forecast;
  return {
    ...{ id, at, model: forecast.model },
    reason: pick.verdict.reason,
    message: pick.verdict.message,
    decode: pick.decode.endpoint.name,
    prefill: (pick.prefill[0]?.candidate ?? pick.decode).endpoint.name,
    expected: { promptTokens, cachedTokens, whence, firstTokenMs },
    tokens: forecast.how ?? "estimate",
    terms: termsOf(input, pick, ROWS),
    outcome: {},
  };
}
