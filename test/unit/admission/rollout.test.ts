/** The steps of a rolling update that admission gives, and what the user makes of them afterwards. */
import t from "tap";
import { admitObject, strip } from "../../../src/admission/admit.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { isDenied } from "../../../src/kinds/verdict.ts";
import { isObject, type JsonObject, type KubeObject } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { applied, kubectlApply } from "../../support/apply.ts";
import { workloadOf } from "../../support/instances.ts";

const context = { snapshot: EMPTY_SNAPSHOT, settings: loadConfig().admission };
const DEFAULT = { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable: "25%" } };

const withStrategy = (strategy: unknown, object: KubeObject = workloadOf()): KubeObject => ({
  ...object,
  spec: { ...(object["spec"] as JsonObject), strategy },
});
const strategyOf = ({ spec }: KubeObject): unknown => (isObject(spec) ? spec["strategy"] : undefined);

function update(previous: KubeObject, object: KubeObject): KubeObject {
  const { verdicts, object: answer } = admitObject(object, { ...context, previous });
  t.same(verdicts.filter(isDenied), []);
  return answer;
}

const stored = admitObject(withStrategy(DEFAULT), context).object;

t.test("steps of whole instances stand beside what the API server filled in, and go again", (t) => {
  t.same(strategyOf(stored), { type: "RollingUpdate", rollingUpdate: { maxSurge: 2, maxUnavailable: 0 } });
  t.same(strategyOf(update(stored, stored)), strategyOf(stored));
  t.same(strip(stored), withStrategy(DEFAULT));
  const offline = admitObject(workloadOf(), context).object;
  t.same(strategyOf(offline), { rollingUpdate: { maxSurge: 2, maxUnavailable: 0 } });
  t.same(strip(offline), workloadOf());
  t.end();
});

t.test("who changes to Recreate gets no rolling update put back: the API refuses the two together", (t) => {
  const recreated = update(stored, withStrategy({ type: "Recreate" }, stored));
  t.same(strategyOf(recreated), { type: "Recreate" });
  t.same(strategyOf(update(recreated, recreated)), { type: "Recreate" });
  t.same(strip(recreated), withStrategy({ type: "Recreate" }));
  t.end();
});

t.test(
  "a manifest that gives one step later is completed by Kubernetes' default, never by ours: two zeros are refused",
  (t) => {
    const before = withStrategy(undefined);
    for (const [rollingUpdate, wanted] of [
      [{ maxSurge: 0 }, { maxSurge: 0, maxUnavailable: "25%" }],
      [{ maxUnavailable: 3 }, { maxSurge: "25%", maxUnavailable: 3 }],
      [
        { maxSurge: 0, maxUnavailable: 2 },
        { maxSurge: 0, maxUnavailable: 2 },
      ],
      [
        { maxSurge: 2, maxUnavailable: 2 },
        { maxSurge: 2, maxUnavailable: 2 },
      ],
    ] as const) {
      const live = admitObject(applied(withStrategy(DEFAULT)), context).object;
      const now = withStrategy({ rollingUpdate });
      const sent = kubectlApply(before, now, live);
      const answer = update(live, sent);
      t.same((strategyOf(answer) as JsonObject)["rollingUpdate"], wanted, JSON.stringify(rollingUpdate));
      t.same(strategyOf(update(answer, answer)), strategyOf(answer), "and stays so");
      t.same((strategyOf(strip(answer)) as JsonObject)["rollingUpdate"], wanted, "also without Tandem");
    }
    t.end();
  },
);
