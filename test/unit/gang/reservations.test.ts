import t from "tap";
import { DeviceLedger, podDemand } from "../../../src/gang/devices.ts";
import { Holds, reservedNode } from "../../../src/gang/reservations.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import { STATUS } from "../../../src/kinds/names.ts";
import { node, pod, type PodOptions } from "../../support/placement.ts";

const GPU = "nvidia.com/gpu";
const START = Date.parse("2026-01-01T00:00:00Z");
const BIND_MS = 60_000;

const refusedPod = {
  phase: "Pending",
  conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable" }],
};

interface LetGo extends PodOptions {
  readonly placement?: string;
  readonly status?: Pod["status"];
  readonly deleted?: boolean;
}

function letGo(name: string, on: string | null, more: LetGo = {}): Pod {
  const { placement = JSON.stringify({ node: on, at: new Date(START).toISOString() }), status, deleted } = more;
  const made = pod(name, more);
  made.metadata.annotations = { [STATUS.placement]: placement };
  if (deleted === true) made.metadata.deletionTimestamp = "2026-01-01T00:00:01Z";
  return status === undefined ? made : { ...made, status };
}

const at = (seconds: number): { now: number; bindMs: number } => ({ now: START + seconds * 1000, bindMs: BIND_MS });

t.test("who reserves which node, and for how long", (t) => {
  const rows: [what: string, pod: Pod, seconds: number, node: string | undefined][] = [
    ["let go", letGo("p", "n"), 0, "n"],
    ["let go, not tried yet", letGo("p", "n"), 599, "n"],
    ["never tried at all", letGo("p", "n"), 600, undefined],
    ["refused by the scheduler", letGo("p", "n", { status: refusedPod }), 119, "n"],
    ["refused, and nobody has given it back", letGo("p", "n", { status: refusedPod }), 120, undefined],
    ["let go without a place", letGo("p", null), 0, undefined],
    ["bound", letGo("p", "n", { nodeName: "m" }), 0, undefined],
    ["still gated", letGo("p", "n", { spec: { schedulingGates: [{ name: "tandem.sh/gang" }] } }), 0, undefined],
    ["ended", letGo("p", "n", { status: { phase: "Failed" } }), 0, undefined],
    ["on its way out", letGo("p", "n", { deleted: true }), 0, undefined],
    ["not ours", letGo("p", "n", { model: null }), 0, undefined],
    ["garbage", letGo("p", "n", { placement: "{" }), 0, undefined],
    ["an array", letGo("p", "n", { placement: "[1]" }), 0, undefined],
    ["no time", letGo("p", "n", { placement: '{"node":"n"}' }), 0, undefined],
    ["a node that is no text", letGo("p", "n", { placement: '{"node":{},"at":"2026-01-01T00:00:00Z"}' }), 0, undefined],
  ];
  for (const [what, given, seconds, expected] of rows) t.equal(reservedNode(given, at(seconds)), expected, what);
  t.end();
});

const holdsOf = (...pods: readonly Pod[]): Holds => {
  const holds = new Holds(BIND_MS, ({ spec }) => podDemand(spec));
  for (const one of pods) holds.come(one);
  return holds;
};

function ledgerOf(...pods: readonly Pod[]): DeviceLedger {
  const ledger = new DeviceLedger();
  ledger.update([node("n"), node("m")], pods);
  return ledger;
}

t.test("what is free beside the holds of others", (t) => {
  const [mine, other] = [letGo("mine", "n"), letGo("other", "n", { gpus: 2 })];
  const holds = holdsOf(mine, other);
  const ledger = ledgerOf(pod("bound", { gpus: 1, nodeName: "n" }));
  t.equal(holds.beside(ledger).free("n", GPU), 1);
  t.equal(holds.beside(ledger, "uid-mine").free("n", GPU), 5);
  t.equal(holds.beside(ledger).free("m", GPU), 8);
  t.same(
    holds.on("n", "uid-mine").map(({ pod }) => pod.metadata.name),
    ["other"],
  );
  t.end();
});

t.test("an assumption ends when the pod is seen bound; until then the reservation stands beside it", (t) => {
  const mine = letGo("mine", "n");
  const holds = holdsOf(mine);
  const free = (): number[] => ["n", "m"].map((name) => holds.beside(ledgerOf()).free(name, GPU));
  holds.assume(mine, "n");
  t.same(free(), [4, 8], "on one node it counts once");
  t.equal([...holds.all()].length, 1);
  holds.assume(mine, "m");
  t.equal(holds.nodeOf("uid-mine"), "m");
  t.same(free(), [4, 4], "the binding may fail");
  t.equal([...holds.all()].length, 2);
  holds.leave(mine);
  holds.come(letGo("mine", "n", { nodeName: "m" }));
  t.equal(holds.size, 0);
  t.same(free(), [8, 8], "the node counts it as used");
  t.end();
});

t.test("an assumption that is released leaves the reservation", (t) => {
  const mine = letGo("mine", "n");
  const holds = holdsOf(mine);
  holds.assume(mine, "m");
  holds.release("uid-mine");
  t.equal(holds.nodeOf("uid-mine"), "n");
  t.end();
});

t.test("nothing is left of pods that are gone, changed or lapsed", (t) => {
  const [a, b, c] = [letGo("a", "n"), letGo("b", "n", { status: refusedPod }), letGo("c", "m")];
  const holds = holdsOf(a, b, c);
  t.equal(holds.size, 3);
  holds.leave(a);
  t.equal(holds.size, 2);
  const before = holds.version;
  holds.expire(START + 119_000);
  t.equal(holds.version, before, "nothing lapses early");
  holds.expire(START + 120_000);
  t.equal(holds.nodeOf("uid-b"), undefined);
  t.not(holds.version, before);
  holds.leave(b);
  holds.leave(c);
  t.equal(holds.size, 0);
  t.same(holds.on("n"), []);
  t.end();
});

t.test("rings count what is held", (t) => {
  const holds = holdsOf(letGo("a", "n", { gpus: 3 }));
  const rings = { size: 4, free: [4, 4] };
  const room = { free: () => 8, allocatable: () => 8, ringed: true, rings: () => rings };
  t.same(holds.beside(room).rings?.("n", GPU)?.free.toSorted(), [1, 4]);
  t.equal(holds.beside(room, "uid-a").rings?.("n", GPU)?.free.join(), "4,4");
  t.end();
});
