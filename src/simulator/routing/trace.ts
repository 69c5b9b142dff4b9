/**
 * Request traces in Mooncake's form: one JSON object a line, with `timestamp` (ms), `input_length`, `output_length` and
 * `hash_ids` (blocks of 512 tokens; equal ids are equal text). Source: kvcache-ai/Mooncake, FAST25-release/traces.
 */
import { isObject } from "../../kinds/kube.ts";
import { seededRandom } from "../random.ts";
import type { SimulatedRequest } from "./workload.ts";

/** Tokens of a block of the trace. */
export const TRACE_BLOCK_TOKENS = 512;

/**
 * Lines of the trace, in the order of their times. Throws a RangeError that names the line and what it should have.
 * @param mostTokens that the KV cache of an engine holds: prompt and answer are to fit
 */
export function parseTrace(text: string, mostTokens = Infinity): readonly SimulatedRequest[] {
  const lines = text.split("\n");
  const requests = lines.flatMap((line, index) => (line.trim() === "" ? [] : [requestOf(line, index + 1, mostTokens)]));
  if (requests.length === 0) throw new RangeError("the trace has no request");
  return requests.sort((a, b) => a.at - b.at);
}

function requestOf(line: string, number: number, mostTokens: number): SimulatedRequest {
  const value = objectOf(line, number);
  const count = (key: string, least: number): number => {
    const found = value[key];
    if (Number.isSafeInteger(found) && (found as number) >= least) return found as number;
    throw new RangeError(`line ${number}: ${key} is to be an integer of ${least} or more`);
  };
  const blocks = value["hash_ids"];
  const promptTokens = count("input_length", 1);
  if (!Array.isArray(blocks) || !blocks.every((id) => Number.isSafeInteger(id)))
    throw new RangeError(`line ${number}: hash_ids is to be a list of integers`);
  if (blocks.length !== Math.ceil(promptTokens / TRACE_BLOCK_TOKENS))
    throw new RangeError(
      `line ${number}: ${promptTokens} tokens are ${Math.ceil(promptTokens / TRACE_BLOCK_TOKENS)} blocks of 512, hash_ids has ${blocks.length}`,
    );
  const outputTokens = Math.max(1, count("output_length", 0));
  if (promptTokens + outputTokens > mostTokens)
    throw new RangeError(
      `line ${number}: prompt and answer are ${promptTokens + outputTokens} tokens, the KV cache of an engine holds ${mostTokens}`,
    );
  return { at: count("timestamp", 0), blocks: blocks as number[], promptTokens, outputTokens };
}

function objectOf(line: string, number: number): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line);
    if (isObject(value)) return value;
  } catch {
    // Told below.
  }
  throw new RangeError(`line ${number}: not a JSON object`);
}

/** The published times stand on a grid of so many milliseconds. */
const GRID_MS = 3000;

/**
 * The same requests at `requestsPerSecond` on average: times compressed or stretched as a whole, after each was moved
 * by chance within the grid that its time was rounded to.
 */
export function atRate(
  requests: readonly SimulatedRequest[],
  requestsPerSecond: number,
  seed: number,
): readonly SimulatedRequest[] {
  const random = seededRandom(seed);
  const moved = requests.map((request) => ({ ...request, at: request.at + random.next() * GRID_MS }));
  const last = moved.reduce((latest, { at }) => Math.max(latest, at), 1);
  const factor = (1000 * requests.length) / requestsPerSecond / last;
  return moved.map((request) => ({ ...request, at: request.at * factor })).sort((a, b) => a.at - b.at);
}
