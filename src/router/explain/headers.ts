/** What was chosen and expected, in headers of the answer, for the client who may see it. */
import { HEADER } from "../../kinds/names.ts";
import type { PromptUsage } from "../disagg/bodies.ts";
import type { HeaderList } from "../headers.ts";
import type { PricedPrefill } from "../pick/pick.ts";
import { chosenTerms, type PrefillTerms } from "../pick/terms.ts";
import type { Selection } from "../select.ts";

/** Bounded whatever the numbers: eleven terms of eight digits. */
const MAX_COST_HEADER = 256;

/** The terms of the chosen cost in milliseconds, as `decode=0.2;queue=0;own=12.5;...`. Before the request is counted as load. */
export function costHeader({ input, pick }: Selection): string {
  const { decode, prefill } = chosenTerms(input, pick);
  const [chosen] = decode;
  if (chosen === undefined) return "";
  const partner = prefill.find((row) => row.chosen);
  const terms = {
    total: chosen.costMs,
    ...{ decode: chosen.decodeMs, room: chosen.roomMs },
    transfer: partner === undefined ? 0 : (chosen.remote?.transferMs ?? 0),
    ...named(partner?.prefill ?? chosen.local),
  };
  const text = Object.entries(terms).map(([name, ms]) => `${name}=${Number(ms.toPrecision(4))}`);
  return text.join(";").slice(0, MAX_COST_HEADER);
}

const named = ({ queueMs, ownMs, capacityMs, interferenceMs, ...more }: PrefillTerms): Record<string, number> => ({
  ...{ queue: queueMs, own: ownMs, capacity: capacityMs, interference: interferenceMs },
  ...{ pinned: more.pinnedMs, fetch: more.fetchMs },
});

/** @param by who prefilled elsewhere, and what it said of its cache; undefined where the decode endpoint did itself */
export function explainHeaders(
  { pick }: Selection,
  cost: string,
  by?: { readonly by: PricedPrefill; readonly usage?: PromptUsage },
): HeaderList {
  const told = by?.usage?.cachedTokens;
  const candidate = by?.by.candidate ?? pick.decode;
  return [
    [HEADER.decodeEndpoint, pick.decode.endpoint.address],
    [HEADER.prefillEndpoint, candidate.endpoint.address],
    [HEADER.predictedCachedTokens, String(candidate.cachedTokens)],
    [HEADER.reason, by === undefined ? "LocalPrefill" : "Picked"],
    [HEADER.cost, cost],
    ...(told === undefined ? [] : [[HEADER.cachedTokens, String(told)] as const]),
  ];
}
