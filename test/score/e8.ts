/** E8: an extender that fails in every way it can, under kube-scheduler with the configuration that the manifests ship. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pod } from "../../src/kinds/kube.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import { startFaultyExtender, type Fault, type FaultyExtender } from "../e2e/cluster/faulty-extender.ts";
import { addFleet, admittedGang, createPods, renamed } from "../e2e/cluster/fleet.ts";
import { installFleet } from "../e2e/cluster/fleet-roles.ts";
import { eventually } from "../e2e/cluster/process.ts";
import { shippedConfiguration } from "../e2e/cluster/shipped.ts";
import { buildProgram } from "../e2e/cluster/tandem.ts";
import { withCluster } from "./cluster.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const NAMESPACE = "faults";
const FOREIGN = 20;
const OURS = 5;
/** kube-scheduler's `httpTimeout` for the extender, in the configuration that is shipped. */
const TIMEOUT_MS = 1000;
/** After the foreign pods are bound; long enough for another attempt of every pod of ours (their back-off begins at 1 s). */
const LONGER_MS = 5000;
/** What two shared cores add to a placement now and then. */
const NOISE_MS = 1000;

const foreign = (batch: string): Pod[] =>
  renamed(
    Array.from({ length: FOREIGN }, (_, index) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: `foreign-${index}`, labels: { batch } },
      spec: { containers: [{ name: "c", image: "c:1", resources: { requests: { cpu: "100m" } } }] },
    })),
  );

/** Pods of a labelled Deployment that ask for devices, without gates: each goes to the extender at once. */
const ours = (): Pod[] =>
  renamed(
    admittedGang({ name: "gang", prefill: 2, decode: 3, devices: 1 }, { namespace: NAMESPACE, gates: false }).pods,
  );

interface Placed {
  /** Milliseconds until the last foreign pod was bound. */
  readonly worstMs: number;
  readonly calls: number;
  readonly oursBound: number;
}

const boundOf = async (cluster: Cluster, selector: string): Promise<number> =>
  (await cluster.pods(NAMESPACE, selector)).filter(({ spec }) => spec.nodeName !== undefined).length;

/** Ours first, so that foreign pods queue behind them. */
async function place(cluster: Cluster, extender: FaultyExtender, fault: Fault): Promise<Placed> {
  await extender.be(fault);
  const batch = `b${Math.round(performance.now())}`;
  const begun = performance.now();
  await createPods(cluster.api, NAMESPACE, [...ours(), ...foreign(batch)]);
  await eventually(
    `foreign pods are bound while the extender ${fault}`,
    async () => ((await boundOf(cluster, `batch=${batch}`)) === FOREIGN ? true : undefined),
    120_000,
  );
  const worstMs = Math.round(performance.now() - begun);
  const calls = extender.calls("filter");
  if (fault !== "none") await sleep(LONGER_MS);
  return { worstMs, calls, oursBound: await boundOf(cluster, "tandem.sh/model") };
}

const FAULTS = ["refuses", "hangs", "500", "garbage"] as const;
const keyOf = (fault: Fault): string => (fault === "500" ? "answers500" : fault);

async function scene(cluster: Cluster, progress: Progress): Promise<ScoreResult> {
  await addFleet(cluster.api, { nodes: 48 });
  await cluster.must(["create", "namespace", NAMESPACE]);
  const roles = await installFleet(cluster);
  const controller = await roles.startController();
  const real = await roles.startExtender();
  const extender = await startFaultyExtender(real.answering);
  try {
    await cluster.startScheduler({ configure: (kubeconfig) => shippedConfiguration({ kubeconfig, extender }) });
    await place(cluster, extender, "none");
    return await faults(cluster, extender, progress);
  } finally {
    await extender.stop();
    await real.running.stop();
    await controller.running.stop();
  }
}

async function faults(cluster: Cluster, extender: FaultyExtender, progress: Progress): Promise<ScoreResult> {
  const base = await place(cluster, extender, "none");
  await eventually(
    "pods of ours are bound",
    async () => (await boundOf(cluster, "tandem.sh/model")) === 2 * OURS || undefined,
  );
  const figures: Record<string, number> = { foreignMs: base.worstMs };
  let met = true;
  for (const fault of FAULTS) {
    const placed = await place(cluster, extender, fault);
    const through = placed.oursBound - 2 * OURS;
    const delayMs = Math.max(0, placed.worstMs - base.worstMs);
    const allowedMs = NOISE_MS + (fault === "hangs" ? placed.calls * TIMEOUT_MS : 0);
    progress(
      `${fault}: foreign pods after ${placed.worstMs} ms, ${placed.calls} filter calls, ${through} of ours bound`,
    );
    figures[`${keyOf(fault)}DelayMs`] = delayMs;
    figures[`${keyOf(fault)}Calls`] = placed.calls;
    figures[`${keyOf(fault)}Through`] = through;
    met &&= through === 0 && delayMs <= allowedMs;
  }
  const backMs = await back(cluster, extender);
  return { figures: { ...figures, backMs }, met };
}

/** Everything that waited is bound once the extender answers; each pod's back-off is 10 s at most. */
async function back(cluster: Cluster, extender: FaultyExtender): Promise<number> {
  const all = (2 + FAULTS.length) * OURS;
  const begun = performance.now();
  await extender.be("none");
  await eventually(
    `all ${all} pods of ours are bound`,
    async () => {
      const bound = await boundOf(cluster, "tandem.sh/model");
      if (bound === all) return true;
      throw new Error(`${bound} of ${all}`);
    },
    60_000,
  );
  return Math.round(performance.now() - begun);
}

export const row: ScoreRow = {
  id: "E8",
  fault: `the extender refuses, hangs, answers 500, answers garbage, is back: ${OURS} pods with devices and ${FOREIGN} foreign pods each time, real kube-scheduler, configuration as it ships`,
  required:
    "foreign pods not delayed, by a hang at most 1 s for each attempt of a pod of ours; none of ours bound unfiltered, all once it is back",
  run: (progress) => {
    buildProgram();
    return withCluster((cluster) => scene(cluster, progress), { fleet: true });
  },
};
