/** Threads that crash, end or hang are started again, told of once and counted; what they are told meanwhile is lost. */
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { createPorts } from "../../../src/cli/roles/ports.ts";
import { startThread } from "../../../src/cli/roles/threads.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Log, Thread } from "../../../src/ports.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";

const LIMITS = { silentMs: 600_000, firstPauseMs: 20, longestPauseMs: 100, steadyMs: 600_000 };
/** Short enough to wait for; on a starved machine a thread that runs well may be taken for one that hangs. */
const SHORT = { ...LIMITS, silentMs: 3000 };

interface Rig {
  readonly thread: Thread;
  readonly heard: unknown[];
  readonly logged: string[];
  readonly restarts: () => number;
  readonly page: () => Promise<string>;
}

/** Born in each of these ways, one after another, and at last well. */
function rig(t: Test, ...ways: string[]): Rig {
  const [heard, logged]: [unknown[], string[]] = [[], []];
  const log: Log = { ...SILENT_LOG, error: (line, fields) => logged.push(`${line} ${JSON.stringify(fields)}`) };
  const ports = createPorts(loadConfig({}), log);
  let restarts = 0;
  const thread = startThread(
    {
      name: "test",
      entry: new URL("../../support/failing-thread.ts", import.meta.url),
      data: () => ({ way: ways.shift() ?? "well" }),
      heard: (message) => heard.push(message),
      restarted: () => (restarts += 1),
      limits: ways.includes("hangs") ? SHORT : LIMITS,
    },
    ports,
  );
  t.teardown(() => thread.stop());
  return { thread, heard, logged, restarts: () => restarts, page: () => ports.metrics.page() };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

for (const [way, cause] of [
  ["throws", "crashed"],
  ["ends", "crashed"],
  ["hangs", "hung"],
] as const)
  t.test(`a thread that ${way} is started again`, async (t) => {
    const { thread, heard, logged, restarts, page } = rig(t, way, way);
    await until(() => heard.includes("well"));
    t.ok(way === "hangs" ? restarts() >= 2 : restarts() === 2, "twice, and each time the other side is told");
    thread.post("hello");
    await until(() => heard.includes("hello"));
    t.equal(logged.length, 1, "told of once");
    t.match(logged[0], new RegExp(cause));
    t.match(await page(), `tandem_thread_restarts_total{thread="test",cause="${cause}"} ${restarts()}`);
    t.end();
  });

t.test("a thread that was stopped stays so", async (t) => {
  const { thread, heard, restarts, logged } = rig(t);
  await until(() => heard.length > 0);
  thread.stop();
  const before = heard.length;
  await sleep(200);
  t.equal(heard.length, before);
  t.same([restarts(), logged], [0, []]);
  t.end();
});
