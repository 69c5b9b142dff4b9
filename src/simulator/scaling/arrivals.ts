/** Requests of a workload over time: from recorded traces, or of a named shape. Times in milliseconds from the beginning. */
import { parseTrace } from "../routing/trace.ts";
import type { Random } from "../../ports.ts";

export interface Arrival {
  readonly at: number;
  readonly promptTokens: number;
  readonly answerTokens: number;
}

const AZURE_HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens";

/**
 * A trace in Azure's form (`TIMESTAMP,ContextTokens,GeneratedTokens`, CSV) or Mooncake's (a JSON object a line), told apart
 * by the first letter. Throws a RangeError that names the line.
 */
export function parseArrivals(text: string): readonly Arrival[] {
  if (text.trimStart().startsWith("{"))
    return parseTrace(text).map(({ at, promptTokens, outputTokens }) => ({
      at,
      promptTokens,
      answerTokens: outputTokens,
    }));
  return parseAzure(text);
}

function parseAzure(text: string): readonly Arrival[] {
  const [head = "", ...lines] = text.split(/\r?\n/);
  if (head.trim() !== AZURE_HEAD) throw new RangeError(`line 1: expected ${AZURE_HEAD}, or a JSON object a line`);
  const arrivals = lines.flatMap((line, index) => (line.trim() === "" ? [] : [azureLine(line, index + 2)]));
  if (arrivals.length === 0) throw new RangeError("the trace has no request");
  arrivals.sort((a, b) => a.at - b.at);
  const begin = arrivals[0]?.at ?? 0;
  return arrivals.map((arrival) => ({ ...arrival, at: arrival.at - begin }));
}

function azureLine(line: string, number: number): Arrival {
  const [time = "", prompt = "", answer = ""] = line.split(",").map((part) => part.trim());
  // Up to seven digits of a second, of which Date reads three; in the files of 2024 a zone follows.
  const [, local = "", zone = "Z"] = /^(.*?)([+-]\d\d:\d\d|Z)?$/.exec(time) ?? [];
  const at = Date.parse(`${local.replace(" ", "T").replace(/(\.\d{3})\d*$/, "$1")}${zone}`);
  if (!Number.isFinite(at))
    throw new RangeError(`line ${number}: ${time || "an empty field"} is no time as 2023-11-16 18:15:46.6805900`);
  return {
    at,
    promptTokens: tokens(prompt, number, "ContextTokens"),
    answerTokens: tokens(answer, number, "GeneratedTokens"),
  };
}

function tokens(text: string, number: number, column: string): number {
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text))
    throw new RangeError(`line ${number}: ${column} is to be an integer of 0 or more, not ${text || "empty"}`);
  return Math.max(1, value);
}

/** So many requests for each of a trace, each within five seconds of it: the same shape for a larger service. */
export function multiplied(arrivals: readonly Arrival[], copies: number, random: Random): readonly Arrival[] {
  const SPREAD_MS = 5000;
  return arrivals
    .flatMap((arrival) =>
      Array.from({ length: copies }, () => ({
        ...arrival,
        at: Math.max(0, arrival.at + (random.next() - 0.5) * 2 * SPREAD_MS),
      })),
    )
    .sort((a, b) => a.at - b.at);
}
