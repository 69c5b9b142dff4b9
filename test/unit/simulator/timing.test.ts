import t from "tap";
import {
  A100_LLAMA_8B,
  H200_LLAMA_8B,
  PROFILES,
  speedUp,
  stepMs,
  transferMs,
  type TimingProfile,
} from "../../../src/simulator/engine/timing.ts";
import { near } from "./rig.ts";

/** The published fits of Llama-3.1-8B on an H200, milliseconds. */
const publishedTtft = (n: number): number => 16.5 + 0.01518 * n + 4.21e-7 * n ** 2;
const publishedItl = (batch: number, kvTokens: number): number => 4.5 + 0.0274 * batch + 3.08e-5 * kvTokens;

/** A whole prompt in chunks of the token budget, alone in the engine. */
function prefillMs(profile: TimingProfile, prompt: number, budget = 8192): number {
  let ms = profile.requestMs;
  for (let context = 0; context < prompt; context += budget)
    ms += stepMs(profile, {
      chunks: [{ tokens: Math.min(budget, prompt - context), context }],
      decodeSequences: 0,
      decodeKvTokens: 0,
    });
  return ms;
}

t.test("prefill of one chunk is the published fit", (t) => {
  for (const n of [100, 500, 1000, 2048, 4096, 8192])
    near(t, `${n} tokens`, [prefillMs(H200_LLAMA_8B, n), publishedTtft(n)], 1e-9);
  t.end();
});

t.test("prefill of several chunks stays within the error of the fit", (t) => {
  for (const n of [8193, 12_000, 16_372])
    near(t, `${n} tokens`, [prefillMs(H200_LLAMA_8B, n), publishedTtft(n)], 0.031);
  t.end();
});

t.test("chunks of a prompt add up to the whole, whatever their size", (t) => {
  const work = (n: number, budget: number): number =>
    prefillMs({ ...H200_LLAMA_8B, stepMs: 0, requestMs: 0 }, n, budget);
  for (const budget of [1, 16, 500, 4096])
    near(t, `chunks of ${budget}`, [work(10_000, budget), work(10_000, 10_000)], 1e-9);
  t.end();
});

t.test("a decode step is the published fit", (t) => {
  const cases = [
    [1, 1000],
    [16, 32_000],
    [64, 200_000],
    [256, 900_000],
  ] as const;
  for (const [batch, kvTokens] of cases) {
    const ms = stepMs(H200_LLAMA_8B, { chunks: [], decodeSequences: batch, decodeKvTokens: kvTokens });
    near(t, `${batch} sequences, ${kvTokens} tokens`, [ms, publishedItl(batch, kvTokens)], 1e-9);
  }
  t.end();
});

t.test("a prefill in the step delays the decoding sequences", (t) => {
  const alone = stepMs(H200_LLAMA_8B, { chunks: [], decodeSequences: 8, decodeKvTokens: 8000 });
  const mixed = stepMs(H200_LLAMA_8B, {
    chunks: [{ tokens: 4096, context: 0 }],
    decodeSequences: 8,
    decodeKvTokens: 8000,
  });
  near(t, "what is added", [mixed - alone, 0.01518 * 4096 + 4.21e-7 * 4096 ** 2], 1e-9);
  t.end();
});

t.test("a transfer is set-up and bytes over bandwidth", (t) => {
  // 10,000 tokens x 128 KiB = 1.31 GB over 40 GB/s = 32.8 ms, and 1 ms.
  near(t, "10,000 tokens", [transferMs(H200_LLAMA_8B, 10_000), 33.77], 0.001);
  t.equal(transferMs(H200_LLAMA_8B, 0), 1);
  t.end();
});

t.test("the A100 profile lies within the published ranges of an 8B model and is slower in everything", (t) => {
  t.ok(A100_LLAMA_8B.prefillMsPerToken < 0.55, "prefill slope at most the published, which is known to be pessimistic");
  const slower = [
    "stepMs",
    "prefillMsPerToken",
    "prefillMsPerTokenSquared",
    "decodeMsPerSequence",
    "decodeMsPerKvToken",
  ];
  for (const key of slower as (keyof TimingProfile)[]) t.ok(A100_LLAMA_8B[key] > H200_LLAMA_8B[key], key);
  t.equal(new Set(PROFILES.map((profile) => profile.name)).size, PROFILES.length, "names are unique");
  t.end();
});

t.test("speeding up divides every time by the factor and changes no size", (t) => {
  const fast = speedUp(H200_LLAMA_8B, 20);
  near(t, "prefill", [prefillMs(fast, 16_000) * 20, prefillMs(H200_LLAMA_8B, 16_000)], 1e-9);
  near(t, "transfer", [transferMs(fast, 5000) * 20, transferMs(H200_LLAMA_8B, 5000)], 1e-9);
  const work = { chunks: [], decodeSequences: 9, decodeKvTokens: 9000 };
  near(t, "decode", [stepMs(fast, work) * 20, stepMs(H200_LLAMA_8B, work)], 1e-9);
  t.equal(fast.capacityTokens, H200_LLAMA_8B.capacityTokens);
  t.equal(fast.kvBytesPerToken, H200_LLAMA_8B.kvBytesPerToken);
  for (const factor of [0, -1, NaN]) t.throws(() => speedUp(H200_LLAMA_8B, factor), /above 0/);
  t.end();
});
