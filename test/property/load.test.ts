/**
 * Work on endpoints is taken off as it was put on, whatever is learned in between: bytes of a token, speed of an engine,
 * another place. The whole way of requests through the router, in any order.
 */
import fc from "fast-check";
import t from "tap";
import { LoadBook } from "../../src/router/load.ts";
import { TokenRates } from "../../src/router/tokenize/rates.ts";
import type { Ticket } from "../../src/router/exchange.ts";
import { Routing } from "../support/routing.ts";

const ENDPOINTS = { "127.0.0.1:1": { model: "m" }, "127.0.0.1:2": { model: "m" } };
const IDS = Object.keys(ENDPOINTS).map((address) => `static:${address}`);

type Step =
  | { readonly do: "begin"; readonly words: number }
  | {
      readonly do: "served" | "started" | "token" | "usage" | "finish";
      readonly which: number;
      readonly tokens: number;
    }
  | { readonly do: "slow"; readonly which: number; readonly tokens: number };

const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant("begin" as const), words: fc.integer({ min: 1, max: 5000 }) }),
    fc.record({
      do: fc.constantFrom("served", "started", "token", "usage", "finish", "slow"),
      which: fc.nat(10),
      tokens: fc.integer({ min: 1, max: 100_000 }),
    }),
  ),
  { minLength: 5, maxLength: 80 },
) as fc.Arbitrary<readonly Step[]>;

async function happen(routing: Routing, open: Ticket[], step: Step): Promise<void> {
  if (step.do === "begin") {
    const body = Buffer.from(JSON.stringify({ model: "m", stream: true, prompt: "word ".repeat(step.words) }));
    const headers = [["content-type", "application/json"]] as const;
    const { ticket, routed } = routing.router.begin({ method: "POST", path: "/v1/completions", headers, body });
    open.push(ticket);
    await routed;
    return;
  }
  const { which, tokens } = step;
  if (step.do === "slow") routing.loads.slow(IDS[which % 2] ?? "", tokens / 1000);
  const ticket = open[which % Math.max(1, open.length)];
  if (ticket === undefined) return;
  if (step.do === "served") ticket.served(`127.0.0.1:${1 + (which % 2)}`);
  else if (step.do === "started") ticket.responseStarted();
  else if (step.do === "token") ticket.firstToken();
  else if (step.do === "usage") ticket.usage({ promptTokens: tokens, cachedTokens: 0, completionTokens: 9 });
  else if (step.do === "finish") ticket.finish(true);
}

t.test("with the last request nothing is left, to the last digit", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      const routing = new Routing({ endpoints: ENDPOINTS, more: { rates: new TokenRates() } });
      const open: Ticket[] = [];
      for (const step of all) await happen(routing, open, step);
      for (const ticket of open) ticket.finish();
      return IDS.every((id) => {
        const { prefillMs, inflight, contextTokens, pinnedTokens } = routing.loads.of(id);
        return prefillMs === 0 && inflight === 0 && contextTokens === 0 && pinnedTokens === 0;
      });
    }),
    { numRuns: 200 },
  );
});

t.test("while others stay, what one put on is what it takes off", (t) => {
  const work = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(work, fc.nat(), (all, first) => {
      const loads = new LoadBook();
      const releases = all.map((ms) => [ms, loads.prefill("e", ms)] as const);
      const [kept] = releases.splice(first % releases.length, 1);
      for (const [, release] of releases) [release, release].forEach((each) => each());
      return Math.abs(loads.of("e").prefillMs - (kept?.[0] ?? 0)) <= 1e-6;
    }),
  );
  t.end();
});
