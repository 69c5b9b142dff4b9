/** What may be taken away on what is heard, and what sleeps: each source silent in turn. */
import t from "tap";
import { judgeEvidence } from "../../../src/autoscaler/evidence.ts";
import type { EngineSeen, InstanceSeen, Observation } from "../../../src/autoscaler/group.ts";
import { createMemory, type GroupMemory } from "../../../src/autoscaler/memory.ts";
import type { Source } from "../../../src/autoscaler/traffic.ts";
import { idleness } from "../../../src/autoscaler/zero.ts";
import { IDLE_ENGINE, instance, observation, router, workload } from "../../support/observations.ts";

function heard(source: Source = "routers"): GroupMemory {
  const memory = createMemory();
  memory.traffic.source = source;
  memory.traffic.requestAt = 0;
  return memory;
}

const engineAt = (at: number, more: Partial<EngineSeen> = {}): EngineSeen => ({ ...IDLE_ENGINE, at, ...more });

/** Eight, of which the first so many are silent. */
const eight = (at: number, silent: number, change: Partial<InstanceSeen> = {}): readonly InstanceSeen[] =>
  Array.from({ length: 8 }, (_, index) =>
    index < silent
      ? { ...instance("prefill", index, engineAt(at - 20_000)), ...change }
      : instance("prefill", index, engineAt(at)),
  );

t.test("one of few that stays silent is broken after two minutes, and no longer asked", (t) => {
  const after = (silent: number, ms: number, change: Partial<InstanceSeen> = {}) => {
    const memory = heard();
    judgeEvidence(memory, observation(0, { instances: eight(0, silent, change) }));
    return judgeEvidence(memory, observation(ms, { instances: eight(ms, silent, change) }));
  };
  t.match(after(0, 1000), { mayShrink: true, broken: [] });
  t.match(after(1, 120_000), { mayShrink: false, broken: [] });
  t.match(after(1, 120_001), { mayShrink: true, broken: ["prefill-0"] });
  t.match(after(2, 120_001), { mayShrink: true });
  t.match(after(3, 120_001), { mayShrink: false, broken: [] }, "it is the way to them");
  t.match(after(1, 1000, { state: "draining" }), { mayShrink: false }, "one that drains runs something, too");
  t.match(after(1, 1000, { state: "leaving" }), { mayShrink: true });
  t.match(after(8, 1000, { engine: engineAt(1000, { running: -1 }) }), { mayShrink: false });
  t.end();
});

t.test("one that is new has half a minute until it is read", (t) => {
  const fresh = (readyAt: number): Observation => {
    return observation(100_000, { instances: [{ ...instance("prefill", 0, undefined), readyAt }] });
  };
  t.equal(judgeEvidence(heard(), fresh(70_000)).mayShrink, true);
  t.equal(judgeEvidence(heard(), fresh(69_999)).mayShrink, false);
  t.end();
});

t.test("routers: none, or not all; nothing at all, and for five minutes", (t) => {
  const seen = observation(1000, { instances: eight(1000, 0) });
  for (const source of ["partial", "engines"] as const)
    t.match(judgeEvidence(heard(source), seen), { mayShrink: false, isLost: false });
  const memory = heard("none");
  t.match(judgeEvidence(memory, seen), { isLost: true, isFallback: false, mayShrink: false });
  t.match(judgeEvidence(memory, { ...seen, at: 300_999 }), { isFallback: false });
  t.match(judgeEvidence(memory, { ...seen, at: 301_000 }), { isLost: true, isFallback: true });
  t.end();
});

const ZERO = { minReplicas: 0 };
const IDLE_MS = 600_000;

/** A prefill and a decode instance, both idle, ten minutes after the last request. */
const idle = (change: Partial<Observation> = {}, decode: Partial<EngineSeen> = {}): Observation =>
  observation(IDLE_MS, {
    workloads: [workload("prefill", 1, ZERO), workload("decode", 1, ZERO)],
    instances: [instance("prefill", 0, engineAt(IDLE_MS)), instance("decode", 0, engineAt(IDLE_MS, decode))],
    routers: [router(IDLE_MS)],
    ...change,
  });

t.test("a group sleeps when nothing came for long, nothing runs, and all of that was seen", (t) => {
  const sleeps = (seen: Observation, source: Source = "routers"): boolean => idleness(heard(source), seen).zero;
  t.equal(sleeps(idle()), true);
  t.equal(sleeps(idle({ at: IDLE_MS - 1 })), false);
  t.equal(sleeps(idle({}, { running: 1 })), false);
  t.equal(sleeps(idle({}, { waiting: 1 })), false);
  t.equal(sleeps(idle({}, { at: IDLE_MS - 16_000 })), false, "an engine that does not tell may run anything");
  t.equal(sleeps(idle({ instances: [instance("decode", 0, undefined)] })), false);
  for (const source of ["partial", "engines", "none"] as const) t.equal(sleeps(idle(), source), false);
  t.equal(sleeps(idle({ workloads: [workload("prefill", 1, ZERO), workload("decode", 1)] })), false);
  t.end();
});

t.test("and is woken when one waits and any role is without an instance", (t) => {
  const wakes = (prefill: number, decode: number, heldRequests = 1): boolean =>
    idleness(
      heard(),
      idle({
        workloads: [workload("prefill", prefill, ZERO), workload("decode", decode, ZERO)],
        routers: [router(IDLE_MS, { heldRequests })],
      }),
    ).woken;
  t.strictSame([wakes(0, 0), wakes(0, 1), wakes(1, 0), wakes(1, 1), wakes(0, 0, 0)], [true, true, true, false, false]);
  t.end();
});
