/**
 * How long an engine takes: for a step of continuous batching, for the way in, and for a KV transfer.
 *
 * A step costs a constant, plus the prefill of its chunks (linear in their tokens, and quadratic in the context because
 * every token attends to all before it), plus what its decoding sequences add (one share for each, one for each KV
 * token that is read). All times in milliseconds, lengths in tokens, sizes in bytes.
 */
export interface TimingProfile {
  readonly name: string;
  /** Spent once for each request in front of the scheduler (HTTP, tokenisation, queues); holds no accelerator. */
  readonly requestMs: number;
  /** Constant of every step: weights read, kernels launched. */
  readonly stepMs: number;
  readonly prefillMsPerToken: number;
  /** `prefillMsPerToken * n + prefillMsPerTokenSquared * n^2` is the prefill of a whole prompt of `n` tokens. */
  readonly prefillMsPerTokenSquared: number;
  readonly decodeMsPerSequence: number;
  readonly decodeMsPerKvToken: number;
  readonly kvBytesPerToken: number;
  readonly linkBytesPerMs: number;
  readonly linkSetupMs: number;
  /** Tokens that the KV cache holds. */
  readonly capacityTokens: number;
}

/** 128 KiB: 32 layers, 8 KV heads of 128, keys and values in 16 bits (Llama-3.1-8B). */
const LLAMA_8B_KV_BYTES = 131_072;
/** 40 GB/s, effective, of one InfiniBand NDR port; set-up 1 ms (RDMA: 0.5 to 2 ms). */
const NDR_BYTES_PER_MS = 40e6;

/**
 * Llama-3.1-8B FP8 on one H200, fitted to Dynamo's published profiling results (H200_TP1P_TP1D):
 * `TTFT = 16.5 + 0.01518 n + 4.21e-7 n^2` (n 100 to 16,372, mean error 3.1 %) and
 * `ITL = 4.50 + 0.0274 batch + 3.08e-5 KV tokens` (context above 1 k, 3.4 %); capacity 945,029 KV tokens.
 * The 16.5 ms split into a step (the 4.50 of the decode fit) and 12.0 in front of it, so that a prompt of several
 * chunks pays the front only once.
 */
export const H200_LLAMA_8B: TimingProfile = {
  name: "h200-llama-8b",
  requestMs: 12,
  stepMs: 4.5,
  prefillMsPerToken: 0.01518,
  prefillMsPerTokenSquared: 4.21e-7,
  decodeMsPerSequence: 0.0274,
  decodeMsPerKvToken: 3.08e-5,
  kvBytesPerToken: LLAMA_8B_KV_BYTES,
  linkBytesPerMs: NDR_BYTES_PER_MS,
  linkSetupMs: 1,
  capacityTokens: 945_029,
};

/**
 * Llama-3.1-8B BF16 on an A100-class device (also the stand-in for Ascend 910B). Derived, not measured:
 * prefill 16 GFLOP a token, and 262,144 n^2 FLOP of causal attention, at 312 TFLOP/s x 0.38 (the A100 share that BLIS
 * publishes); decode reads 16 GB of weights and 128 KiB a KV token at 2.04 TB/s x 0.89 (the share the H200 fit shows)
 * plus 2.8 ms of overhead, as there; capacity (80 GB x 0.9 - 16 GB weights - 3 GB activations) / 128 KiB.
 */
export const A100_LLAMA_8B: TimingProfile = {
  ...H200_LLAMA_8B,
  name: "a100-llama-8b",
  stepMs: 11.6,
  prefillMsPerToken: 0.135,
  prefillMsPerTokenSquared: 2.2e-6,
  decodeMsPerSequence: 0.05,
  decodeMsPerKvToken: 7.2e-5,
  capacityTokens: 404_000,
};

export const PROFILES: readonly TimingProfile[] = [H200_LLAMA_8B, A100_LLAMA_8B];

export interface PrefillChunk {
  readonly tokens: number;
  /** Tokens of the sequence computed before this chunk. */
  readonly context: number;
}

export interface StepWork {
  readonly chunks: readonly PrefillChunk[];
  /** Sequences that get one token, and the KV tokens they read together. */
  readonly decodeSequences: number;
  readonly decodeKvTokens: number;
}

/** `c1 n + c2 ((context + n)^2 - context^2)`: chunks of one prompt add up to the cost of the whole. */
const chunkMs = (profile: TimingProfile, { tokens, context }: PrefillChunk): number =>
  tokens * (profile.prefillMsPerToken + profile.prefillMsPerTokenSquared * (2 * context + tokens));

/** Duration of one step of the batch. */
export const stepMs = (profile: TimingProfile, work: StepWork): number =>
  profile.stepMs +
  profile.decodeMsPerSequence * work.decodeSequences +
  profile.decodeMsPerKvToken * work.decodeKvTokens +
  work.chunks.reduce((sum, chunk) => sum + chunkMs(profile, chunk), 0);

/** Time to pull the KV of `tokens` tokens from another engine. */
export const transferMs = (profile: TimingProfile, tokens: number): number =>
  profile.linkSetupMs + (tokens * profile.kvBytesPerToken) / profile.linkBytesPerMs;

/** The same device `factor` times faster: 10 runs ten times faster than real time, 1 in real time. */
export function speedUp(profile: TimingProfile, factor: number): TimingProfile {
  if (!(factor > 0)) throw new RangeError(`timeScale must be above 0, got ${factor}`);
  return {
    ...profile,
    requestMs: profile.requestMs / factor,
    stepMs: profile.stepMs / factor,
    prefillMsPerToken: profile.prefillMsPerToken / factor,
    prefillMsPerTokenSquared: profile.prefillMsPerTokenSquared / factor,
    decodeMsPerSequence: profile.decodeMsPerSequence / factor,
    decodeMsPerKvToken: profile.decodeMsPerKvToken / factor,
    linkBytesPerMs: profile.linkBytesPerMs * factor,
    linkSetupMs: profile.linkSetupMs / factor,
  };
}
