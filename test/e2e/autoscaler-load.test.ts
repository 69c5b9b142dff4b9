/**
 * Load that changes, on real parts: kube-apiserver, controllers, scheduler, Envoy, Tandem's roles as processes, simulated
 * engines. More prompts, longer answers, both; each role follows its own; down to nothing and back; and a group of which
 * nobody tells anything for ten minutes.
 */
import t from "tap";
import { AUTOSCALING } from "../../src/kinds/names.ts";
import { brokenOf, complete, startClients, type Answered, type Ask, type Clients } from "./cluster/clients.ts";
import { startLaps } from "./cluster/laps.ts";
import { eventually } from "./cluster/process.ts";
import {
  deploymentOf,
  scaledDeployment,
  standingPods,
  startScaled,
  type Scaled,
  type Started,
} from "./cluster/scaled.ts";
import { metric } from "./cluster/series.ts";
import { startSilence, type Silence } from "./cluster/silence.ts";

t.setTimeout(1_200_000);
const [PREFILL, DECODE] = ["chat-prefill", "chat-decode"] as const;
/** At any time some answers are being written: two or three, of 20 s each. */
const STEADY = { model: "chat", promptTokens: 16, answerTokens: 200, perSecond: 0.12 };
/** 1500 prompt tokens/s: three engines of 500 at least. */
const PROMPTS = { model: "chat", promptTokens: 500, answerTokens: 2, perSecond: 3 };
/** 480 tokens/s: more than two engines of 220, which is what one gives within the promised time. */
const ANSWERS = { model: "chat", promptTokens: 16, answerTokens: 160, perSecond: 3 };

let scaled: Scaled;
let autoscaler: Started;
let steady: Clients;
let silence: Silence;
const lap = startLaps(t);

const annotate = (name: string, annotations: Readonly<Record<string, string>>): Promise<unknown> =>
  scaled.cluster.api.patch(`/apis/apps/v1/namespaces/default/deployments/${name}`, "merge-patch", {
    metadata: { annotations },
  });
const replicasOf = async (name: string): Promise<number> =>
  (await deploymentOf(scaled.cluster, name)).spec.replicas ?? 1;
const standing = async (name: string): Promise<number> => (await standingPods(scaled.cluster, name)).length;

/** Until as many serve as are wanted, and no more stand; the most that were asked for meanwhile, of each. */
async function reaches(wanted: Readonly<Record<string, (count: number) => boolean>>, ms = 240_000): Promise<Counts> {
  const most: Record<string, number> = { [PREFILL]: 0, [DECODE]: 0 };
  await eventually(
    Object.keys(wanted).join(", "),
    async () => {
      for (const name of Object.keys(most)) most[name] = Math.max(most[name] ?? 0, await replicasOf(name));
      const done = await Promise.all(
        Object.entries(wanted).map(async ([name, isIt]) => {
          const count = await replicasOf(name);
          return isIt(count) && (await standing(name)) === count;
        }),
      );
      return done.every(Boolean) ? true : undefined;
    },
    ms,
  );
  return most;
}
type Counts = Readonly<Record<string, number>>;

/** Runs until the replicas are as wanted; every answer must be whole. */
async function under(test: Asserting, asks: readonly (Ask & { readonly perSecond: number })[], until: Wanted) {
  const clients = asks.map((ask) => startClients(scaled.envoy.url, ask));
  const most = await reaches(until);
  await Promise.all(clients.map(async (each, index) => whole(test, await each.stop(), asks[index] as Ask)));
  return most;
}
type Asserting = Pick<typeof t, "ok" | "same">;
type Wanted = Parameters<typeof reaches>[0];

function whole(test: Asserting, answers: readonly Answered[], ask: Ask): void {
  const broken = answers.flatMap((answer) => brokenOf(answer, ask) ?? []);
  test.ok(answers.length > 0, "requests were sent");
  test.same(broken, [], `${answers.length} answers are whole`);
}

const atLeast = (least: number) => (count: number) => count >= least;
const exactly = (one: number) => (count: number) => count === one;

const FAST = {
  [AUTOSCALING.objective]: "cost",
  [AUTOSCALING.scaleInDelay]: "1s",
  [AUTOSCALING.idleAfter]: "10s",
};

