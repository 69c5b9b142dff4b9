/** `autoscaler` of the configuration: how often is decided, who acts, and how gently instances are given up. */
import Type from "typebox";
import { closed, integer, listen, text } from "./fields.ts";
import { AutoscalerSources } from "./observing.ts";

export const Autoscaler = Type.Object(
  {
    intervalMs: integer(5000, 1000, 60000, "Time from one decision on every group to the next."),
    lease: text("tandem-autoscaler", "Lease of the acting replica, in `controller.namespace`; empty: always act."),
    namespaces: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description: "Namespaces whose workloads are scaled; empty: every one, or every one that has opted in.",
    }),
    writesPerSecond: integer(
      5,
      1,
      50,
      "Most writes to the API server within any second; three fifths of them for what is not urgent.",
    ),
    ...AutoscalerSources,
    keda: Type.Object(
      {
        listen: listen(
          "",
          "gRPC address at which KEDA asks for replicas, usually of port 9004, in plain HTTP/2; it asks nobody who calls: let only KEDA's operator reach it.",
        ),
      },
      { ...closed, description: "External scaler of KEDA." },
    ),
    drain: Type.Object(
      {
        quietMs: integer(
          5000,
          0,
          600000,
          "An engine that is to go must have been idle for so long: a decode leg follows its prefill leg by seconds.",
        ),
        kvLeaseMs: integer(
          30000,
          0,
          600000,
          "An idle prefill engine that still holds KV is kept for so long, for decode engines to fetch it.",
        ),
      },
      { ...closed, description: "Giving up instances." },
    ),
  },
  { ...closed, description: "Autoscaler." },
);
