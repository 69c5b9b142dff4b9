import t from "tap";
import { admitObject, admitPod } from "../../../src/admission/admit.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { KubeObject, Pod, Workload } from "../../../src/kinds/kube.ts";
import { GATE, OWNERSHIP, STATUS } from "../../../src/kinds/names.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";
import { standingName } from "../../../src/workload/cell.ts";

const settings = loadConfig().admission;
const labels = { "tandem.sh/model": "m", "tandem.sh/role": "prefill" };
const template = { metadata: { labels }, spec: { containers: [{ name: "e", image: "vllm/vllm-openai" }] } };
const workload: Workload = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "w", namespace: "n", uid: "u", labels },
  spec: { replicas: 2, selector: { matchLabels: { app: "w" } }, template },
};
/** As its ReplicaSet makes it, of the admitted template. */
const stored = admitObject(workload, { snapshot: EMPTY_SNAPSHOT, settings }).object as Workload;
const pod: Pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    ...stored.spec.template.metadata,
    namespace: "n",
    ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "w-1", uid: "r", controller: true }],
  },
  spec: structuredClone(stored.spec.template.spec),
};
const record = (owner: string): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: {
    name: standingName({ namespace: "n", model: "m", group: "m", cell: "0" }),
    namespace: "n",
    uid: "record-1",
    labels: { [OWNERSHIP.label]: owner },
  },
  data: { domain: "rack-1", in: JSON.stringify({ key: "rack", values: ["rack-1"] }) },
});
const admitted = (configMaps: readonly KubeObject[], more: object = {}): Pod =>
  admitPod({ ...pod, ...more }, { snapshot: { ...EMPTY_SNAPSHOT, workloads: [stored], configMaps }, settings })
    .object as Pod;

t.test("behind the gate until the cell stands; then without one, in its domain, and marked by the record", (t) => {
  const waits = admitted([]);
  t.same(waits.spec.schedulingGates, [{ name: GATE.gang }]);
  t.equal(waits.metadata.annotations?.[STATUS.follows], undefined);
  const follows = admitted([record(OWNERSHIP.value)]);
  t.equal(follows.spec.schedulingGates, undefined);
  t.equal(follows.metadata.annotations?.[STATUS.follows], "record-1");
  t.match(JSON.stringify(follows.spec.affinity), /"key":"rack","operator":"In","values":\["rack-1"\]/);
  t.end();
});

t.test("somebody else's ConfigMap of that name lifts no gate, and a pod that nobody makes anew has none", (t) => {
  t.same(admitted([record("somebody")]).spec.schedulingGates, [{ name: GATE.gang }]);
  const bare = admitted([], { metadata: { ...pod.metadata, ownerReferences: [] } });
  t.equal(bare.spec.schedulingGates, undefined);
  t.end();
});
