/** The service `externalscaler.ExternalScaler` that KEDA calls (pkg/scalers/externalscaler/externalscaler.proto), as protobufjs reads it. */

export const SERVICE = "/externalscaler.ExternalScaler";

export const MESSAGES = {
  nested: {
    ScaledObjectRef: {
      fields: {
        name: { type: "string", id: 1 },
        namespace: { type: "string", id: 2 },
        scalerMetadata: { keyType: "string", type: "string", id: 3 },
      },
    },
    IsActiveResponse: { fields: { result: { type: "bool", id: 1 } } },
    MetricSpec: {
      fields: {
        metricName: { type: "string", id: 1 },
        targetSize: { type: "int64", id: 2 },
        targetSizeFloat: { type: "double", id: 3 },
      },
    },
    GetMetricSpecResponse: { fields: { metricSpecs: { rule: "repeated", type: "MetricSpec", id: 1 } } },
    GetMetricsRequest: {
      fields: {
        scaledObjectRef: { type: "ScaledObjectRef", id: 1 },
        metricName: { type: "string", id: 2 },
      },
    },
    MetricValue: {
      fields: {
        metricName: { type: "string", id: 1 },
        metricValue: { type: "int64", id: 2 },
        metricValueFloat: { type: "double", id: 3 },
      },
    },
    GetMetricsResponse: { fields: { metricValues: { rule: "repeated", type: "MetricValue", id: 1 } } },
  },
};
