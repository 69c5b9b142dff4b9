/** Tokens on the way of a request: asked for where they count, waited for once, and compared with what came. */
import t from "tap";
import type { Metrics } from "../../../../src/ports.ts";
import { HEADER } from "../../../../src/kinds/names.ts";
import type { Ticket } from "../../../../src/router/exchange.ts";
import { TokenRates } from "../../../../src/router/tokenize/rates.ts";
import type {
  CountedPrompt,
  PromptQuery,
  PromptTokenizer,
  PromptTokens,
} from "../../../../src/router/tokenize/tokens.ts";
import { header, Routing, type RoutingOptions } from "../../../support/routing.ts";

const ONE = { "10.0.0.1:80": { model: "m" } };
const BODY = { model: "m", messages: [{ role: "user", content: "x".repeat(4000) }] };

interface Fake extends PromptTokenizer {
  readonly asked: PromptQuery[];
  readonly told: (readonly [CountedPrompt, number])[];
}

function fake(answer: () => Promise<PromptTokens | undefined> | undefined, idle = false): Fake {
  const [asked, told]: [PromptQuery[], (readonly [CountedPrompt, number])[]] = [[], []];
  return {
    ...{ idle, asked, told },
    tokens: (query) => {
      asked.push(query);
      return answer();
    },
    counted: (prompt, promptTokens) => void told.push([prompt, promptTokens]),
  };
}

const costOf = async (options: RoutingOptions): Promise<string> => {
  const { responseHeaders } = await new Routing(options).forward({ body: BODY });
  return header(responseHeaders, HEADER.cost) ?? "";
};

t.test("nothing is asked while nobody can use it; the pick is made in the same turn", async (t) => {
  const idle = fake(() => Promise.reject(new Error("asked")), true);
  const routing = new Routing({ endpoints: ONE, more: { tokenizer: idle } });
  const body = Buffer.from(JSON.stringify(BODY));
  const headers = [["content-type", "application/json"]] as const;
  const { ticket, routed } = routing.router.begin({ method: "POST", path: "/v1/chat/completions", headers, body });
  t.equal(routing.loads.of("static:10.0.0.1:80").inflight, 1, "counted before anything was awaited");
  t.equal((await routed).kind, "forward");
  ticket.finish();
  t.same(idle.asked, []);
});

t.test("tokens are counted, not estimated, where they are here", async (t) => {
  const made: PromptTokens = { ids: new Int32Array(500), how: "tokenizer" };
  const tokenizer = fake(() => Promise.resolve(made));
  const exact = await costOf({ endpoints: ONE, more: { tokenizer } });
  t.match(exact, /;own=50\.25;/, "0.1 ms for each of 500, and attention");
  const [query] = tokenizer.asked;
  t.match(query, { model: "m", endpoints: [[{ endpoint: { address: "10.0.0.1:80" } }], []] });
  const estimated = await costOf({ endpoints: ONE });
  for (const answer of [() => undefined, () => Promise.resolve(undefined)])
    t.equal(await costOf({ endpoints: ONE, more: { tokenizer: fake(answer) } }), estimated, "as without");
});

t.test("a client that goes away while tokens are waited for leaves nothing behind", async (t) => {
  const late = Promise.withResolvers<PromptTokens | undefined>();
  const routing = new Routing({ endpoints: ONE, more: { tokenizer: fake(() => late.promise) } });
  const body = Buffer.from(JSON.stringify(BODY));
  const headers = [["content-type", "application/json"]] as const;
  const { ticket, routed } = routing.router.begin({ method: "POST", path: "/v1/chat/completions", headers, body });
  ticket.finish();
  late.resolve(undefined);
  await routed;
  t.match(routing.loads.of("static:10.0.0.1:80"), { inflight: 0, prefillMs: 0 });
});

function watched() {
  const seen: string[] = [];
  const metrics: Metrics = {
    count: (name, labels, by = 1) => seen.push(`${name} ${JSON.stringify(labels)} ${by}`),
    gauge: () => undefined,
    observe: (name, value) => seen.push(`${name} ${value}`),
  };
  return { seen, metrics };
}

async function answered(routing: Routing, told: (ticket: Ticket) => void): Promise<void> {
  const body = Buffer.from(JSON.stringify(BODY));
  const headers = [["content-type", "application/json"]] as const;
  const { ticket, routed } = routing.router.begin({ method: "POST", path: "/v1/chat/completions", headers, body });
  await routed;
  told(ticket);
  ticket.finish();
}

t.test("what came is compared with what was expected, and taught", async (t) => {
  const { seen, metrics } = watched();
  const made: PromptTokens = { ids: new Int32Array(1000), how: "engine" };
  const tokenizer = fake(() => Promise.resolve(made));
  const rates = new TokenRates();
  const routing = new Routing({ endpoints: ONE, more: { tokenizer, metrics, rates } });
  const tell =
    (cachedTokens: number) =>
    (ticket: Ticket): void =>
      ticket.usage({ promptTokens: 1003, cachedTokens, completionTokens: 1 });
  await answered(routing, tell(0));
  await answered(routing, tell(960));
  await answered(routing, tell(16));
  const forecasts = seen.filter((line) => line.startsWith("tandem_router_cache_forecasts_total"));
  t.same(
    forecasts.map((line) => JSON.parse(line.split(" ")[1] ?? "") as unknown),
    [{ outcome: "right" }, { outcome: "right" }, { outcome: "over" }],
  );
  t.same(
    tokenizer.told.map(([{ tokens, count }, promptTokens]) => [tokens, count, promptTokens]),
    [1, 2, 3].map(() => ["engine", 1000, 1003]),
  );
  const rate = rates.of("m") ?? 0;
  t.ok(rate > 4 && rate < 4.1, `${rate} bytes a token`);
  const learned = new Routing({ endpoints: ONE, more: { rates } });
  const { responseHeaders } = await learned.forward({
    body: { ...BODY, messages: [{ role: "user", content: "y".repeat(8000) }] },
  });
  t.match(header(responseHeaders, HEADER.cost), /;own=20[0-9]/, "two thousand tokens");
});

t.test("images, batches and lists of tokens teach nothing", async (t) => {
  const rates = new TokenRates();
  const routing = new Routing({ endpoints: ONE, more: { rates } });
  const image = [{ role: "user", content: [{ type: "image_url", image_url: { url: "http://x" } }] }];
  const bodies = [
    ["/v1/chat/completions", { model: "m", messages: image }],
    ["/v1/completions", { model: "m", prompt: ["a", "b"] }],
    ["/v1/completions", { model: "m", prompt: [1, 2, 3] }],
  ] as const;
  for (const [path, value] of [...bodies, ...bodies, ...bodies]) {
    const body = Buffer.from(JSON.stringify(value));
    const { ticket, routed } = routing.router.begin({
      method: "POST",
      path,
      headers: [["content-type", "application/json"]],
      body,
    });
    t.equal((await routed).kind, "forward");
    ticket.usage({ promptTokens: 777 });
    ticket.finish();
  }
  t.equal(rates.of("m"), undefined);
});
