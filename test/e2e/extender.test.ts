/**
 * The extender under the real kube-scheduler: devices that are kept for a gang go to nobody else, and pods are evicted for
 * a more important one by way of `preempt`. Real kube-apiserver, controller-manager and kube-scheduler; one kwok node.
 */
import t from "tap";
import { annotationOf, type KubeObject, type Pod } from "../../src/kinds/kube.ts";
import { STATUS } from "../../src/kinds/names.ts";
import { startCluster, type Cluster } from "./cluster/control-plane.ts";
import { createGangs, DEVICE, removeGang, standing, type GangShape } from "./cluster/gangs.ts";
import { eventually } from "./cluster/process.ts";
import { buildProgram, startTandem, type Tandem } from "./cluster/tandem.ts";

t.setTimeout(300_000);

let cluster: Cluster;
let service: Tandem;

t.before(async () => {
  buildProgram();
  cluster = await startCluster();
  await cluster.applyCrds();
  await cluster.addNodes({ count: 1 });
  service = await startTandem(cluster);
  await cluster.startScheduler({ extender: { url: `${service.webhooks}/extender`, ca: service.authority } });
  for (const name of ["gang", "others"]) await cluster.must(["create", "namespace", name]);
});

t.teardown(async () => {
  if (!t.passing()) t.comment(`${cluster.logs()}\n${service.logs()}`);
  await service.stop();
  await cluster.stop();
});

/** Nobody goes by this name, so that its pods stay where the gates have let them go for. */
const SLOW: GangShape = {
  name: "slow",
  prefill: 1,
  decode: 1,
  devices: 4,
  podSpec: { schedulerName: "slow-scheduler" },
};

function foreign(name: string, priorityClassName?: string): KubeObject {
  const resources = { limits: { [DEVICE]: "8" } };
  const spec = {
    terminationGracePeriodSeconds: 0,
    automountServiceAccountToken: false,
    ...(priorityClassName === undefined ? {} : { priorityClassName }),
    containers: [{ name: "c", image: "training", resources }],
  };
  return { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "others" }, spec };
}

const PODS = "/api/v1/namespaces/others/pods";
const create = (object: KubeObject): Promise<KubeObject> =>
  eventually(`${object.metadata.name ?? ""} is made`, () => cluster.api.post(PODS, object));
const read = async (name: string): Promise<Pod> => (await cluster.api.get(`${PODS}/${name}`)) as Pod;
const bound = (name: string): Promise<true> =>
  eventually(`${name} is bound`, async () => ((await read(name)).spec.nodeName === undefined ? undefined : true));

t.test("a foreign pod does not get the devices that are kept for a slow gang", async (t) => {
  await createGangs(cluster, "gang", [SLOW]);
  await eventually("both pods let go", async () => {
    const { pods, held } = await standing(cluster, "gang", "slow");
    const placed = pods.filter((pod) => annotationOf(pod, STATUS.placement) !== undefined);
    return held === 0 && placed.length === 2 ? true : undefined;
  });
  await create(foreign("training"));
  const message = await eventually("it is refused", async () => {
    const { status, spec } = await read("training");
    t.equal(spec.nodeName, undefined);
    return status?.conditions?.find(({ type, status }) => type === "PodScheduled" && status === "False")?.["message"];
  });
  t.match(message, /NodeReserved: needs 8 nvidia\.com\/gpu, 0 free beside 8 kept for gang\/slow-/);
  await removeGang(cluster, "gang", "slow");
  // kube-scheduler takes a refused pod up again when something about it changes, or after minutes.
  await cluster.api.patch(`${PODS}/training`, "merge-patch", { metadata: { annotations: { wake: "up" } } });
  await bound("training");
});

t.test("a more important pod takes its place, by way of preempt", async (t) => {
  const urgent = {
    apiVersion: "scheduling.k8s.io/v1",
    kind: "PriorityClass",
    metadata: { name: "urgent" },
    value: 1000,
  };
  await cluster.api.post("/apis/scheduling.k8s.io/v1/priorityclasses", urgent);
  await create(foreign("important", "urgent"));
  await bound("important");
  await eventually("training is evicted", async () =>
    (await cluster.pods("others")).some(({ metadata }) => metadata.name === "training") ? undefined : true,
  );
  const page = await (await fetch(service.metrics.admission)).text();
  t.match(page, /tandem_extender_verdicts_total\{verb="preempt",reason="NodeFits"\} [1-9]/);
});
