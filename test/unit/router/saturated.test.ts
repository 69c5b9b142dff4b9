/** When every endpoint is full: by this router's own requests it refuses, by what others say alone it does not. */
import t from "tap";
import { Routing } from "../../support/routing.ts";

const IDS = ["static:10.0.0.1:1", "static:10.0.0.2:1"] as const;
const CASES: readonly (readonly [string, readonly [number, number], readonly [number, number], string])[] = [
  ["room everywhere", [0, 1], [0, 0], "10.0.0.1:1"],
  ["one is full by own requests", [3, 2], [0, 0], "10.0.0.2:1"],
  ["one is full by others' words: the other", [0, 0], [3, 0], "10.0.0.2:1"],
  ["all by others' words: the least loaded", [0, 0], [9, 3], "10.0.0.2:1"],
  ["one by own, one by others' words", [0, 3], [9, 0], "10.0.0.1:1"],
  ["all by own requests", [3, 3], [0, 0], "429 Saturated"],
];

for (const [name, own, told, expected] of CASES)
  t.test(`full: ${name}`, async (t) => {
    const routing = new Routing({
      router: { maxInflightPerEndpoint: 3 },
      endpoints: { "10.0.0.1:1": { model: "m" }, "10.0.0.2:1": { model: "m" } },
    });
    for (const [at, id] of IDS.entries()) {
      for (let n = 0; n < (own[at] ?? 0); n++) routing.loads.request(id);
      routing.loads.hear("other", new Map([[id, { inflight: told[at] ?? 0, prefillMs: 0 }]]), false);
    }
    const routed = await routing.route({ path: "/v1/completions", body: { model: "m", prompt: "hello" } });
    t.equal(routed.kind === "forward" ? routed.destination : `${routed.status} ${routed.reason}`, expected);
  });
