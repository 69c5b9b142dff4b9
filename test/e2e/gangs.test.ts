/**
 * Gangs on real parts: with room for one of two gangs, one runs whole and the other holds nothing; behind gates under
 * kube-scheduler, and by PodGroups under Volcano, whose own PodGroups place halves.
 * Real kube-apiserver, controller-manager, kube-scheduler and Volcano; kwok's nodes; Tandem's webhooks and controller.
 */
import t from "tap";
import { contest, CONTEST_NODES, type Contest } from "./cluster/contest.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { install, type Installation } from "./cluster/installation.ts";
import { buildProgram } from "./cluster/tandem.ts";
import { startVolcano, type Volcano } from "./cluster/volcano-scheduler.ts";

t.setTimeout(600_000);
const RUNS = 20;

let cluster: Cluster;
let tandem: Installation;
let volcano: Volcano | undefined;
const begun = performance.now();
const lap = (what: string): void => t.comment(`${what} after ${((performance.now() - begun) / 1000).toFixed(1)} s`);

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes({ count: CONTEST_NODES });
  tandem = await install(cluster, { replicas: 1 });
  await cluster.startScheduler();
  for (const namespace of ["gates", "volcano", "plain"]) await cluster.must(["create", "namespace", namespace]);
  lap("cluster and Tandem");
});

t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${tandem.logs()}\n${volcano?.logs() ?? ""}`);
  await volcano?.stop();
  await tandem.stop();
  await cluster.stop();
});

async function contests(path: "gates" | "volcano"): Promise<readonly Contest[]> {
  const results: Contest[] = [];
  for (let run = 1; run <= RUNS; run++) results.push(await contest(cluster, { namespace: path, run, path }));
  const times = results.map(({ wonAfterMs }) => wonAfterMs).sort((a, b) => a - b);
  lap(`${RUNS} contests (${path}; whole after ${times[RUNS / 2]} ms in the middle, ${times.at(-1)} ms at most)`);
  return results;
}

t.test(`gates: room for one of two gangs, ${RUNS} times`, async (t) => {
  const results = await contests("gates");
  t.equal(results.length, RUNS);
  t.same(
    results.filter(({ loserBound }) => loserBound > 0),
    [],
    "the loser never holds anything",
  );
  t.same(
    results.filter(({ loserRemade }) => loserRemade > 0),
    [],
    "nothing had to be given back",
  );
});

t.test(`Volcano: room for one of two gangs, ${RUNS} times`, async (t) => {
  volcano = await startVolcano(cluster);
  const results = await contests("volcano");
  t.equal(results.length, RUNS);
  t.same(
    results.filter(({ loserBound }) => loserBound > 0),
    [],
    "the loser never holds anything",
  );
});
