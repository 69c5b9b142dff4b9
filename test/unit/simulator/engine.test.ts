import t from "tap";
import type { PullRequest, RemoteKv } from "../../../src/simulator/engine/engine.ts";
import { transferMs, H200_LLAMA_8B } from "../../../src/simulator/engine/timing.ts";
import { gap, near, newRig, SOURCE, tokens, ttft, type Story } from "./rig.ts";

const publishedTtft = (n: number): number => 16.5 + 0.01518 * n + 4.21e-7 * n ** 2;

t.test("the first token of a lone request comes when the published fit says", (t) => {
  for (const n of [100, 1000, 8000, 16_372]) {
    const rig = newRig();
    const story = rig.submit({ prompt: tokens(1, n), output: 1 });
    rig.time.drain();
    near(t, `${n} tokens`, [ttft(story), publishedTtft(n)], n > 8192 ? 0.031 : 1e-9);
  }
  t.end();
});

t.test("tokens of a full batch come at the rate of the published fit", (t) => {
  const rig = newRig();
  const stories = Array.from({ length: 32 }, (_, index) => rig.submit({ prompt: tokens(index, 2000), output: 40 }));
  rig.time.drain();
  // All 32 decode together after the last prefill; at token 20 each holds 2,000 + about 20 to 30.
  const [last] = stories.slice(-1);
  near(t, "inter-token latency", [gap(last as Story, 20), 4.5 + 0.0274 * 32 + 3.08e-5 * 32 * 2022], 0.01);
  t.ok(stories.every((story) => story.tokensAt.length === 40));
  t.end();
});

t.test("prompts share the token budget of a step, first come first served", (t) => {
  const rig = newRig({ tokenBudget: 1000 });
  const stories = Array.from({ length: 4 }, (_, index) => rig.submit({ prompt: tokens(index, 500), output: 1 }));
  rig.time.drain();
  const [first = 0, second = 0, third = 0, fourth = 0] = stories.map(ttft);
  t.ok(first < second, "the first begins a step as soon as it is there");
  t.equal(second, third, "the next two fill one");
  t.ok(third < fourth, "and the last waits for another");
  t.end();
});

t.test("a long prompt is computed in chunks, and decoding goes on between them", (t) => {
  const rig = newRig({ tokenBudget: 512 });
  const talking = rig.submit({ prompt: tokens(1, 100), output: 60 });
  rig.time.advance(30);
  const before = talking.tokensAt.length;
  const long = rig.submit({ prompt: tokens(2, 5000), output: 1 });
  rig.time.drain();
  const during = talking.tokensAt.filter((at) => at > long.submittedAt && at < (long.tokensAt[0] ?? 0)).length;
  t.ok(before > 0);
  // 511 tokens of prompt and one decoded in each of the 10 steps that 5,000 tokens take.
  t.ok(during >= 10, `${during} tokens while the long prompt was computed`);
  t.end();
});

t.test("no more sequences than the batch holds run at once", (t) => {
  const rig = newRig({ maxSequences: 4 });
  const stories = Array.from({ length: 9 }, (_, index) => rig.submit({ prompt: tokens(index, 64), output: 5 }));
  let most = 0;
  while (rig.time.step()) most = Math.max(most, rig.core.load().running);
  t.equal(most, 4);
  t.ok(stories.every((story) => story.end !== undefined));
  t.end();
});

t.test("a cached prefix is not computed again, and the last token always is", (t) => {
  const rig = newRig();
  const prompt = tokens(1, 1600);
  const first = rig.submit({ prompt, output: 1 });
  rig.time.drain();
  const second = rig.submit({ prompt, output: 1 });
  const longer = rig.submit({ prompt: [...prompt, ...tokens(2, 160)], output: 1 });
  rig.time.drain();
  t.equal(first.end?.cachedTokens, 0);
  t.equal(second.end?.cachedTokens, 1584, "99 of 100 blocks: the last token is in the last block");
  t.equal(longer.end?.cachedTokens, 1600);
  t.ok(ttft(second) < ttft(first) - 15, "1,584 tokens cost 24 ms to compute");
  t.end();
});

t.test("the blocks of the answer are cached for the next turn", (t) => {
  const rig = newRig();
  const [prompt, answer] = [tokens(1, 160), tokens(-1, 64)];
  rig.submit({ prompt, output: 64 });
  rig.time.drain();
  const next = rig.submit({ prompt: [...prompt, ...answer, ...tokens(5, 32)], output: 1 });
  rig.time.drain();
  // 160 + 63 tokens have KV: the newest token was never read. 13 full blocks of 16.
  t.equal(next.end?.cachedTokens, 208);
  t.end();
});

