/** Threads that tokenize, as the serving thread sees them: bounded, replaced, and never waited for in vain. */
import t from "tap";
import type { Job } from "../../../../src/router/tokenize/job.ts";
import type { FromTokenizer, ModelState, ToTokenizer } from "../../../../src/router/tokenize/messages.ts";
import { TokenizePool, type PoolListener } from "../../../../src/router/tokenize/pool.ts";
import { SILENT_LOG } from "../../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../../src/telemetry/metrics.ts";

const STATE: ModelState = { name: "m", ready: true, segments: true, chats: true };
const job = (text = "x"): Job => ({
  ...{ shape: "text", dialect: "vllm", scope: "" },
  members: [["prompt", Buffer.from(JSON.stringify(text))]],
});

interface FakeThread {
  readonly listener: PoolListener;
  readonly posted: ToTokenizer[];
  say(message: FromTokenizer): void;
}

function rig(threads = 1, queue = 3, models = ["m"]) {
  const seats: FakeThread[] = [];
  const logged: string[] = [];
  const say = (line: string): void => void logged.push(line);
  const pool = new TokenizePool({
    ...{ threads, queue, models, metrics: NO_METRICS, log: { ...SILENT_LOG, info: say, warn: say, error: say } },
    start: (_, listener) => {
      const posted: ToTokenizer[] = [];
      seats.push({ listener, posted, say: (message) => listener.heard(message) });
      return { post: (message) => void posted.push(message as ToTokenizer), stop: () => undefined };
    },
  });
  const state = (models = [STATE]): void => {
    for (const seat of seats) seat.say({ kind: "state", models, pieceBytes: 0 });
  };
  return { pool, seats, logged, state };
}

t.test("nobody is asked before the files are read, and no more than the queue holds", async (t) => {
  const { pool, seats, state } = rig();
  t.equal(pool.ask("m", job()), undefined);
  state();
  const asked = [1, 2, 3].map(() => pool.ask("m", job()));
  t.equal(pool.ask("m", job()), "full");
  const [seat] = seats;
  const [first, second] = seat?.posted ?? [];
  seat?.say({ kind: "done", id: second?.id ?? 0, ids: Int32Array.of(2) });
  seat?.say({ kind: "none", id: first?.id ?? 0, why: "untold" });
  t.same(await asked[1], Int32Array.of(2));
  t.equal(await asked[0], "untold");
  t.not(pool.ask("m", job()), "full", "there is room again");
  seat?.listener.restarted();
  t.equal(await asked[2], "failed", "what the old thread had is not waited for");
  t.equal(pool.ask("m", job()), undefined, "the new one reads its files first");
  state();
  const last = pool.ask("m", job());
  pool.stop();
  t.equal(await last, "failed");
});

t.test("prompts that begin alike go to one thread, unless it has far more to do", (t) => {
  const { pool, seats, state } = rig(3, 100);
  state();
  const texts = Array.from({ length: 60 }, (_, index) => `conversation ${index}`);
  for (const text of texts) void pool.ask("m", job(text));
  const counts = seats.map(({ posted }) => posted.length);
  t.ok(Math.max(...counts) - Math.min(...counts) <= 2, `${counts.join()} for each`);
  const alone = rig(3, 100);
  alone.state();
  for (let turn = 0; turn < 5; turn++) {
    void alone.pool.ask("m", job(`the same ${"x".repeat(600)} ${turn}`));
    for (const seat of alone.seats) for (const { id } of seat.posted) seat.say({ kind: "none", id, why: "untold" });
  }
  t.same(alone.seats.map(({ posted }) => posted.length).toSorted(), [0, 0, 5]);
  t.end();
});

t.test("names come before patterns", (t) => {
  const { pool } = rig(1, 1, ["qwen*", "qwen3-32b", "*-chat"]);
  t.equal(pool.entryOf("qwen3-32b"), "qwen3-32b");
  t.equal(pool.entryOf("qwen3-8b-chat"), "qwen*");
  t.equal(pool.entryOf("llama-chat"), "*-chat");
  t.equal(pool.entryOf("llama"), undefined);
  t.end();
});

t.test("changes of a model are told once", (t) => {
  const { logged, state } = rig();
  const problem = { ...STATE, ready: false, problem: "no such file" };
  for (const models of [[problem], [problem], [STATE], [STATE], [{ ...STATE, segments: false }]]) state(models);
  t.same(logged, [
    "tokenizer not read",
    "tokenizer ready",
    "tokenizer ready",
    "this tokenizer's pieces are not those of the whole: every prompt is tokenised whole",
  ]);
  t.end();
});
