import t from "tap";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { contestedBy, scalersOf } from "../../../src/workload/scalers.ts";

const workload = (managedFields?: unknown, kind = "Deployment"): KubeObject => ({
  apiVersion: "apps/v1",
  kind,
  metadata: { name: "w", namespace: "n", ...(managedFields === undefined ? {} : { managedFields }) },
});

const scaler = (kind: string, spec: object, owner?: object): KubeObject => ({
  apiVersion: "x/v1",
  kind,
  metadata: {
    name: "s",
    namespace: "n",
    ...(owner === undefined ? {} : { ownerReferences: [owner] }),
  } as KubeObject["metadata"],
  spec,
});

const scaleTargetRef = { kind: "Deployment", name: "w" };
const asking = (type: string, metadata: object): KubeObject =>
  scaler("ScaledObject", { scaleTargetRef: { name: "w" }, triggers: [{ type: "cron" }, { type, metadata }] });

t.test("who names the workload, each kind in its own way", (t) => {
  const table: [KubeObject, minimum: number | undefined | null][] = [
    [scaler("HorizontalPodAutoscaler", { scaleTargetRef }), 1],
    [scaler("HorizontalPodAutoscaler", { scaleTargetRef, minReplicas: 3 }), 3],
    [scaler("ScaledObject", { scaleTargetRef: { name: "w" } }), 0],
    [scaler("PodAutoscaler", { scaleTargetRef, minReplicas: 2 }), 2],
    [scaler("VariantAutoscaling", { scaleTargetRef }), undefined],
    [scaler("AutoscalingPolicyBinding", { homogeneousTarget: { target: { targetRef: scaleTargetRef } } }), undefined],
    [
      scaler("AutoscalingPolicyBinding", {
        heterogeneousTarget: { params: [{}, { target: { targetRef: scaleTargetRef } }] },
      }),
      undefined,
    ],
    [
      scaler("AutoscalingPolicyBinding", { disaggregatedTarget: { targetRef: { kind: "ModelServing", name: "w" } } }),
      null,
    ],
    [scaler("HorizontalPodAutoscaler", { scaleTargetRef: { kind: "StatefulSet", name: "w" } }), null],
    [scaler("HorizontalPodAutoscaler", { scaleTargetRef: { kind: "Deployment", name: "v" } }), null],
    [scaler("HorizontalPodAutoscaler", {}), null],
    [scaler("constructor", { scaleTargetRef }), null],
    [{ ...scaler("HorizontalPodAutoscaler", { scaleTargetRef }), metadata: { name: "s", namespace: "other" } }, null],
  ];
  for (const [object, minimum] of table) {
    const found = scalersOf(workload(), [object]);
    t.same(
      found.map((one) => one.minimum),
      minimum === null ? [] : [minimum],
      JSON.stringify(object),
    );
  }
  t.end();
});

t.test("KEDA that asks Tandem is no rival, nor the HPA that it makes", (t) => {
  const made = { kind: "ScaledObject", name: "s", controller: true };
  const hpa = scaler("HorizontalPodAutoscaler", { scaleTargetRef }, made);
  t.equal(contestedBy(workload(), []), undefined);
  t.equal(contestedBy(workload(), [asking("external-push", { tandemGroup: "g" }), hpa]), undefined);
  t.equal(contestedBy(workload(), [hpa, asking("external", { tandemWorkload: "w" })]), undefined);
  t.equal(contestedBy(workload(), [asking("external", { scalerAddress: "x" }), hpa]), "ScaledObject s");
  t.equal(contestedBy(workload(), [asking("prometheus", { tandemGroup: "g" })]), "ScaledObject s");
  t.equal(contestedBy(workload(), [hpa]), "HorizontalPodAutoscaler s");
  t.equal(contestedBy(workload(), [scaler("PodAutoscaler", { scaleTargetRef })]), "PodAutoscaler s");
  t.end();
});

t.test("whoever wrote replicas through the scale subresource, but for people and for Tandem", (t) => {
  const wrote = (manager: unknown, subresource: unknown = "scale", spec: object = { "f:replicas": {} }): object => ({
    manager,
    operation: "Update",
    subresource,
    fieldsV1: { "f:spec": spec },
  });
  const by = (...entries: unknown[]): string | undefined => contestedBy(workload(entries), []);
  t.equal(by(wrote("robot")), "field manager robot");
  for (const known of ["kubectl", "kubectl-scale", "kubectl-edit", "kube-controller-manager", "tandem-autoscaler"])
    t.equal(by(wrote(known)), undefined, known);
  t.equal(by({ ...wrote("argocd-controller"), subresource: undefined }), undefined, "a manifest is kept from it");
  t.equal(by(wrote("robot", "scale", {}), wrote("robot", "status"), wrote(7), null, "x"), undefined);
  t.equal(by(wrote("keda")), "field manager keda");
  const invited = contestedBy(workload([wrote("keda-operator")]), [asking("external", { tandemGroup: "g" })]);
  t.equal(invited, undefined);
  t.equal(contestedBy(workload("none"), []), undefined);
  t.end();
});
