/** Under which name a ConfigMap of sizes is written, and when it goes. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import type { Action } from "../../../src/controller/action.ts";
import { controllerPlan } from "../../../src/controller/plan.ts";
import { keyOf, type KubeObject, type Workload } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT, type ClusterSnapshot } from "../../../src/kinds/snapshot.ts";

const config = loadConfig();
const plan = (snapshot: Partial<ClusterSnapshot>): readonly Action[] =>
  controllerPlan({ ...EMPTY_SNAPSHOT, ...snapshot }, { config, acts: () => true });
const said = (actions: readonly Action[]): string[] => actions.map((one) => `${one.do} ${one.verdict.reason}`);
const applied = (actions: readonly Action[]): KubeObject[] =>
  actions.flatMap((action) => (action.do === "apply" && action.object.kind === "ConfigMap" ? [action.object] : []));

const ANNOTATIONS = {
  "tandem.sh/engine": "vllm-ascend",
  "tandem.sh/kv-connector": "mooncake",
  "tandem.sh/gang": "off",
};

const deployment = (role: string, annotations: Record<string, string> = ANNOTATIONS): Workload => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: {
    ...{ name: `m-${role}`, namespace: "a", uid: `uid-${role}`, annotations },
    labels: { "tandem.sh/model": "m", "tandem.sh/role": role },
  },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: role } },
    template: {
      metadata: { labels: { app: role } },
      spec: { containers: [{ name: "engine", image: "vllm/vllm-openai:v0.11.0", args: ["--model", "q"] }] },
    },
  },
});
const pair = (): Workload[] => [deployment("prefill"), deployment("decode")];

t.test(
  "the ConfigMap is called as the template says, whichever Tandem made the plan, and stays while one does",
  (t) => {
    const [current = ""] = applied(plan({ workloads: pair() })).map(keyOf);
    const older = current.slice("a/".length).replace(/[0-9a-f]{8}$/, "0000aaaa");
    const reading = (workload: Workload, name: string): Workload => {
      const valueFrom = { configMapKeyRef: { name, key: "prefill" } };
      for (const container of workload.spec.template.spec.containers)
        container.env = [{ name: "TANDEM_KV_TRANSFER_CONFIG", valueFrom }];
      return workload;
    };
    /** Scaled to zero, so that no pod reads it either. */
    const idle = (workload: Workload): Workload => ({
      ...workload,
      metadata: { ...workload.metadata, generation: 2 },
      status: { observedGeneration: 2 },
    });
    const workloads = pair().map((one) => idle(reading(one, older)));
    const actions = plan({ workloads });
    t.same(applied(actions).map(keyOf), [`a/${older}`]);
    const configMaps = applied(actions);
    t.same(said(plan({ workloads, configMaps })), []);
    const foreign = pair().map((one) => idle(reading(one, "settings")));
    t.same(applied(plan({ workloads: foreign })).map(keyOf), [current], "never one of the user's own");

    const routed = workloads.map((one) => ({
      ...one,
      metadata: { ...one.metadata, annotations: { ...one.metadata.annotations, "tandem.sh/mode": "route" } },
    }));
    t.same(said(plan({ workloads: routed, configMaps })), [], "a template that was not stripped");
    const fresh = pair().map(idle);
    const both = [...configMaps, ...applied(plan({ workloads: fresh }))];
    t.same(said(plan({ workloads: fresh, configMaps: both })), ["remove SizesRemoved"]);
    const broken = idle(deployment("both", { "tandem.sh/gang": "some" }));
    const unclear = plan({ workloads: [...fresh, broken], configMaps: both });
    t.same(said(unclear), ["tell WorkloadUnreadable"], "what cannot be read may ask for it");
    const [first] = configMaps;
    const copy = { ...first, metadata: { ...first?.metadata, name: "my-copy" } } as KubeObject;
    t.same(said(plan({ workloads: fresh, configMaps: [...both.slice(1), copy] })), [], "a copy under another name");
    t.end();
  },
);
