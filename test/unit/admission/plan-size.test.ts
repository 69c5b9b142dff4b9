/** Plans and patches that are larger than any should be: what a profile of the configuration can make of them. */
import t from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { admitObject } from "../../../src/admission/admit.ts";
import { review } from "../../../src/admission/review.ts";
import type { AdmitContext } from "../../../src/admission/admit.ts";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import { EMPTY_SNAPSHOT } from "../../../src/kinds/snapshot.ts";

/** Admission with a device profile that selects nodes by so many labels, each so long. */
function contextOf(labels: number, length: number): AdmitContext {
  const nodeSelector = Object.fromEntries(
    Array.from({ length: labels }, (_, index) => [`${"x".repeat(length)}/label-${index}`, "v".repeat(63)]),
  );
  const profile = { name: "large", resource: "example.com/device", nodeSelector };
  const text = JSON.stringify({ admission: { profiles: [profile] } });
  return { snapshot: EMPTY_SNAPSHOT, settings: loadConfig({ text, name: "test" }).admission };
}

const workload: KubeObject = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: {
    ...{ name: "w", namespace: "n", labels: { "tandem.sh/model": "m", "tandem.sh/role": "prefill" } },
    annotations: { "tandem.sh/accelerator": "large" },
  },
  spec: {
    replicas: 2,
    template: {
      metadata: {},
      spec: { containers: [{ name: "e", image: "vllm/vllm-openai", args: ["--model", "m"] }] },
    },
  },
};

function asked(context: AdmitContext): { reasons: string[]; patch: string | undefined; warnings: string } {
  const request = { uid: "u", operation: "CREATE", kind: { kind: "Deployment" }, namespace: "n", object: workload };
  const body = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", request };
  const { body: answer, verdicts } = review(body, "mutate", context);
  const response = answer["response"] as { allowed: boolean; patch?: string; warnings?: string[] };
  t.equal(response.allowed, true);
  const patch = response.patch === undefined ? undefined : Buffer.from(response.patch, "base64").toString();
  return { reasons: verdicts.map(({ reason }) => reason), patch, warnings: (response.warnings ?? []).join("\n") };
}

t.test("a workload whose plan could not be read again is left alone, and told", (t) => {
  for (const [labels, length, why] of [
    [64, 10, "more than 64 changes"],
    [60, 250, "more than 32 KiB"],
  ] as const) {
    const context = contextOf(labels, length);
    const { object, verdicts } = admitObject(workload, context);
    t.same(object, workload, why);
    t.match(
      verdicts.filter(({ outcome }) => outcome === "warned").map(({ reason }) => reason),
      ["AnnotationsFull"],
    );
    const answer = asked(context);
    t.equal(answer.patch, undefined);
    t.match(answer.warnings, /nothing is injected/);
  }
  t.end();
});

t.test("a patch larger than any should be is sent, and told of", (t) => {
  const large = asked(contextOf(50, 200));
  t.ok(Buffer.byteLength(large.patch ?? "") > 32768);
  t.ok(large.reasons.includes("PatchLarge"));
  t.match(large.warnings, /the patch has \d+ operations and \d{5} bytes/);
  const usual = asked(contextOf(5, 50));
  t.ok(usual.patch);
  t.notOk(usual.reasons.includes("PatchLarge"));
  t.end();
});
