/** The drain of one instance, page by page; and what is written on objects of it. */
import t from "tap";
import { drainState, type DrainMemory, type DrainRules } from "../../../src/autoscaler/act/drain.ts";
import type { Instance } from "../../../src/autoscaler/act/instances.ts";
import type { EngineSeen } from "../../../src/autoscaler/group.ts";
import type { Pod, Workload } from "../../../src/kinds/kube.ts";
import { AUTOSCALING_STATUS, POD_DELETION_COST, STATUS } from "../../../src/kinds/names.ts";
import * as draining from "../../../src/workload/draining.ts";

const RULES: DrainRules = { role: "decode", drainTimeoutMs: 60_000, standbyMs: 0, quietMs: 5000, kvLeaseMs: 30_000 };

interface Look {
  readonly now: number;
  readonly page?: Partial<EngineSeen>;
  readonly ready?: boolean;
  readonly lapsed?: boolean;
}

/** What each look says, `-` while it drains; a capital for ripe. */
function looks(all: readonly Look[], rules: Partial<DrainRules> = {}, since: number | undefined = 0): string {
  let before: DrainMemory | undefined;
  return all
    .map(({ now, page, ready = true, lapsed = false }) => {
      const engine = page === undefined ? undefined : { at: now, running: 0, waiting: 0, kvUsage: 0, ...page };
      const instance: Instance = { id: "i", pods: [], ready, lapsed, draining: true, ...(engine && { engine }) };
      const moment = { now, wallClock: now };
      const { memory, end, ripe } = drainState(instance, { since, before }, { ...RULES, ...rules }, moment);
      before = memory;
      const word = end ?? "-";
      return ripe ? word.toUpperCase() : word;
    })
    .join(" ");
}

const idle = (now: number): Look => ({ now, page: {} });
const busy = (now: number): Look => ({ now, page: { running: 1 } });

t.test("idle for long enough, by pages read after routers have heard", (t) => {
  t.equal(looks([idle(0), idle(1000), idle(3000), idle(7000), idle(8000)]), "- - - - IDLE");
  t.equal(looks([idle(0), idle(3000), busy(6000), idle(9000), idle(12_000), idle(14_000)]), "- - - - - IDLE");
  t.equal(
    looks([idle(3000), idle(5000), { now: 30_000, page: { at: 11_000 } }]),
    "- - -",
    "an old page says nothing of now",
  );
  t.equal(looks([idle(0), idle(5000), idle(10_000), busy(15_000)]), "- - IDLE -", "a late decode leg");
  t.equal(
    looks([
      { now: 0, page: { waiting: 1 } },
      { now: 9000, page: { waiting: 1 } },
    ]),
    "- -",
  );
  t.end();
});

t.test("without pages, or with work without end, its time decides", (t) => {
  t.equal(looks([{ now: 0 }, { now: 59_999 }, { now: 60_000 }]), "- - LATE");
  t.equal(looks([busy(0), busy(60_000)]), "- LATE");
  t.equal(looks([busy(100_000)], {}, 50_000), "-");
  t.equal(looks([busy(100_000)], {}, 40_000), "LATE", "begun by another process");
  t.equal(looks([busy(0), busy(60_000)], {}, 9_000_000), "- LATE", "begun by a clock that is ahead");
  t.end();
});

t.test("prefill: KV that is held waits for its lease", (t) => {
  const holds = (now: number): Look => ({ now, page: { kvUsage: 0.4 } });
  const prefill = { role: "prefill", drainTimeoutMs: 600_000 } as const;
  t.equal(looks([holds(0), holds(5000), holds(10_000), idle(15_000)], prefill), "- - - IDLE");
  t.equal(looks([holds(0), holds(5000), holds(34_000), holds(35_000)], prefill), "- - - IDLE");
  t.equal(looks([holds(0), holds(5000), holds(10_000)]), "- - IDLE", "decode holds for nobody");
  t.end();
});

