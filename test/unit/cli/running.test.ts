import { EventEmitter } from "node:events";
import t from "tap";
import { createStarted, runUntilSignal, STOP_DEADLINE_MS } from "../../../src/cli/roles/running.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test("what was started stops in reverse order, once, and one failure stops no other", async (t) => {
  const order: string[] = [];
  const started = createStarted(SILENT_LOG);
  for (const name of ["pages", "cluster", "roles"])
    started.add(() => {
      order.push(name);
      return name === "cluster" ? Promise.reject(new Error("gone")) : Promise.resolve();
    });
  await started.stop();
  await started.stop();
  t.same(order, ["roles", "cluster", "pages"]);
});

interface Scene {
  readonly signals: EventEmitter;
  readonly events: string[];
  readonly finish: () => void;
  /** What the deadline timer would do; undefined once it is cancelled. */
  readonly deadline: () => { ms: number; task: () => void } | undefined;
  readonly ended: Promise<void>;
}

function scene(start: () => Promise<void> = () => Promise.resolve()): Scene {
  const signals = new EventEmitter();
  const events: string[] = [];
  let finish = (): void => undefined;
  let deadline: { ms: number; task: () => void } | undefined;
  const ended = runUntilSignal({
    signals,
    log: SILENT_LOG,
    timers: {
      after: (ms, task) => {
        deadline = { ms, task };
        return () => (deadline = undefined);
      },
      every: () => () => undefined,
    },
    start,
    stop: () => {
      events.push("stop");
      return new Promise((resolve) => (finish = resolve));
    },
    abandon: () => events.push("abandon"),
  });
  return { signals, events, ended, finish: () => finish(), deadline: () => deadline };
}

t.test("the first signal stops in order and cancels its deadline", async (t) => {
  const { signals, events, ended, finish, deadline } = scene();
  t.same(events, []);
  signals.emit("SIGTERM", "SIGTERM");
  await turn();
  t.same(events, ["stop"]);
  t.equal(deadline()?.ms, STOP_DEADLINE_MS);
  finish();
  await ended;
  t.same(events, ["stop"]);
  t.equal(deadline(), undefined);
});

t.test("a second signal, of the same kind or another, ends the process at once", async (t) => {
  for (const second of ["SIGTERM", "SIGINT"]) {
    const { signals, events } = scene();
    signals.emit("SIGTERM", "SIGTERM");
    await turn();
    signals.emit(second, second);
    t.same(events, ["stop", "abandon"], second);
  }
});

t.test("a stop that hangs is abandoned at the deadline", async (t) => {
  const { signals, events, deadline } = scene();
  signals.emit("SIGINT", "SIGINT");
  await turn();
  deadline()?.task();
  t.same(events, ["stop", "abandon"]);
});

t.test("a signal during the start waits for it, and is not lost", async (t) => {
  let begun = (): void => undefined;
  const { signals, events } = scene(() => new Promise((resolve) => (begun = resolve)));
  signals.emit("SIGTERM", "SIGTERM");
  await turn();
  t.same(events, []);
  begun();
  await turn();
  t.same(events, ["stop"]);
});

t.test("a start that fails is told, and nothing waits for a signal", async (t) => {
  const { events, ended } = scene(() => Promise.reject(new Error("no port")));
  await t.rejects(ended, { message: "no port" });
  t.same(events, []);
});
