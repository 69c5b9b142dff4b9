/** Two Deployments of one role, round by round: what one of them cannot do the other one does. */
import t from "tap";
import { createMemory, decide } from "../../../src/autoscaler/decide.ts";
import type { InstanceSeen, WorkloadSeen } from "../../../src/autoscaler/group.ts";
import type { ScalingSpec } from "../../../src/workload/scaling.ts";
import { IDLE_ENGINE, instance, observation, router, workload } from "../../support/observations.ts";

const ROUND_MS = 5000;
/** Three quarters of 10,000 tokens a second each: 45,000 need six. */
const CAPACITY = { capacityTokensPerSecond: 10_000, maxReplicas: 12 };

interface Course {
  /** Of the two Deployments. */
  readonly begin: readonly [dear: number, cheap: number];
  readonly dear?: Partial<ScalingSpec>;
  readonly cheap?: Partial<ScalingSpec>;
  readonly seen?: Partial<WorkloadSeen>;
  /** Whether those of the cheap one ever get ready. */
  readonly starts?: boolean;
  /** Thousands of tokens a second in each half. */
  readonly load?: readonly [number, number];
}

/** Least that served in an hour, and what stands at its end. */
function course({ begin, dear, cheap, seen, starts = true, load = [45, 45] }: Course) {
  const memory = createMemory();
  const counts = { dear: begin[0], cheap: begin[1] };
  let [at, requests, least] = [0, 0, Infinity];
  for (let round = 0; round < 720; round++) {
    at += ROUND_MS;
    requests += load[round < 360 ? 0 : 1] * (ROUND_MS / 1000);
    const engine = { ...IDLE_ENGINE, at, running: 1 };
    const serving = (id: string, count: number): InstanceSeen[] =>
      Array.from({ length: count }, (_, index) => instance(id, index, engine));
    const failing = (_: unknown, index: number): InstanceSeen => ({
      ...instance("cheap", index, undefined),
      state: "failing",
    });
    const others = serving("cheap", counts.cheap);
    const { workloads } = decide(
      memory,
      observation(at, {
        workloads: [
          { ...workload("prefill", counts.dear, { ...CAPACITY, cost: 2, ...dear }), id: "dear" },
          { ...workload("prefill", counts.cheap, { ...CAPACITY, cost: 1, ...cheap }), id: "cheap", ...seen },
        ],
        instances: [...serving("dear", counts.dear), ...(starts ? others : others.map(failing))],
        routers: [
          router(at, { requests, promptTokens: 1000 * requests, answers: requests, generatedTokens: 100 * requests }),
        ],
      }),
    );
    least = Math.min(least, counts.dear + (starts ? counts.cheap : 0));
    for (const { workload: id, to } of workloads) counts[id as "dear"] = to;
  }
  return { least, ...counts };
}

t.test("one that stands is no place for more, and nothing is given up for what it will not have", (t) => {
  const standing: readonly Omit<Course, "begin">[] = [
    { cheap: { mode: "off" } },
    { cheap: { mode: "recommend" } },
    { cheap: { pausedScaleOut: true } },
    { seen: { contestedBy: "HorizontalPodAutoscaler h" } },
  ];
  for (const one of standing) {
    const { least, dear, cheap } = course({ begin: [6, 1], ...one });
    t.same([least, dear, cheap], [6, 5, 1], JSON.stringify(one));
    const grown = course({ begin: [6, 1], ...one, load: [45, 67] });
    t.ok(grown.least >= 6 && grown.dear + grown.cheap >= 9, JSON.stringify([one, grown]));
  }
  t.end();
});

t.test("one that cannot shrink is not what the others wait for", (t) => {
  const { dear, cheap } = course({ begin: [4, 4], cheap: { cost: 4, mode: "scale-up-only" }, load: [15, 15] });
  t.same([dear, cheap], [1, 4]);
  t.end();
});

t.test("a cheaper one that never gets ready costs nobody an instance that serves", (t) => {
  t.equal(course({ begin: [6, 1], starts: false }).least, 6);
  t.equal(course({ begin: [6, 1], starts: false, cheap: { cost: 0.1 } }).least, 6);
  t.end();
});

t.test("one that may go to zero beside another goes at its pace, and as the other one serves", (t) => {
  const { least, dear, cheap } = course({ begin: [1, 8], dear: { cost: 1 }, cheap: { cost: 2, minReplicas: 0 } });
  t.same([least, dear, cheap], [6, 6, 0]);
  t.end();
});
