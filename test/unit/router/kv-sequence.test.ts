/** The order of one engine's messages where it matters what comes between a question and its answer. */
import t from "tap";
import { StreamSequence } from "../../../src/router/kv/events/sequence.ts";

interface Rig {
  readonly sequence: StreamSequence;
  readonly applied: string[];
  readonly asked: number[];
  live(at: number, time?: number): void;
  again(at: number, time?: number): void;
}

function rig(): Rig {
  const applied: string[] = [];
  const asked: number[] = [];
  const sequence = new StreamSequence(
    {
      apply: (payload) => {
        applied.push(Buffer.from(payload).toString());
        return { ok: true, whole: false };
      },
      clear: () => applied.push("clear"),
      replay: (from) => asked.push(from),
    },
    true,
  );
  const message = (at: number, time: number) => ({ sequence: at, time, payload: Buffer.from(String(at)) });
  return {
    ...{ sequence, applied, asked },
    live: (at, time = at) => sequence.live(message(at, time)),
    again: (at, time = at) => sequence.replayed(message(at, time)),
  };
}

/** Live, with messages 0 and 1 applied. */
function following(): Rig {
  const r = rig();
  r.sequence.connected();
  r.again(0);
  r.again(1);
  r.sequence.replayEnded();
  return r;
}

t.test("while it is asked whether all had come, what comes in order is believed at once", (t) => {
  const r = following();
  r.sequence.confirm();
  t.same(r.asked, [0, 1]);
  r.live(2);
  t.same(r.applied, ["0", "1", "2"], "it shows that nothing was missing");
  // The answer that was under way says nothing new.
  r.again(1);
  r.again(2);
  r.sequence.replayEnded();
  r.live(3);
  t.same(r.applied, ["0", "1", "2", "3"]);
  t.equal(r.sequence.state, "live");
  t.end();
});

t.test("and what shows a gap makes it known at once that something is missing", (t) => {
  const r = following();
  r.sequence.confirm();
  r.live(3);
  t.match(r.sequence, { state: "replaying", cause: "gap" });
  t.same(r.asked, [0, 1, 1]);
  r.again(1);
  r.again(2);
  r.sequence.replayEnded();
  t.same(r.applied, ["0", "1", "2", "3"]);
  t.equal(r.sequence.state, "live");
  t.end();
});

t.test("a replay that broke off goes on where it was, and notices another publisher", (t) => {
  const r = rig();
  r.sequence.connected();
  for (const at of [0, 1, 2]) r.again(at);
  r.sequence.replayFailed();
  t.same(r.asked, [0, 2]);
  r.again(2, 99);
  t.same(r.applied, ["0", "1", "2", "clear"], "the message that was applied last has another time");
  t.same(r.asked, [0, 2, 0]);
  t.end();
});

t.test("an engine that answers no replay is asked again later", (t) => {
  const r = rig();
  r.sequence.connected();
  for (let at = 0; at < 3; at++) r.sequence.replayFailed();
  t.match(r.sequence, { state: "blind", cause: "lost" });
  r.live(5);
  r.live(6);
  t.equal(r.sequence.state, "blind", "nobody knows what was before");
  const before = r.asked.length;
  r.sequence.retry();
  t.same(r.asked.slice(before), [0], "from the start: all that the engine kept");
  for (let at = 0; at <= 6; at++) r.again(at);
  r.sequence.replayEnded();
  t.match(r.sequence, { state: "live", cause: "complete" });
  r.live(7);
  t.equal(r.applied.at(-1), "7");
  t.end();
});

t.test("what the engine has no more is not asked for in vain", (t) => {
  const r = rig();
  r.sequence.connected();
  r.again(5);
  r.sequence.replayEnded();
  t.match(r.sequence, { state: "blind", cause: "lost" });
  const before = r.asked.length;
  r.sequence.retry();
  t.equal(r.asked.length, before);
  t.end();
});
