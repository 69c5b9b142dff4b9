/** Keys of `autoscaler` that say what it reads: routers, engines, and Prometheus where it is to be asked. */
import Type from "typebox";
import { closed, integer, oneOf, text } from "./fields.ts";

const query = (what: string): ReturnType<typeof text> =>
  text(
    "",
    `PromQL of ${what}. Values of the answer are added up; $namespace, $group and $role (a pattern, for =~) stand for the group; empty: not asked.`,
  );

const Queries = Type.Object(
  {
    requests: query("a counter of requests; needed where there is a url"),
    promptTokens: query("a counter of prompt tokens that were not cached; $role is `prefill|both`"),
    answers: query("a counter of answers; $role is `decode|both` here and below"),
    generatedTokens: query("a counter of the tokens in them"),
    backlogRequests: query("the requests whose prompt waits to be computed"),
    backlogTokens: query("their prompt tokens"),
  },
  {
    ...closed,
    description: "What it is asked of each group. Counters, not rates: the autoscaler takes differences itself.",
  },
);

export const AutoscalerSources = {
  routers: Type.String({
    default: "",
    maxLength: 4096,
    pattern: "^([^,\\s]+:\\d{1,5}(\\s*,\\s*[^,\\s]+:\\d{1,5})*)?$",
    accepts: "host:port, several with commas, or empty for none",
    description:
      "`router.replicas.listen` of all replicas of the router, as a headless Service resolves it, or several with commas.",
  }),
  tokenFile: text(
    "",
    "File with the token of `router.replicas.tokenFile`; empty: routers know the autoscaler by `router.replicas.readers`.",
  ),
  scrapeIntervalMs: integer(5000, 1000, 60000, "Time between two reads of an engine's metrics."),
  scrapeTimeoutMs: integer(1000, 10, 60000, "Deadline of one such read."),
  prometheus: Type.Object(
    {
      url: Type.String({
        default: "",
        maxLength: 2048,
        pattern: "^(https?://[^\\s?#]+)?$",
        accepts: "http://host:port, with a path where it has one, or empty for none",
        description: "Base address of its HTTP API; empty: it is not asked.",
      }),
      tokenFile: text("", "File with a token that it is shown; empty: none."),
      use: oneOf(
        ["fallback", "instead"],
        "fallback",
        "When its answers count: while no replica of the router is heard of a group, or always, and routers' words never.",
      ),
      queries: Queries,
    },
    { ...closed, description: "Prometheus as a source of what groups are asked for." },
  ),
} as const;
