/** What the end of one try of a prefill leg comes to: load, lessons, endpoints left alone, engines forgotten, blocks kept. */
import t from "tap";
import type { Endpoint } from "../../../src/kinds/endpoint.ts";
import type { EngineReply } from "../../../src/ports.ts";
import { LegAccount, type AccountDependencies } from "../../../src/router/account.ts";
import { leaseOf } from "../../../src/router/disagg/connectors.ts";
import type { Meaning } from "../../../src/router/disagg/leg.ts";
import { LegHolds } from "../../../src/router/holds.ts";
import { LoadBook } from "../../../src/router/load.ts";
import type { PricedPrefill } from "../../../src/router/pick/pick.ts";
import { SHUN_MS } from "../../../src/router/placement.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";

const endpoint = {
  ...{ id: "p", name: "p", namespace: "n", service: "s", address: "p:80", role: "prefill" },
  compatibility: { connector: "nixl", engine: "vllm", tag: "", fabric: "" },
} as unknown as Endpoint;
const priced = { candidate: { endpoint, cachedTokens: 200 }, ownMs: 90 } as unknown as PricedPrefill;
const PROMPT = { keys: {} as never, tokens: 1000 };
const REPLY: EngineReply = { kind: "answer", status: 200, headers: {}, body: Buffer.from("{}") };

function rig(leaseMs = 30_000) {
  const time = new VirtualTime(1000);
  const loads = new LoadBook();
  const [lessons, forgotten]: [Record<string, unknown>[], string[]] = [[], []];
  const deps = {
    ...{ loads, clock: time, timers: time, metrics: NO_METRICS, log: SILENT_LOG },
    ...{ config: { prefill: { leaseMs } }, index: { record: () => undefined } },
    learner: { prefilled: (seen: Record<string, unknown>) => void lessons.push(seen) },
    peers: { forget: ({ id }: Endpoint) => void forgotten.push(id), hear: () => undefined },
  } as unknown as AccountDependencies;
  const holds = new LegHolds(deps);
  const account = new LegAccount(deps, holds, () => undefined);
  return { time, loads, lessons, forgotten, holds, account };
}

t.test("a try is work there until it ends, and what it took is a lesson unless decode went first", (t) => {
  for (const late of [false, true]) {
    const { time, loads, lessons, account } = rig();
    loads.prefill("p", 15);
    const over = account.begin(priced, PROMPT);
    t.match(loads.of("p"), { prefillMs: 105, inflight: 1 });
    loads.prefill("p", 7);
    time.advance(130);
    over("done", late, REPLY);
    t.match(loads.of("p"), { prefillMs: 22, inflight: 0 });
    const lesson = { service: "n/s", endpoint: "p", freshTokens: 800, cachedTokens: 200, ownMs: 90, ms: 130 };
    t.same(lessons, late ? [] : [{ ...lesson, othersMs: 22 }]);
  }
  t.end();
});

t.test("ends that are none: who is left alone, and of whom nothing is known any more", (t) => {
  for (const [outcome, late, shunned, forgets] of [
    ["untouched", false, true, true],
    ["lost", false, false, true],
    ["refusal", false, false, false],
    ["aborted", false, false, false],
    ["lost", true, true, true],
    ["aborted", true, false, false],
  ] as const satisfies readonly (readonly [Meaning, boolean, boolean, boolean])[]) {
    const { time, loads, lessons, forgotten, account } = rig();
    account.begin(priced, PROMPT)(outcome, late, REPLY);
    const what = `${outcome}${late ? ", behind its decode" : ""}`;
    t.equal(loads.of("p").shunnedUntil, shunned ? time.monotonic() + SHUN_MS : 0, what);
    t.same(forgotten, forgets ? ["p"] : [], what);
    t.same(lessons, [], what);
  }
  t.end();
});

t.test("blocks that a late leg leaves are kept for decode, unless it has them or wants them no more", (t) => {
  for (const [late, fetched, tokens] of [
    [true, false, 1000],
    [true, true, 0],
    [false, false, 0],
  ] as const) {
    const { time, loads, holds, account } = rig();
    const over = account.begin(priced, PROMPT);
    if (fetched) holds.release();
    over("done", late, REPLY);
    t.equal(loads.of("p").pinnedTokens, tokens, `${late} ${fetched}`);
    time.advance(30_000);
    t.equal(loads.of("p").pinnedTokens, 0, "no longer than their lease");
  }
  t.end();
});

t.test("a lease is as configured, else the connector's own", (t) => {
  for (const [configured, leaseMs] of [
    [5000, 5000],
    [0, leaseOf(endpoint)],
  ] as const) {
    const { time, loads, holds } = rig(configured);
    holds.pin(endpoint, 1000);
    time.advance(leaseMs - 1);
    t.equal(loads.of("p").pinnedTokens, 1000);
    time.advance(1);
    t.equal(loads.of("p").pinnedTokens, 0);
  }
  t.ok(leaseOf(endpoint) > 5000);
  t.end();
});
