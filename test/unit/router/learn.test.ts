/** Constants of the cost, learned from simulated times whose constants are known; and all that must not teach anything. */
import t, { type Test } from "tap";
import { loadConfig } from "../../../src/config/load.ts";
import { ownPrefillMs, type CostConstants } from "../../../src/router/pick/cost.ts";
import { CostLearner, type PrefillSeen } from "../../../src/router/pick/learn.ts";
import { Regression } from "../../../src/router/pick/regression.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";
import { seededRandom } from "../../../src/simulator/random.ts";

const configured = loadConfig({}).router.cost;
/** Llama-3.1-8B on one H200, a sixth of what is configured. */
const TRUE: CostConstants = { ...configured, prefillMsPerToken: 0.01518, prefillMsPerTokenSquared: 4.21e-7 };
const SERVICE = "/m";

function rig() {
  const time = new VirtualTime();
  const slow = new Map<string, number>();
  const learner = new CostLearner(configured, time, (endpoint, slowness) => slow.set(endpoint, slowness));
  const random = seededRandom(1);
  const jitter = (): number => 0.9 + 0.2 * random.next();
  /** A prompt of random length, alone on its endpoint, which is so many times slower. */
  const prompt = (endpoint = "a", times = 1, more: Partial<PrefillSeen> = {}): PrefillSeen => {
    const freshTokens = 500 + Math.floor(random.next() ** 3 * 60_000);
    const cachedTokens = random.next() < 0.5 ? 0 : Math.floor(random.next() * 20_000);
    const ms = 16 + times * ownPrefillMs(freshTokens + cachedTokens, cachedTokens, TRUE) * jitter();
    return { service: SERVICE, endpoint, freshTokens, cachedTokens, othersMs: 0, ownMs: ms, ms, ...more };
  };
  const settle = (): CostConstants => {
    time.advance(5000);
    learner.prefilled(prompt());
    return learner.constantsOf(SERVICE);
  };
  return { learner, slow, prompt, settle, jitter, random, time };
}

const near = (t: Test, value: number, wanted: number, within: number): void =>
  void t.ok(Math.abs(value / wanted - 1) < within, `${value} and ${wanted}`);

t.test("the prefill curve of an engine six times as fast as configured", (t) => {
  const { learner, prompt, settle } = rig();
  for (let count = 0; count < 28; count++) learner.prefilled(prompt());
  t.equal(settle(), configured, "29 are not enough");
  for (let count = 0; count < 400; count++) learner.prefilled(prompt());
  const learned = settle();
  near(t, learned.prefillMsPerToken, TRUE.prefillMsPerToken, 0.15);
  near(t, learned.prefillMsPerTokenSquared, TRUE.prefillMsPerTokenSquared, 0.25);
  t.match(learned, {
    decodeStepMs: configured.decodeStepMs,
    transferSetupMs: configured.transferSetupMs,
    mu: configured.mu,
  });
  t.equal(learner.constantsOf("/other"), configured, "nothing is known of another service");
  t.end();
});

t.test("constants are the same ones for two seconds", (t) => {
  const { learner, prompt, settle, time } = rig();
  for (let count = 0; count < 100; count++) learner.prefilled(prompt());
  const learned = settle();
  for (let count = 0; count < 100; count++) learner.prefilled(prompt());
  t.equal(learner.constantsOf(SERVICE), learned);
  time.advance(2000);
  for (let count = 0; count < 10; count++) learner.prefilled(prompt());
  t.not(learner.constantsOf(SERVICE), learned);
  t.end();
});

t.test("prompts that were not alone teach nothing", (t) => {
  const { learner, prompt, settle } = rig();
  for (let count = 0; count < 500; count++) {
    const seen = prompt();
    learner.prefilled({ ...seen, othersMs: 0.3 * seen.ownMs, ms: 3 * seen.ms });
    learner.prefilled({ ...seen, freshTokens: 0 });
  }
  t.equal(settle(), configured);
  t.equal(learner.learned()[0]?.seen.prefills, 1, "but the last one");
  t.end();
});

const isNumber = (entry: [string, unknown]): entry is [string, number] => typeof entry[1] === "number";

