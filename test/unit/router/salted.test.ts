/** SGLang's events leave salts out: what a salted prompt meets is known by what was sent, not by them. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import { HEADER } from "../../../src/kinds/names.ts";
import { header, Routing } from "../../support/routing.ts";

const TEXT = "Ships and tides. ".repeat(200);

/** An engine whose events are live, and tell that it holds nothing of any prompt. */
function rig(connector: "sglang" | "nixl"): Routing {
  const entry = { address: "127.0.0.1:1", role: "both", model: "m", connector };
  const { router } = loadConfig({ text: JSON.stringify({ router: { endpoints: { static: [entry] } } }) });
  const known = staticEndpoints(router.endpoints.static).map((endpoint) => ({ endpoint, stats: undefined }));
  const none = Uint32Array.of(0);
  const depths = { live: Uint8Array.of(1), device: none, host: none, shared: none };
  const ids = Int32Array.from({ length: 800 }, (_, at) => at);
  return new Routing({
    endpoints: { "127.0.0.1:1": { model: "m" } },
    more: {
      directory: { list: () => known },
      events: { ofTokens: () => ({ all: () => depths }) },
      tokenizer: {
        idle: false,
        tokens: () => Promise.resolve({ ids, how: "tokenizer" }),
        counted: () => undefined,
      },
    },
  });
}

async function predicted(routing: Routing, more: object): Promise<number> {
  const { responseHeaders } = await routing.forward({
    path: "/v1/completions",
    body: { model: "m", prompt: TEXT, ...more },
  });
  return Number(header(responseHeaders, HEADER.predictedCachedTokens));
}

t.test("a salted prompt that was sent before is expected there, though events never show it", async (t) => {
  for (const [connector, salt, wanted] of [
    ["sglang", "tenant", true],
    ["sglang", undefined, false],
    ["nixl", "tenant", false],
  ] as const) {
    const routing = rig(connector);
    const more = salt === undefined ? {} : { cache_salt: salt };
    t.equal(await predicted(routing, more), 0, "nothing was sent yet");
    t.equal((await predicted(routing, more)) > 500, wanted, `${connector} ${String(salt)}`);
    t.equal(await predicted(routing, { cache_salt: "another" }), 0, "another tenant's is another prompt");
  }
});
