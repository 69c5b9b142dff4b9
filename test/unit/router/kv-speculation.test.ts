/** Prompts that were just sent: there at once, gone when no event confirms them, and never back. */
import fc from "fast-check";
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import { createBlockHasher } from "../../../src/router/kv/blocks.ts";
import { EventIndex } from "../../../src/router/kv/events/index.ts";
import { Speculation } from "../../../src/router/kv/events/speculation.ts";
import { HistoryIndex } from "../../../src/router/kv/history.ts";
import { JointIndex } from "../../../src/router/kv/joint.ts";
import { bytesOf } from "../../../src/router/kv/table.ts";
import { LoadBook } from "../../../src/router/load.ts";
import { apiOf } from "../../../src/router/request/apis.ts";
import { isProblem, readFacts } from "../../../src/router/request/facts.ts";
import { isRefused, select, type Selection } from "../../../src/router/select.ts";

const KEEP_MS = 3000;
const PROMPTS = 4;
const SLICE_MS = KEEP_MS / 3;
const keysOf = (prompt: number): Int32Array => Int32Array.of(prompt + 1, 7, prompt + 1, 8);

type Step =
  { do: "send"; prompt: number; endpoint: string } | { do: "wait"; ms: number } | { do: "forget"; endpoint: string };

class Sending {
  #now = 0;
  readonly #sent = new Map<string, number>();
  readonly #speculation = new Speculation(4, KEEP_MS, { now: () => this.#now, monotonic: () => this.#now });

  step(one: Step): void {
    if (one.do === "wait") this.#now += one.ms;
    else if (one.do === "send") {
      this.#speculation.record(one.endpoint, keysOf(one.prompt));
      this.#sent.set(`${one.endpoint}${one.prompt}`, this.#now);
    } else {
      this.#speculation.forget(one.endpoint);
      for (let prompt = 0; prompt < PROMPTS; prompt++) this.#sent.delete(`${one.endpoint}${prompt}`);
    }
  }

  agrees(): boolean {
    const prompts = Array.from({ length: PROMPTS }, (_, prompt) => prompt);
    return ["a", "b"].every((endpoint) => prompts.every((prompt) => this.#isRight(endpoint, prompt)));
  }

  #isRight(endpoint: string, prompt: number): boolean {
    const age = this.#now - (this.#sent.get(`${endpoint}${prompt}`) ?? -Infinity);
    const believed = this.#speculation.match(keysOf(prompt))(endpoint);
    return age <= KEEP_MS ? believed === 2 : age < KEEP_MS + SLICE_MS || believed === 0;
  }
}

t.test("believed for as long as it is to be kept, and never again after a third more, however time passes", (t) => {
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ do: fc.constant("send" as const), prompt: fc.nat(PROMPTS - 1), endpoint: fc.constantFrom("a", "b") }),
    fc.record({ do: fc.constant("wait" as const), ms: fc.oneof(fc.nat(1500), fc.nat(20_000)) }),
    fc.record({ do: fc.constant("forget" as const), endpoint: fc.constantFrom("a", "b") }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const world = new Sending();
      return steps.every((one) => {
        world.step(one);
        return world.agrees();
      });
    }),
    { numRuns: 200 },
  );
  t.end();
});

const TEXT = "word ".repeat(400);
const IDS = Int32Array.from({ length: 640 }, (_, at) => at * 3);

/** Three engines whose events are live and tell of nothing. */
function world(): {
  ask: (wait: number) => Selection;
  send: (selection: Selection) => void;
  cleared: (selection: Selection) => void;
} {
  let now = 0;
  const clock = { now: () => now, monotonic: () => now };
  const entries = [1, 2, 3].map((at) => ({ address: `127.0.0.1:${9100 + at}`, model: "m", role: "both" }));
  const config = loadConfig({ text: JSON.stringify({ router: { endpoints: { static: entries } } }) }).router;
  const known = staticEndpoints(config.endpoints.static).map((endpoint) => ({ endpoint, stats: undefined }));
  const geometry = { slots: 1024, endpoints: 16, rows: 64 };
  const hasher = createBlockHasher();
  const events = new EventIndex({ geometry, hasher, blockTokens: 16, endpoints: 16, speculateMs: KEEP_MS, clock });
  events.attach(new SharedArrayBuffer(bytesOf(geometry)));
  events.sent(
    1,
    known.map(({ endpoint: { id } }) => ({ id, ranks: 1 })),
  );
  const live = { rank: 0, state: "live", cause: "complete", clears: 0, blocks: 0, tiered: false } as const;
  const streams = known.map((_, target) => ({ ...live, target, number: target }));
  events.heard({ version: 1, streams, given: 3, adapters: [] });
  const index = new JointIndex(new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 1000), events);
  const deps = { config, loads: new LoadBook(), clock, index, events: index, hasher, incompatible: () => undefined };
  const api = apiOf("/v1/completions");
  const body = Buffer.from(JSON.stringify({ model: "m", prompt: TEXT, max_tokens: 9 }));
  const rates = { bytesPerToken: 4, mediaTokens: 1024 };
  const asked = { body, headers: [], tenant: "", extent: "whole" } as const;
  const facts = api && readFacts({ aliases: {}, rates, unsalted: "refuse" }, { api, ...asked });
  if (facts === undefined || isProblem(facts)) throw new Error("the request is a good one");
  return {
    ask: (wait) => {
      now += wait;
      const selection = select({ ...deps, directory: { list: () => known } }, facts, {}, { ids: IDS, how: "engine" });
      if (isRefused(selection)) throw new Error(selection.message);
      return selection;
    },
    cleared: ({ pick }) => {
      const target = known.findIndex(({ endpoint }) => endpoint.id === pick.decode.endpoint.id);
      events.heard({ version: 1, streams: [{ ...live, target, number: target, clears: 1 }], given: 3, adapters: [] });
    },
    send: ({ pick, prompt }) => {
      index.record(pick.decode.endpoint.id, prompt.keys);
      deps.loads.request(pick.decode.endpoint.id);
    },
  };
}

t.test("events that are 2 s late: the same prompt goes to the same engine 100 ms later, though none has come", (t) => {
  const { ask, send } = world();
  const first = ask(0);
  t.equal(first.pick.decode.cachedTokens, 0);
  send(first);
  for (const wait of [100, 900, 1000]) {
    const next = ask(wait);
    t.equal(next.pick.decode.endpoint.id, first.pick.decode.endpoint.id);
    t.match(next.pick.decode, { whence: "events", cachedTokens: 639 });
    const others = next.input.decode.filter(({ endpoint }) => endpoint !== next.pick.decode.endpoint);
    t.same(
      others.map(({ cachedTokens }) => cachedTokens),
      [0, 0],
    );
  }
  t.end();
});

t.test("and what no event confirms is believed no more", (t) => {
  for (const wait of [4000, 8000, 8500, 12_000, 16_000]) {
    const { ask, send } = world();
    send(ask(0));
    const later = ask(wait);
    t.same(
      later.input.decode.map(({ cachedTokens }) => cachedTokens),
      [0, 0, 0],
      `after ${wait} ms`,
    );
  }
  t.end();
});

t.test("nor when its engine has cleared its cache, or began anew", (t) => {
  const { ask, send, cleared } = world();
  const first = ask(0);
  send(first);
  cleared(first);
  t.same(
    ask(100).input.decode.map(({ cachedTokens }) => cachedTokens),
    [0, 0, 0],
  );
  t.end();
});
