/** Discovery of instances over several pods: whole and ready, or nothing. */
import t from "tap";
import type { Pod, StringMap } from "../../../src/kinds/kube.ts";
import { LABEL, LWS, STATUS } from "../../../src/kinds/names.ts";
import { endpointsOfAll } from "../../../src/workload/health.ts";

interface Given {
  readonly ready?: boolean;
  readonly labels?: StringMap;
  readonly annotations?: StringMap;
  readonly going?: boolean;
  readonly status?: object;
}

const pod = (rank: number, given: Given = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    ...{ name: `w-${rank}`, namespace: "a", uid: `u${rank}` },
    ...(given.going === true ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
    labels: {
      ...{ [LABEL.model]: "m", [LABEL.role]: "decode", [LABEL.nodeRank]: String(rank), [LABEL.instance]: "i" },
      ...given.labels,
    },
    annotations: { [STATUS.members]: "u0,u1", "tandem.sh/dp-mode": "hybrid", ...given.annotations },
  },
  spec: { containers: [{ name: "e", image: "vllm/vllm-openai:v0.15.0", args: ["--model", "m"] }] },
  status: {
    ...{ phase: "Running", podIP: `10.0.0.${rank}` },
    conditions: [{ type: "Ready", status: given.ready === false ? "False" : "True" }],
    containerStatuses: [
      { name: "e", restartCount: 0, state: { running: { startedAt: "2026-01-01T00:00:00Z" } }, ...given.status },
    ],
  },
});
const ready = (pods: readonly Pod[]): string[] =>
  endpointsOfAll(pods)
    .filter((one) => one.ready && !one.draining)
    .map(({ name }) => name);

t.test(
  "an instance that was not ready comes back by itself, also with the controller down; a broken one does not",
  (t) => {
    const drained = (why: string, isReady: boolean): Pod[] => [
      pod(0, { annotations: { [STATUS.drain]: why } }),
      pod(1, { annotations: { [STATUS.drain]: why }, ready: isReady }),
    ];
    t.same(ready(drained("instance-unready", false)), []);
    t.same(ready(drained("instance-unready", true)), ["w-0", "w-1"]);
    t.same(ready(drained("instance-broken", true)), []);
    t.same(ready(drained("true", true)), [], "drained by the autoscaler");
    t.end();
  },
);

t.test("an instance serves while every member is there and ready", (t) => {
  const again = { restartCount: 1, lastState: { terminated: { finishedAt: "2026-01-01T01:00:00Z" } } };
  t.same(ready([pod(0), pod(1)]), ["w-0", "w-1"]);
  t.same(ready([pod(0), pod(1, { ready: false })]), [], "not ready");
  t.same(ready([pod(0)]), [], "gone");
  t.same(ready([pod(0), pod(1, { going: true })]), [], "on its way out");
  t.same(ready([pod(0), pod(1, { status: again })]), [], "restarted under its peers");
  t.same(ready([pod(0), pod(1, { ready: false, labels: { [LABEL.instance]: "j" } })]), [], "one of two is elsewhere");
  t.equal(endpointsOfAll([pod(0), pod(1, { ready: false })]).length, 2, "they are known still");
  t.end();
});

t.test("pods that are instances of their own do not speak for each other", (t) => {
  const alone = { annotations: { [STATUS.members]: "" }, labels: { [LABEL.instance]: "" } };
  t.same(ready([pod(0, alone), pod(1, { ...alone, ready: false })]), ["w-0"]);
  t.end();
});

t.test("a group of a LeaderWorkerSet: old pods on their way out do not count", (t) => {
  const group = (rank: number, given: Given = {}): Pod => {
    const made = pod(rank, given);
    const { [STATUS.members]: taken, ...annotations } = made.metadata.annotations ?? {};
    t.ok(taken);
    return { ...made, metadata: { ...made.metadata, annotations: { ...annotations, [LWS.size]: "2" } } };
  };
  t.same(ready([group(0), group(1)]), ["w-0", "w-1"]);
  t.same(ready([group(0), group(1), group(1, { going: true, ready: false })]), ["w-0", "w-1"]);
  t.same(ready([group(0), group(1, { ready: false })]), []);
  t.end();
});
