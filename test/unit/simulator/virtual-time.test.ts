import fc from "fast-check";
import t from "tap";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";

t.test("tasks run in the order of their times, and of their making", (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 60 }), (delays) => {
      const time = new VirtualTime(100);
      const ran: { at: number; index: number }[] = [];
      delays.forEach((delay, index) => time.after(delay, () => ran.push({ at: time.now(), index })));
      time.drain();
      const expected = delays
        .map((delay, index) => ({ at: 100 + delay, index }))
        .sort((a, b) => a.at - b.at || a.index - b.index);
      t.same(ran, expected);
    }),
  );
  t.end();
});

t.test("cancelled tasks never run, and do not move time", (t) => {
  const time = new VirtualTime();
  const cancel = time.after(50, () => t.fail("ran"));
  time.after(10, () => cancel());
  time.drain();
  t.equal(time.monotonic(), 10);
  t.equal(time.step(), false);
  t.end();
});

t.test("a repeated task runs until it is cancelled, also by itself", (t) => {
  const time = new VirtualTime();
  let count = 0;
  const cancel = time.every(10, () => {
    count += 1;
    if (count === 3) cancel();
  });
  time.advance(1000);
  t.equal(count, 3);
  t.equal(time.now(), 1000);
  t.end();
});

t.test("advancing runs what is due and nothing else", (t) => {
  const time = new VirtualTime();
  const ran: number[] = [];
  for (const at of [5, 10, 11]) time.after(at, () => ran.push(at));
  time.advance(10);
  t.same(ran, [5, 10]);
  t.equal(time.now(), 10);
  t.end();
});

t.test("a loop without end is noticed", (t) => {
  const time = new VirtualTime();
  time.every(1, () => undefined);
  t.throws(() => time.drain(100), /still busy after 100/);
  t.end();
});