t.test("siblings that arrive together share the prefix that one of them computes", (t) => {
  const rig = newRig();
  const stories = [1, 2].map((n) => rig.submit({ prompt: [...tokens(9, 1600), ...tokens(n, 16)], output: 1 }));
  rig.time.drain();
  t.same(
    stories.map((story) => story.end?.cachedTokens),
    [0, 1600],
  );
  t.end();
});

t.test("what does not fit waits, and nobody overtakes it", (t) => {
  const rig = newRig({ capacityBlocks: 100 });
  const big = rig.submit({ prompt: tokens(1, 1000), output: 20 });
  const second = rig.submit({ prompt: tokens(2, 1000), output: 1 });
  const small = rig.submit({ prompt: tokens(3, 16), output: 1 });
  rig.time.advance(60);
  t.same([rig.core.load().running, rig.core.load().waiting], [1, 2]);
  rig.time.drain();
  t.ok((second.tokensAt[0] ?? 0) > (big.tokensAt.at(-1) ?? 0), "waits for the blocks");
  t.ok((small.tokensAt[0] ?? 0) >= (second.tokensAt[0] ?? 0), "first come first served");
  t.end();
});

t.test("when blocks run out the youngest is preempted, and loses nothing", (t) => {
  const rig = newRig({ capacityBlocks: 20 });
  const stories = [1, 2].map((n) => rig.submit({ prompt: tokens(n, 144), output: 60 }));
  rig.time.drain();
  t.ok(rig.log.includes("preempted 1"));
  t.same(
    stories.map((story) => story.tokensAt.length),
    [60, 60],
  );
  t.ok((stories[0]?.tokensAt.at(-1) ?? 0) < (stories[1]?.tokensAt.at(-1) ?? 0), "the oldest went on");
  t.equal(rig.core.load().usedBlocks, 0);
  t.end();
});

t.test("an abort frees blocks at once, in every phase", (t) => {
  const rig = newRig({ capacityBlocks: 100 });
  const running = rig.submit({ prompt: tokens(1, 1000), output: 50 });
  const waiting = rig.submit({ prompt: tokens(2, 1000), output: 1 });
  rig.time.advance(70);
  const arriving = rig.submit({ prompt: tokens(3, 10), output: 1 });
  t.ok(running.tokensAt.length > 0 && waiting.tokensAt.length === 0);
  for (const story of [running, waiting, arriving, running]) story.abort();
  t.same(rig.core.load(), { running: 0, waiting: 0, deferred: 0, usedBlocks: 0, capacityBlocks: 100 });
  const told = running.tokensAt.length;
  rig.time.drain();
  t.equal(running.tokensAt.length, told, "nothing is heard of it afterwards");
  t.same([running.end, waiting.end, arriving.end], [undefined, undefined, undefined]);
  t.equal(rig.log.filter((line) => line === "aborted").length, 3, "aborting twice counts once");
  t.end();
});

t.test("aborting what runs lets the next one in", (t) => {
  const rig = newRig({ capacityBlocks: 100 });
  const first = rig.submit({ prompt: tokens(1, 1000), output: 500 });
  const second = rig.submit({ prompt: tokens(2, 1000), output: 1 });
  rig.time.advance(100);
  first.abort();
  rig.time.drain();
  t.ok(second.end);
  t.end();
});

t.test("a sequence that could never fit is refused", (t) => {
  const rig = newRig({ capacityBlocks: 10 });
  t.throws(() => rig.submit({ prompt: tokens(1, 150), output: 11 }), RangeError);
  const fits = rig.submit({ prompt: tokens(1, 150), output: 10 });
  rig.time.drain();
  t.ok(fits.end);
  t.end();
});

t.test("a prefill leg leaves its blocks with its listener, who frees them", (t) => {
  const rig = newRig({ capacityBlocks: 100 });
  const leg = rig.submit({ prompt: tokens(1, 1000), output: 1, keep: true });
  const next = rig.submit({ prompt: tokens(2, 1000), output: 1 });
  rig.time.drain();
  t.equal(leg.end?.kept.length, 63, "1,000 tokens in blocks of 16");
  t.equal(rig.core.load().usedBlocks, 63, "still in use");
  t.equal(next.end, undefined, "the next one has no room");
  rig.core.free(leg.end?.kept ?? []);
  rig.time.drain();
  t.ok(next.end, "until they are freed");
  t.end();
});

/** A source that answers after `delay` milliseconds. */
function scripted(rigTime: () => { after(ms: number, task: () => void): unknown }, delay: number, matches: boolean) {
  const pulls: PullRequest[] = [];
  const drops: string[] = [];
  const remote: RemoteKv = {
    pull: (request, done) => {
      pulls.push(request);
      rigTime().after(delay, () => done(matches ? "matched" : "none"));
    },
    drop: (source) => drops.push(source.requestId),
  };
  return { pulls, drops, remote };
}

