import t from "tap";
import { killsLoading } from "../../../src/admission/checks/probes.ts";

t.test("a liveness probe kills a loading engine only where that is certain", (t) => {
  const after = (livenessProbe: object | undefined, startupProbe?: object): number | undefined =>
    killsLoading({
      name: "engine",
      ...(livenessProbe === undefined ? {} : { livenessProbe }),
      ...(startupProbe === undefined ? {} : { startupProbe }),
    });
  t.equal(after({}), 30, "the API's defaults: three times ten seconds");
  t.equal(after({ initialDelaySeconds: 60, periodSeconds: 15, failureThreshold: 3 }), 105);
  t.equal(after({ initialDelaySeconds: 60, periodSeconds: 20, failureThreshold: 3 }), undefined, "two minutes may do");
  t.equal(after({ periodSeconds: 1 }, {}), undefined, "a startup probe holds it back");
  t.equal(after(undefined), undefined);
  t.end();
});