t.before(async () => {
  scaled = await startScaled();
  autoscaler = await scaled.startAutoscaler([
    `autoscaler.routers=${scaled.statistics}`,
    "autoscaler.intervalMs=1000",
    "autoscaler.scrapeIntervalMs=1000",
    "autoscaler.drain.quietMs=2000",
    "autoscaler.namespaces=default",
  ]);
  lap("cluster, Tandem and Envoy");
  await scaled.cluster.apply([
    // One number is declared, the other is learned.
    scaledDeployment(PREFILL, { model: "chat", role: "prefill" }, { ...FAST, [AUTOSCALING.capacity]: "500" }),
    scaledDeployment(DECODE, { model: "chat", role: "decode" }, FAST),
  ]);
  silence = await startSilence(scaled);
  await reaches({ [PREFILL]: exactly(1), [DECODE]: exactly(1) });
  await eventually("an answer", async () => ((await complete(scaled.envoy.url, ANSWERS)).ended ? true : undefined));
  steady = startClients(scaled.envoy.url, STEADY);
  lap("one pair serves");
});

t.teardown(async () => {
  if (!t.passing())
    t.comment(`${scaled.cluster.logs()}\n${scaled.tandem.logs()}\n--- autoscaler\n${autoscaler.running.tail()}`);
  await scaled.stop();
});

t.test("more prompts: prefill grows, decode does not; then prefill goes back", async (t) => {
  const up = await under(t, [PROMPTS], { [PREFILL]: atLeast(3) });
  t.equal(up[DECODE], 1);
  lap(`prefill ${up[PREFILL]}`);
  const down = await reaches({ [PREFILL]: exactly(1) });
  t.equal(down[DECODE], 1);
  lap("prefill 1");
});

t.test("longer answers: decode grows, prefill does not; then decode goes back, and cuts no answer", async (t) => {
  const up = await under(t, [ANSWERS], { [DECODE]: atLeast(2) });
  t.equal(up[PREFILL], 1);
  lap(`decode ${up[DECODE]}`);
  const down = await reaches({ [DECODE]: exactly(1) });
  t.equal(down[PREFILL], 1);
  lap("decode 1");
});

t.test("both: both grow, and both go back", async (t) => {
  const up = await under(t, [PROMPTS, ANSWERS], { [PREFILL]: atLeast(3), [DECODE]: atLeast(2) });
  lap(`prefill ${up[PREFILL]}, decode ${up[DECODE]}`);
  await reaches({ [PREFILL]: exactly(1), [DECODE]: exactly(1) });
  lap("both 1");
});

t.test("every answer that ran while instances went is whole, and each of them was idle when it went", async (t) => {
  whole(t, await steady.stop(), STEADY);
  t.ok((await metric(autoscaler.metrics, "tandem_autoscaler_drains_total", 'end="idle"')) >= 5);
  t.equal(await metric(autoscaler.metrics, "tandem_autoscaler_drains_total", 'end="late"'), 0);
});

t.test("to zero, and back for the first request, which is answered; and to zero again", async (t) => {
  await Promise.all([PREFILL, DECODE].map((name) => annotate(name, { [AUTOSCALING.minReplicas]: "0" })));
  const nothing = { [PREFILL]: exactly(0), [DECODE]: exactly(0) };
  await reaches(nothing);
  lap("zero");
  t.equal((await scaled.cluster.pods("default", "app in (chat-prefill,chat-decode)")).length, 0);
  const answer = await complete(scaled.envoy.url, ANSWERS);
  t.equal(brokenOf(answer, ANSWERS), undefined);
  lap(`answered within ${(answer.tookMs / 1000).toFixed(1)} s`);
  const seconds = await metric(autoscaler.metrics, "tandem_autoscaler_wake_seconds_sum");
  const wakes = await metric(autoscaler.metrics, "tandem_autoscaler_wake_seconds_count");
  t.comment(
    `${wakes} times told that a request waits; ${((1000 * seconds) / wakes).toFixed(0)} ms until it was written`,
  );
  t.ok(wakes > 0, "it was told, and did not poll");
  await reaches(nothing);
  lap("zero again");
});

t.test("nobody tells anything for ten minutes: what stands is held, and then the declared number", async (t) => {
  const { held, end } = await silence.over();
  t.same(held, [2], "for four and a half minutes");
  t.equal(end, 3);
  lap("ten minutes of silence");
});
