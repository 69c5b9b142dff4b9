/** Picks at the admin address: `/debug/requests`, newest first, and `/debug/requests/ID`; and what they are made by. */
import type { Explainer } from "../../router/explain/explainer.ts";
import type { PickRecord } from "../../router/explain/record.ts";
import type { CostConstants } from "../../router/pick/cost.ts";
import type { CostLearner } from "../../router/pick/learn.ts";
import { json, type Pages } from "../../telemetry/server.ts";

const OFF = { error: "picks are not kept: router.explain" };
const GONE = {
  error: "not among the picks that this replica keeps: router.explain.keep, sample and perSecond bound them",
};

export function explainPages(explainer: Explainer | undefined): Pages {
  if (explainer === undefined)
    return { "/debug/requests": () => json(404, OFF), "/debug/requests/": () => json(404, OFF) };
  return {
    "/debug/requests": () => json(200, { requests: explainer.list().map(withoutTerms) }),
    "/debug/requests/": (id) => {
      const record = explainer.find(decoded(id));
      return record === undefined ? json(404, GONE) : json(200, record);
    },
  };
}

/** `/debug/cost`: the constants of the cost as they are configured, and as they are learned of each service. */
export const costPages = (learner: CostLearner | undefined, configured: CostConstants): Pages => ({
  "/debug/cost": () => json(200, { configured, learned: learner?.learned() ?? [] }),
});

/** The list is for finding one's own. */
const withoutTerms = (record: PickRecord): object => ({ ...record, terms: undefined });

/** What is no encoding stands for itself. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
