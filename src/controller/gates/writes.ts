/** What is written to the pods of a gang: that they may go, and where; since when they wait; or that they go. */
import { annotationOf, keyOf, type Pod } from "../../kinds/kube.ts";
import { GATE, STATUS, VOLCANO } from "../../kinds/names.ts";
import { refOf } from "../../kinds/resource.ts";
import { skipped, type Verdict } from "../../kinds/verdict.ts";
import { placementOf } from "../../gang/waiting.ts";
import { confined } from "../../topology/confine.ts";
import type { DomainExpression } from "../../topology/expression.ts";
import type { Action } from "../action.ts";

export interface Going {
  readonly node: string | undefined;
  readonly at: number;
  readonly expression: DomainExpression | undefined;
  readonly required: boolean;
  /** PodGroup of its instance, where there is one for each. */
  readonly groupName: string | undefined;
}

/** Gate, domain and reservation in one patch, under the version that was read: no pod goes with half of them. */
export function liftAction(pod: Pod, { node, at, expression, required, groupName }: Going, verdict: Verdict): Action {
  const { uid, resourceVersion } = pod.metadata;
  const gates = (pod.spec.schedulingGates ?? []).filter(({ name }) => name !== GATE.gang);
  const affinity = expression === undefined ? undefined : confined(pod.spec.affinity, expression, required);
  const group = groupName === undefined ? {} : { [VOLCANO.groupName]: groupName };
  const spec = { schedulingGates: gates, ...(affinity === undefined ? {} : { affinity }) };
  return patch(pod, `gate/${keyOf(pod)}`, verdict, (written) => {
    const annotations = {
      [STATUS.placement]: placementOf({ node, at: written(at) }),
      [STATUS.waiting]: null,
      ...group,
    };
    return { metadata: { uid, resourceVersion, annotations }, spec };
  });
}

/** Once, while it waits: time alone says nothing of it, for other gates may have held it before. */
export const waitAction = (pod: Pod, now: number): readonly Action[] =>
  annotationOf(pod, STATUS.waiting) !== undefined
    ? []
    : [
        patch(
          pod,
          `waiting/${keyOf(pod)}`,
          skipped("GateHeld", "waits for room", { subject: keyOf(pod) }),
          (written) => ({
            metadata: {
              uid: pod.metadata.uid,
              annotations: { [STATUS.waiting]: new Date(written(now)).toISOString() },
            },
          }),
        ),
      ];

/** Under the version that was read: a pod that was bound, or began to serve, while our store was behind stays. */
export const giveBackAction = (pod: Pod, verdict: Verdict): Action => ({
  do: "remove",
  key: `gang/${keyOf(pod)}`,
  verdict,
  about: [],
  kind: "Pod",
  ref: refOf(pod),
  uid: pod.metadata.uid,
  version: pod.metadata.resourceVersion,
});

/** The body, in which each time goes through `written`. */
type Body = (written: (time: number) => number) => object;

const patch = (pod: Pod, key: string, verdict: Verdict, body: Body): Action => ({
  do: "patch",
  key,
  verdict,
  about: [],
  kind: "Pod",
  ref: refOf(pod),
  type: "merge",
  body: body((time) => time),
  timeless: body(() => 0),
});
