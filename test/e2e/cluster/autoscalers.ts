/** Autoscalers of others: an HPA, and KEDA's ScaledObject. No controller acts on them. */

/** Of the Deployment of the same name. */
export const hpa = (name: string): object => ({
  apiVersion: "autoscaling/v2",
  kind: "HorizontalPodAutoscaler",
  metadata: { name },
  spec: { minReplicas: 1, maxReplicas: 4, scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name } },
});
export const scaledObject = (name: string): object => ({
  apiVersion: "keda.sh/v1alpha1",
  kind: "ScaledObject",
  metadata: { name },
  spec: { scaleTargetRef: { name } },
});

/** KEDA's ScaledObject by its names alone: any spec is taken, and nothing acts on it. */
export const scaledObjectCrd = (): readonly object[] => [
  {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "scaledobjects.keda.sh" },
    spec: {
      group: "keda.sh",
      names: { kind: "ScaledObject", plural: "scaledobjects", singular: "scaledobject" },
      scope: "Namespaced",
      versions: [
        {
          name: "v1alpha1",
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
        },
      ],
    },
  },
];
