import fc from "fast-check";
import t from "tap";
import { createBackoff } from "../../../src/autoscaler/act/backoff.ts";
import { createThrottle, NotWritten, type Throttle, type Urgency } from "../../../src/autoscaler/act/throttle.ts";
import { KubeError } from "../../../src/kinds/kube-error.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";

interface Rig {
  readonly time: VirtualTime;
  readonly throttle: Throttle;
  readonly sent: { readonly at: number; readonly name: string }[];
  leading: boolean;
  send: (urgency: Urgency, name: string) => Promise<string>;
  pass: (ms: number) => Promise<void>;
}

function rig(perSecond = 5): Rig {
  const time = new VirtualTime(0);
  const made: Rig = {
    time,
    leading: true,
    sent: [],
    throttle: createThrottle({ clock: time, timers: time, perSecond, mayWrite: () => made.leading }),
    send: (urgency, name) =>
      made.throttle
        .write(urgency, () => Promise.resolve(void made.sent.push({ at: time.now(), name })))
        .then(
          () => "sent",
          (error: unknown) => (error instanceof NotWritten ? "not written" : "failed"),
        ),
    pass: async (ms) => {
      for (let at = 0; at < ms; at += 1) {
        for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
        time.advance(1);
      }
    },
  };
  return made;
}

t.test("at most so many in any second, whenever they are asked for", async (t) => {
  const asked = fc.array(fc.tuple(fc.nat(400), fc.constantFrom<Urgency>("urgent", "ordinary")), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 6 }), asked, async (perSecond, writes) => {
      const { send, pass, sent } = rig(perSecond);
      const all: Promise<string>[] = [];
      for (const [gap, urgency] of writes) {
        all.push(send(urgency, urgency));
        await pass(gap);
      }
      await pass(12_000);
      if (sent.length !== all.length) throw new Error(`${sent.length} of ${all.length} were sent`);
      sent.forEach(({ at }, index) => {
        const before = sent[index - perSecond];
        if (before !== undefined && at - before.at < 1000)
          throw new Error(`${perSecond + 1} from ${before.at} to ${at}`);
      });
    }),
    { numRuns: 20 },
  );
  t.pass();
});

t.test("what is not answered keeps its place, and a second more", async (t) => {
  const { time, throttle, send, pass, sent } = rig(2);
  let answer: () => void = () => undefined;
  const slow = throttle.write("urgent", () => new Promise<void>((resolve) => (answer = resolve)));
  await pass(2);
  for (const name of ["a", "b", "c"]) void send("urgent", name);
  await pass(1998);
  t.same(
    sent.map(({ at, name }) => `${name} ${at}`),
    ["a 2", "b 1002"],
    "one place is left",
  );
  answer();
  await slow;
  await pass(2);
  void send("urgent", "d");
  await pass(1100);
  t.ok(time.now() > 3000);
  t.same(
    sent.slice(2).map(({ at }) => at),
    [2002, 3000],
  );
});

t.test("what is withheld at the last moment was not written, and leaves its place to others at once", async (t) => {
  const { throttle, send, pass, sent } = rig(1);
  const withheld = new KubeError({ status: 0, reason: "Withheld", message: "not sent" });
  const outcome = await throttle.write("urgent", () => Promise.reject(withheld)).catch((error: unknown) => error);
  t.ok(outcome instanceof NotWritten);
  void send("urgent", "a");
  await pass(2);
  t.equal(sent.length, 1);
});

t.test("others leave room for urgent ones, which go first", async (t) => {
  const { send, pass, sent, throttle } = rig();
  for (let at = 0; at < 6; at += 1) void send("ordinary", `o${at}`);
  void send("urgent", "u0");
  void send("urgent", "u1");
  void send("urgent", "u2");
  t.notOk(throttle.isFree());
  await pass(2);
  t.same(
    sent.map(({ name }) => name),
    ["o0", "o1", "o2", "u0", "u1"],
  );
  await pass(1100);
  t.same(
    sent.slice(5).map(({ name }) => name),
    ["u2", "o3", "o4", "o5"],
  );
});

t.test("who does not lead by then writes nothing, and after the end nobody does", async (t) => {
  const made = rig(1);
  const [first, second, third] = [made.send("urgent", "a"), made.send("urgent", "b"), made.send("urgent", "c")];
  await made.pass(10);
  made.leading = false;
  await made.pass(1500);
  await made.throttle.stop();
  t.same(await Promise.all([first, second, third, made.send("urgent", "d")]), [
    "sent",
    "not written",
    "not written",
    "not written",
  ]);
  t.equal(made.sent.length, 1);
});

t.test("what failed waits longer each time, at most a quarter of a minute", (t) => {
  const backoff = createBackoff();
  t.ok(backoff.due("a", 0));
  const waits = [1, 2, 3, 4, 5, 6].map(() => {
    backoff.failed("a", 0, 1);
    let wait = 0;
    while (!backoff.due("a", wait)) wait += 100;
    return wait;
  });
  t.same(waits, [1000, 2000, 4000, 8000, 15_000, 15_000]);
  backoff.failed("b", 0, 0);
  t.ok(backoff.due("b", 500), "jitter halves at most");
  backoff.succeeded("a");
  t.ok(backoff.due("a", 0));
  backoff.keep(new Set());
  t.ok(backoff.due("b", 0));
  t.end();
});

t.test("what the server asks to wait for is waited for, success or not; at most half a minute", (t) => {
  const backoff = createBackoff();
  backoff.held("a", 0, 4000);
  backoff.succeeded("a");
  t.ok(backoff.isHeld("a", 3999));
  t.notOk(backoff.due("a", 3999));
  t.ok(backoff.due("a", 4000));
  backoff.held("a", 0, 3_600_000);
  t.ok(backoff.due("a", 30_000));
  backoff.held("a", 0, 3_600_000);
  backoff.keep(new Set());
  t.ok(backoff.due("a", 0));
  t.end();
});
