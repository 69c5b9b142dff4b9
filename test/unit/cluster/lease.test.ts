import t from "tap";
import { createLease, LEASE_TIMES, type Lease } from "../../../src/cluster/lease.ts";
import { KubeError } from "../../../src/kinds/kube-error.ts";
import type { KubeObject } from "../../../src/kinds/kube.ts";
import type { KubeReader, KubeWriter } from "../../../src/ports.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";

/** One Lease with compare-and-swap; `down` cuts off a candidate, `history` is who held it. */
class Board {
  lease: KubeObject | undefined;
  version = 0;
  readonly down = new Set<string>();
  readonly history: string[] = [];

  client(who: string): KubeReader & KubeWriter {
    const check = (): void => {
      if (this.down.has(who)) throw new KubeError({ status: 0, reason: "Unreachable", message: "down" });
    };
    const store = (object: KubeObject): KubeObject => {
      this.version += 1;
      this.lease = structuredClone(object);
      this.lease.metadata.resourceVersion = String(this.version);
      const holder = spec(this.lease)["holderIdentity"] as string;
      if (this.history.at(-1) !== holder) this.history.push(holder);
      return structuredClone(this.lease);
    };
    return {
      get: async () => {
        check();
        return Promise.resolve(structuredClone(this.lease));
      },
      create: async (object: KubeObject) => {
        check();
        if (this.lease !== undefined) throw new KubeError({ status: 409, reason: "AlreadyExists", message: "" });
        return Promise.resolve(store(object));
      },
      patch: async (_ref: unknown, type: string, body: KubeObject) => {
        check();
        if (type !== "merge" || this.lease === undefined) throw new Error("unexpected patch");
        if (body.metadata.resourceVersion !== this.lease.metadata.resourceVersion)
          throw new KubeError({ status: 409, reason: "Conflict", message: "" });
        return Promise.resolve(store({ ...this.lease, spec: { ...spec(this.lease), ...spec(body) } }));
      },
    } as unknown as KubeReader & KubeWriter;
  }
}

const spec = (lease: KubeObject | undefined): Record<string, unknown> =>
  (lease?.["spec"] ?? {}) as Record<string, unknown>;

function candidate(board: Board, time: VirtualTime, identity: string, wallOffset = 0): Lease {
  const client = board.client(identity);
  return createLease({
    reader: client,
    writer: client,
    clock: { now: () => time.now() + wallOffset, monotonic: () => time.monotonic() },
    timers: time,
    random: { next: () => 0.5, id: () => "" },
    log: SILENT_LOG,
    namespace: "tandem-system",
    name: "tandem-controller",
    identity,
  });
}

/** Lets promises run after each step of time. */
async function pass(time: VirtualTime, ms: number, each: () => void = () => undefined): Promise<void> {
  for (let at = 0; at < ms; at += 250) {
    time.advance(250);
    for (let i = 0; i < 20; i++) await Promise.resolve();
    each();
  }
}

t.test("one of two leads; the other takes over only after the duration", async (t) => {
  const [board, time] = [new Board(), new VirtualTime(0)];
  const [a, b] = [candidate(board, time, "a"), candidate(board, time, "b")];
  await pass(time, 5000, () => t.notOk(a.isLeader() && b.isLeader()));
  t.equal(a.isLeader(), true);
  board.down.add("a");
  const since = time.now();
  let lost = 0;
  let taken = 0;
  await pass(time, 25_000, () => {
    if (!a.isLeader() && lost === 0) lost = time.now() - since;
    if (b.isLeader() && taken === 0) taken = time.now() - since;
    t.notOk(a.isLeader() && b.isLeader());
  });
  t.ok(lost <= LEASE_TIMES.renewMs, `a stopped after ${lost} ms`);
  t.ok(taken >= LEASE_TIMES.durationMs - 2000 && taken > lost, `b began after ${taken} ms`);
  t.equal(spec(board.lease)["leaseTransitions"], 1);
  await Promise.all([a.stop(), b.stop()]);
});

t.test("clocks an hour apart change nothing", async (t) => {
  const [board, time] = [new Board(), new VirtualTime(10_000_000)];
  const a = candidate(board, time, "a", -3_600_000);
  await pass(time, 2000);
  const b = candidate(board, time, "b", 3_600_000);
  await pass(time, 60_000, () => t.notOk(b.isLeader()));
  t.equal(a.isLeader(), true);
  t.same(board.history, ["a"]);
  await Promise.all([a.stop(), b.stop()]);
});

t.test("given back on stop, taken at the next look", async (t) => {
  const [board, time] = [new Board(), new VirtualTime(0)];
  const a = candidate(board, time, "a");
  await pass(time, 1000);
  const b = candidate(board, time, "b");
  await pass(time, 1000);
  const stopping = a.stop();
  await pass(time, 250);
  await stopping;
  t.equal(a.isLeader(), false);
  await pass(time, 2500);
  t.equal(b.isLeader(), true);
  t.same(board.history, ["a", "", "b"]);
  await b.stop();
});

t.test("a holder that slept through its deadline comes back as no leader", async (t) => {
  const [board, time] = [new Board(), new VirtualTime(0)];
  let slept = 0;
  const client = board.client("a");
  const a = createLease({
    reader: client,
    writer: client,
    clock: { now: () => 0, monotonic: () => time.monotonic() + slept },
    timers: time,
    random: { next: () => 0.5, id: () => "" },
    log: SILENT_LOG,
    namespace: "n",
    name: "l",
    identity: "a",
  });
  await pass(time, 1000);
  t.equal(a.isLeader(), true);
  slept = 60_000;
  t.equal(a.isLeader(), false, "before any timer of its own has run");
  await a.stop();
});

t.test("times are written as the API server reads them", async (t) => {
  const [board, time] = [new Board(), new VirtualTime(1_700_000_000_123)];
  const a = candidate(board, time, "a");
  await pass(time, 500);
  t.match(spec(board.lease), {
    holderIdentity: "a",
    leaseDurationSeconds: 15,
    leaseTransitions: 0,
    renewTime: /^2023-11-14T22:13:20\.373000Z$/,
  });
  await a.stop();
});