t.test("a decode leg takes the time of the transfer, not of the prefill", (t) => {
  const far = scripted(() => rig.time, 2, true);
  const rig = newRig({}, far.remote);
  const story = rig.submit({ prompt: tokens(1, 8000), output: 5, remote: SOURCE });
  rig.time.drain();
  const transfer = transferMs(H200_LLAMA_8B, 8000);
  near(t, "time to first token", [ttft(story), 12 + 2 + transfer + 4.5 + 0.0274 + 3.08e-5 * 8000], 1e-6);
  t.same(story.end, { prefill: "remote", cachedTokens: 7999, kept: [] });
  t.ok(rig.log.includes("transferred 8000"));
  t.match(far.pulls, [{ source: SOURCE, tokens: 8000, transferMs: transfer }]);
  t.end();
});

t.test("what is cached at the decode engine is not pulled", (t) => {
  const far = scripted(() => rig.time, 0, true);
  const rig = newRig({}, far.remote);
  rig.submit({ prompt: tokens(1, 1600), output: 1 });
  rig.time.drain();
  rig.submit({ prompt: [...tokens(1, 1600), ...tokens(2, 400)], output: 1, remote: SOURCE });
  rig.time.drain();
  t.ok(rig.log.includes("transferred 400"));
  t.end();
});

t.test("a transfer does not hold up the batch", (t) => {
  const far = scripted(() => rig.time, 500, true);
  const rig = newRig({}, far.remote);
  const pulling = rig.submit({ prompt: tokens(1, 1000), output: 1, remote: SOURCE });
  const other = rig.submit({ prompt: tokens(2, 1000), output: 1 });
  rig.time.advance(100);
  t.ok(other.end);
  t.same([rig.core.load().deferred, rig.core.load().usedBlocks], [1, 63], "its blocks are reserved");
  rig.time.drain();
  t.ok(pulling.end);
  t.end();
});

t.test("without a match the prompt is computed here", (t) => {
  for (const delay of [0, 40]) {
    const far = scripted(() => rig.time, delay, false);
    const rig = newRig({}, far.remote);
    const story = rig.submit({ prompt: tokens(1, 4000), output: 2, remote: SOURCE });
    rig.time.drain();
    near(t, `answer after ${delay} ms`, [ttft(story), publishedTtft(4000) + delay], 1e-9);
    t.same(story.end, { prefill: "local", cachedTokens: 0, kept: [] });
    t.equal(rig.core.load().usedBlocks, 0);
  }
  t.end();
});

t.test("a source that refuses at once is no trouble either", (t) => {
  const rig = newRig();
  const stories = [1, 2].map((n) => rig.submit({ prompt: tokens(n, 100), output: 2, remote: SOURCE }));
  rig.time.drain();
  t.same(
    stories.map((story) => story.end?.prefill),
    ["local", "local"],
  );
  t.end();
});

t.test("aborting a decode leg before it pulled tells the source; afterwards it does not", (t) => {
  const far = scripted(() => rig.time, 50, true);
  const rig = newRig({}, far.remote);
  const early = rig.submit({ prompt: tokens(1, 100), output: 1, remote: SOURCE });
  early.abort();
  t.same(far.drops, ["r"]);
  const late = rig.submit({ prompt: tokens(1, 100), output: 1, remote: SOURCE });
  rig.time.advance(20);
  t.equal(far.pulls.length, 1);
  late.abort();
  rig.time.drain();
  t.same(far.drops, ["r"], "the source frees what was pulled by itself");
  t.equal(rig.core.load().usedBlocks, 0);
  t.end();
});

t.test("stopping ends everything", (t) => {
  const rig = newRig();
  const stories = [1, 2, 3].map((n) => rig.submit({ prompt: tokens(n, 1000), output: 50 }));
  rig.time.advance(80);
  rig.core.stop();
  rig.time.drain();
  t.same(
    stories.map((story) => story.end),
    [undefined, undefined, undefined],
  );
  t.equal(rig.core.load().usedBlocks, 0);
  t.end();
});

t.test("resetting the cache works when idle only", (t) => {
  const rig = newRig();
  const prompt = tokens(1, 160);
  rig.submit({ prompt, output: 5 });
  rig.time.advance(20);
  t.equal(rig.core.resetCache(), false);
  rig.time.drain();
  t.equal(rig.core.resetCache(), true);
  const again = rig.submit({ prompt, output: 1 });
  rig.time.drain();
  t.equal(again.end?.cachedTokens, 0);
  t.end();
});
