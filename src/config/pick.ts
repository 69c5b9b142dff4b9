/** What the pick of an endpoint is made from: the constants of its cost, and the prefix index. */
import Type from "typebox";
import { closed, flag, integer, number } from "./fields.ts";

export const PickCost = Type.Object(
  {
    mu: number(4, 0, 100, "Price of burning prefill capacity and of evicting somebody's cache."),
    beta: number(0.1, 0, 10, "Share of an inserted prefill that each request in flight suffers."),
    decodeMu: number(8, 0, 1000, "As mu, for prefill on an endpoint of role decode."),
    decodeBeta: number(0.3, 0, 10, "As beta, for prefill on an endpoint of role decode: it stalls every decoder."),
    prefillMsPerToken: number(0.1, 0.00001, 1000, "Linear prefill time of an uncached token."),
    prefillMsPerTokenSquared: number(0.000001, 0, 1, "Quadratic prefill time (attention)."),
    decodeStepMs: number(0.03, 0, 1000, "Growth of a decode step with each request in the batch."),
    decodeMsPerKvToken: number(0.00003, 0, 1, "Growth of a decode step with each KV token that its batch attends to."),
    decodeTokens: integer(256, 1, 1000000, "Expected answer length where the request names no limit."),
    offloadedMsPerToken: number(0.0065, 0, 1000, "Time to fetch a cached token from the host's memory."),
    sharedMsPerToken: number(0.013, 0, 1000, "Time to fetch a cached token from a disk or a pool."),
    transferMsPerToken: number(0.003, 0, 1000, "KV transfer time of a token."),
    transferPerStep: number(
      0.25,
      0,
      100,
      "Share by which each step of distance, as far as domains are known, lengthens the transfer of a token.",
    ),
    transferSetupMs: number(
      25,
      0,
      10000,
      "Fixed cost of a remote prefill: a second request and the transfer's set-up.",
    ),
    learn: flag(
      true,
      "Prefill, decode and transfer times are learned from answers, for each service and endpoint; what is configured is believed until then, and bounds them within 20 times.",
    ),
  },
  { ...closed, description: "Constants of the cost J, in milliseconds." },
);

export const PrefixIndex = Type.Object(
  {
    blockBytes: integer(256, 16, 65536, "Bytes of canonical prompt text in one block of the approximate index."),
    bytesPerToken: number(4, 0.1, 64, "Bytes of prompt text counted as one token."),
    mediaTokens: integer(1024, 0, 100000, "Tokens that one image, video or sound in a prompt is taken for."),
    capacityTokens: integer(500000, 1024, 1000000000, "KV capacity assumed for an engine that does not tell."),
    maxBytes: integer(
      67108864,
      1048576,
      8589934592,
      "Memory of the index; 64 MiB hold 1.5 million blocks, each of any number of endpoints.",
    ),
    maxEndpoints: integer(1024, 16, 8190, "Endpoints that the index tells apart."),
  },
  { ...closed, description: "Approximate prefix index." },
);
