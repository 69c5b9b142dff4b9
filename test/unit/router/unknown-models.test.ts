/** What becomes of a request for a model that nobody is known to serve, by `router.unknownModels`. */
import t from "tap";
import { Routing, type RoutingOptions } from "../../support/routing.ts";

const ONE: RoutingOptions["endpoints"] = {
  "10.0.0.1:1": { model: "m" },
  "10.0.0.2:1": { role: "prefill", model: "m" },
};
const TWO: RoutingOptions["endpoints"] = { ...ONE, "10.0.0.3:1": { model: "other" } };
const CASES: readonly (readonly [string, object, RoutingOptions["endpoints"], string, string])[] = [
  ["refused by default", {}, ONE, "none", "404 ModelUnknown"],
  ["the engines of the only service decide", { unknownModels: "continue" }, ONE, "none", "10.0.0.1:1"],
  ["with several services nobody can", { unknownModels: "continue" }, TWO, "none", "404 ModelUnknown"],
  ["a known model is unaffected", { unknownModels: "continue" }, TWO, "other", "10.0.0.3:1"],
];

for (const [name, router, endpoints, model, expected] of CASES)
  t.test(`unknown models: ${name}`, async (t) => {
    const routed = await new Routing({ router, endpoints }).route({
      path: "/v1/completions",
      body: { model, prompt: "hello", max_tokens: 4 },
    });
    t.equal(routed.kind === "forward" ? routed.destination : `${routed.status} ${routed.reason}`, expected);
  });
