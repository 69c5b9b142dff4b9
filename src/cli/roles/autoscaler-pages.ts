/** Decisions at the admin address: `/debug/autoscaler`, the last one on each workload, and `/debug/autoscaler/NAMESPACE%2FKIND%2FNAME`. */
import type { Entry, History } from "../../autoscaler/history.ts";
import { json, type Pages } from "../../telemetry/server.ts";
import { decoded } from "./explain-pages.ts";

const UNKNOWN = { error: "no such workload is scaled; give namespace, kind and name, as chat%2FDeployment%2Fdecode" };

export const autoscalerPages = (history: Pick<History, "last" | "of">): Pages => ({
  "/debug/autoscaler": () => json(200, { workloads: history.last().map(shown) }),
  "/debug/autoscaler/": (id) => {
    const entries = history.of(decoded(id));
    return entries === undefined ? json(404, UNKNOWN) : json(200, { decisions: entries.map(shown) });
  },
});

/** Times as people read them. */
const shown = ({ since, until, ...entry }: Entry): object => ({
  since: new Date(since).toISOString(),
  until: new Date(until).toISOString(),
  ...entry,
});
