/** Two replicas at failurePolicy Fail, under load: certificates rotate and replicas are replaced, and nobody is refused. */
import t from "tap";
import { rollUnderLoad } from "../score/a7.ts";
import { rotateUnderLoad } from "../score/a9.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { install, type Installation } from "./cluster/installation.ts";
import { authorityOf, buildProgram } from "./cluster/tandem.ts";
import { eventually } from "./cluster/process.ts";

t.setTimeout(300_000);
let cluster: Cluster;
let service: Installation;

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  service = await install(cluster, { failurePolicy: "Fail" });
});
t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${service.logs()}`);
  await service.stop();
  await cluster.stop();
});

t.test("leaves and the authority rotate during 2000 admissions: none is refused", async (t) => {
  const wanted = { perSecond: 100, least: 2000, leaves: 3, authorities: 1 };
  const report = await rotateUnderLoad(cluster, service, wanted);
  t.same(report.failures, []);
  t.match(report, { failed: 0, failedHandshakes: 0, untouched: 0, leaves: 3 });
  t.ok(report.sent >= 2000 && report.handshakes > 20, `${report.sent} admissions, ${report.handshakes} handshakes`);
});

t.test("replicas rolled by SIGTERM, one by one, under load: none is refused", async (t) => {
  const report = await rollUnderLoad(cluster, service, { perSecond: 100, least: 0 });
  t.same(report.failures, []);
  t.match(report, { failed: 0, untouched: 0, rolled: 2 });
  t.notMatch(service.logs(), /not stopped in time/, "replicas end by themselves");
  t.ok(report.sent > 200, `${report.sent} admissions`);
});

t.test("a bundle overwritten by hand is put back", async (t) => {
  const good = await authorityOf(cluster);
  t.match(good, /BEGIN CERTIFICATE/);
  for (const kind of ["mutating", "validating"])
    await cluster.api.patch(`/apis/admissionregistration.k8s.io/v1/${kind}webhookconfigurations/tandem`, "json-patch", [
      { op: "remove", path: "/webhooks/0/clientConfig/caBundle" },
    ]);
  t.equal(await eventually("the bundle", () => authorityOf(cluster)), good);
});