t.test("lies and hiccups stay within bounds", (t) => {
  for (const ms of [1e12, 1e-9, NaN, -5, Infinity]) {
    const { learner, prompt, settle } = rig();
    for (let count = 0; count < 2000; count++) {
      learner.prefilled({ ...prompt(), ms, ownMs: 1e15 });
      learner.stepped({ service: SERVICE, requests: 10, kvTokens: 1e5, tokens: 100, ms });
      learner.transferred({ service: SERVICE, tokens: 1000, ms });
    }
    for (const [key, value] of Object.entries(settle()).filter(isNumber)) {
      const prior = configured[key as keyof CostConstants] as number;
      t.ok(Number.isFinite(value) && value >= prior / 20.001 && value <= prior * 20.001, `${key} ${value} of ${prior}`);
    }
  }
  const { learner, prompt, settle, random } = rig();
  for (let count = 0; count < 1000; count++)
    learner.prefilled(random.next() < 0.03 ? { ...prompt(), ms: 60_000 } : prompt());
  near(t, settle().prefillMsPerToken, TRUE.prefillMsPerToken, 0.5);
  t.end();
});

t.test("so do lengths of answers", (t) => {
  for (const tokens of [1e12, NaN, Infinity, -1e12]) {
    const { learner, settle } = rig();
    for (let count = 0; count < 100; count++)
      learner.stepped({ service: SERVICE, requests: 10, kvTokens: 1e5, tokens, ms: 8 });
    const { decodeTokens } = settle();
    t.ok(decodeTokens >= configured.decodeTokens / 20.001 && decodeTokens <= configured.decodeTokens * 20, `${tokens}`);
  }
  t.end();
});

t.test("an endpoint three times as slow is known for it, one a fifth slower is not", (t) => {
  const { learner, prompt, slow } = rig();
  for (let count = 0; count < 300; count++)
    for (const [endpoint, times] of [
      ["a", 1],
      ["e", 1],
      ["f", 1],
      ["g", 1],
      ["b", 1],
      ["c", 1.2],
      ["d", 3],
    ] as const)
      learner.prefilled(prompt(endpoint, times));
  t.same([...slow.keys()], ["d"]);
  t.ok((slow.get("d") ?? 0) > 1.2 && (slow.get("d") ?? 0) < 3, String(slow.get("d")));
  t.match(learner.learned()[0]?.slowness, { a: 1, b: 1, c: 1, d: slow.get("d") });
  learner.keep(new Set(["a"]));
  t.same(Object.keys(learner.learned()[0]?.slowness ?? {}), ["a"]);
  t.end();
});

t.test("growth of a step, length of answers, and the way of the blocks", (t) => {
  const { learner, settle, random, jitter } = rig();
  for (let count = 0; count < 600; count++) {
    const [requests, kvTokens] = [Math.floor(random.next() * 60), Math.floor(random.next() * 600_000)];
    const ms = 4.5 + 1.5 * (configured.decodeStepMs * requests + configured.decodeMsPerKvToken * kvTokens) * jitter();
    learner.stepped({ service: SERVICE, requests, kvTokens, tokens: 100, ms });
    const tokens = 100 + Math.floor(random.next() * 30_000);
    learner.transferred({ service: SERVICE, tokens, ms: (5 + 0.0123 * tokens) * jitter() });
  }
  const learned = settle();
  near(t, learned.decodeStepMs, 1.5 * configured.decodeStepMs, 0.15);
  near(t, learned.decodeMsPerKvToken, 1.5 * configured.decodeMsPerKvToken, 0.15);
  near(t, learned.decodeTokens, 100, 0.1);
  near(t, learned.transferMsPerToken, 0.0123, 0.15);
  near(t, learned.transferSetupMs, 5, 0.6);
  t.end();
});

t.test("services that come and go do not fill the memory", (t) => {
  const { learner, prompt } = rig();
  for (let count = 0; count < 5000; count++) {
    learner.prefilled({ ...prompt(), service: `/${count}` });
    learner.prefilled(prompt());
  }
  t.equal(learner.learned().length, 1024);
  const busy = learner.learned().find(({ service }) => service === SERVICE);
  t.ok((busy?.seen.prefills ?? 0) > 4000, "the one that is heard of all the time is not among those forgotten");
  t.end();
});

t.test("a coefficient that is not doubted is not learned", (t) => {
  const regression = new Regression([
    { prior: 2, doubt: 0, bounds: [0, 10] },
    { prior: 1, doubt: 1, bounds: [0, 10] },
  ]);
  for (let count = 0; count < 200; count++) regression.learn([1, 1 + (count % 7)], 5 * (1 + (count % 7)) + 2);
  t.equal(regression.value(0), 2);
  near(t, regression.value(1), 5, 0.08);
  t.equal(regression.count, 200);
  t.end();
});