t.test("standby, and what is not ready", (t) => {
  t.equal(
    looks([idle(0), idle(5000), idle(10_000), idle(19_999), idle(20_000)], { standbyMs: 10_000 }),
    "- - idle idle IDLE",
  );
  t.equal(looks([{ now: 0, ready: false }]), "UNSERVING");
  t.equal(
    looks([
      { now: 0, ready: false, page: { running: 2 } },
      { now: 1, ready: false },
    ]),
    "- UNSERVING",
  );
  const lapsed = { ready: false, lapsed: true };
  t.equal(
    looks([
      { now: 0, ...lapsed },
      { now: 59_999, ...lapsed },
      { now: 60_000, ...lapsed },
    ]),
    "- - LATE",
  );
  t.end();
});

const pod = (annotations: Record<string, string>): Pod => ({
  ...{ apiVersion: "v1", kind: "Pod", spec: { containers: [] } },
  metadata: { name: "p", annotations },
});
const TIME = "2026-01-31T08:00:00.000Z";
const AT = Date.parse(TIME);

t.test("marks are written, read and taken off again, with nothing of others", (t) => {
  const merged = (of: Pod, change: draining.Annotations): Pod => {
    const all = Object.entries({ ...of.metadata.annotations, ...change });
    return pod(Object.fromEntries(all.filter((each): each is [string, string] => each[1] !== null)));
  };
  for (const before of [{}, { [POD_DELETION_COST]: "7" }, { [STATUS.drain]: "instance-unready", x: "y" }]) {
    const drained = merged(pod(before), draining.drainAnnotations(pod(before), AT));
    t.same(draining.drainingOf(drained), { since: AT });
    t.ok(draining.isHeldBack(drained));
    const marked = merged(drained, draining.costAnnotations(drained, AT + 1));
    t.equal(marked.metadata.annotations?.[POD_DELETION_COST], draining.VICTIM_COST);
    t.equal(draining.drainingOf(marked)?.since, AT, "the drain began when it began");
    t.same(draining.costAnnotations(marked, AT), draining.costAnnotations(marked, AT + 9), "twice is once");
    t.same(merged(marked, draining.releaseAnnotations(marked)).metadata.annotations, before);
    t.same(merged(drained, draining.releaseAnnotations(drained)).metadata.annotations, before);
  }
  const other = pod({ [AUTOSCALING_STATUS.draining]: `${TIME} cost=7`, [POD_DELETION_COST]: "9", [STATUS.drain]: "x" });
  t.same(draining.releaseAnnotations(other), { [AUTOSCALING_STATUS.draining]: null }, "somebody wrote since");
  t.same(draining.drainingOf(pod({ [AUTOSCALING_STATUS.draining]: "soon" })), { since: undefined });
  t.equal(draining.drainingOf(pod({})), undefined);
  t.end();
});

t.test("what was asked for last is known for ours, on its way too", (t) => {
  const workload = (replicas: number, text?: string): Workload => ({
    ...{ apiVersion: "apps/v1", kind: "Deployment" },
    metadata: { name: "d", annotations: text === undefined ? {} : { [AUTOSCALING_STATUS.lastScale]: text } },
    spec: { replicas, template: { spec: { containers: [] } } },
  });
  const text = draining.lastScaleText(2, 5, AT);
  t.equal(text, `2 -> 5 ${TIME}`);
  const table: readonly (readonly [replicas: number, afterMs: number, last: number | undefined])[] = [
    [5, 1000, 5],
    [2, 1000, 2],
    [2, 61_000, 5],
    [9, 1000, 5],
  ];
  for (const [replicas, afterMs, last] of table)
    t.equal(draining.lastScaled(workload(replicas, text), AT + afterMs), last, `${replicas} after ${afterMs}`);
  for (const bad of [undefined, "", "5", "2 -> 5", "2 -> 5 then", "-1 -> 5 2026-01-31T08:00:00.000Z"])
    t.equal(draining.lastScaled(workload(2, bad), AT), undefined);
  t.end();
});
