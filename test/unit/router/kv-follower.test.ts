/** When an engine is dialled, asked again and let go: sockets by hand, time by hand. */
import t from "tap";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { EventBatch } from "../../../src/router/kv/events/batch.ts";
import { newCounts } from "../../../src/router/kv/events/cache.ts";
import { TokenChain } from "../../../src/router/kv/events/chain.ts";
import { EventDecoder } from "../../../src/router/kv/events/decode.ts";
import { Follower, type WireEvents } from "../../../src/router/kv/events/follower.ts";
import type { EventTarget } from "../../../src/router/kv/events/messages.ts";
import { Numbers } from "../../../src/router/kv/events/numbers.ts";
import { Roots } from "../../../src/router/kv/events/roots.ts";
import { EventStream } from "../../../src/router/kv/events/stream.ts";
import { turns } from "../../../src/router/kv/events/turns.ts";
import { HolderTable } from "../../../src/router/kv/table.ts";
import { EngineModel, framesOf, numbered, ROUTER_BLOCK, type Sent } from "../../support/events/engine-model.ts";

interface Dialled extends WireEvents {
  readonly type: "SUB" | "DEALER";
  readonly at: number;
  isClosed: boolean;
  readonly sent: Uint8Array[];
}

function rig(more: Partial<EventTarget> = {}, turn = turns(8)) {
  const time = new VirtualTime();
  const dialled: Dialled[] = [];
  const chain = new TokenChain(ROUTER_BLOCK);
  const numbers = new Numbers(new HolderTable({ slots: 1024, endpoints: 64, rows: 64 }), () => 5);
  const room = { numbers, chain, roots: new Roots(chain), batch: new EventBatch(), decoder: new EventDecoder() };
  const limits = { keys: 1000, blocks: 1000, words: 1000 };
  const place = { host: "h", port: 1, replayPort: 2, ranks: 1, guessed: false, capacityTokens: 16_000 };
  const follower = new Follower(
    { id: "e", bootId: "1", ...place, ...more },
    0,
    (ask) => new EventStream({ ...room, counts: newCounts() }, { limits, turnover: 1000, replays: true, ask }),
    {
      ...{ clock: time, timers: time, turn, random: { next: () => 0.5, id: () => "" }, pace: () => 0 },
      dial: ({ type }, events) => {
        const wire: Dialled = { ...events, type, at: time.now(), isClosed: false, sent: [] };
        dialled.push(wire);
        return { send: (bytes) => void wire.sent.push(bytes), close: () => (wire.isClosed = true) };
      },
    },
  );
  const last = (type: "SUB" | "DEALER"): Dialled => dialled.findLast((wire) => wire.type === type)!;
  const again = ({ sequence, payload }: Sent): void =>
    last("DEALER").message(...framesOf(Buffer.alloc(0), numbered(sequence), payload));
  const look = (seconds: number): void => {
    for (let tick = 0; tick < 5 * seconds; tick++) {
      time.advance(200);
      follower.look();
    }
  };
  const dealers = (): Dialled[] => dialled.filter(({ type }) => type === "DEALER");
  return { time, dialled, follower, last, again, look, dealers };
}

t.test("a replay that never ends is ended, and its turn serves others", (t) => {
  const turn = turns(1);
  const [endless, other] = [rig({}, turn), rig({}, turn)];
  const engine = new EngineModel(ROUTER_BLOCK, 10_000);
  const sent = engine.store(0, 0, 2)!;
  endless.last("SUB").ready();
  other.last("SUB").ready();
  t.equal(other.dealers().length, 0, "it waits for its turn");
  endless.last("DEALER").ready();
  // The same message once a second, for ever: never silent, never done.
  for (let second = 0; second < 600 && other.dealers().length === 0; second++) {
    endless.time.advance(1000);
    endless.again(sent);
    endless.last("DEALER").pace(100);
  }
  t.equal(other.dealers().length, 1);
  t.end();
});

t.test("who refuses a replay is asked again after a pause, and later once more", (t) => {
  const r = rig();
  r.last("SUB").ready();
  for (let attempt = 0; attempt < 3; attempt++) {
    r.last("DEALER").closed("refused");
    r.time.advance(5000);
  }
  const times = r.dealers().map(({ at }) => at);
  t.equal(times.length, 3);
  t.ok(times[1]! >= 100 && times[2]! >= times[1]! + 200, `at ${times.join()}`);
  t.match(r.follower.stream.sequence, { state: "blind", cause: "lost" });
  r.look(32);
  t.equal(r.dealers().length, 4);
  const engine = new EngineModel(ROUTER_BLOCK, 10_000);
  r.last("DEALER").ready();
  r.again(engine.store(0, 0, 2)!);
  r.last("DEALER").message(...framesOf(Buffer.alloc(0), numbered(-1), Buffer.alloc(0)));
  t.equal(r.follower.stream.sequence.state, "live");
  t.equal(r.follower.stream.held.keys, 2);
  t.end();
});

t.test("an engine that is started anew is dialled within seconds, however long it was away", (t) => {
  const r = rig();
  for (let minute = 0; minute < 10; minute++) {
    r.last("SUB").closed("refused");
    const before = r.time.now();
    const count = r.dialled.length;
    while (r.dialled.length === count) r.time.advance(100);
    t.ok(r.time.now() - before <= 7500, `${r.time.now() - before} ms`);
  }
  t.end();
});

t.test("an engine of which nobody said that it publishes is left alone for longer", (t) => {
  const r = rig({ guessed: true });
  for (let attempt = 0; attempt < 10; attempt++) {
    r.last("SUB").closed("refused");
    const count = r.dialled.length;
    while (r.dialled.length === count) r.time.advance(1000);
  }
  t.ok(r.time.now() > 600_000);
  t.end();
});

t.test("an engine that goes while its messages are on their way takes nothing along", (t) => {
  const r = rig();
  r.last("SUB").ready();
  const dealer = r.last("DEALER");
  dealer.ready();
  r.follower.stop();
  t.ok(dealer.isClosed && r.last("SUB").isClosed);
  const engine = new EngineModel(ROUTER_BLOCK, 10_000);
  r.again(engine.store(0, 0, 2)!);
  r.time.advance(600_000);
  t.equal(r.dialled.length, 2, "nobody dials again");
  t.end();
});
