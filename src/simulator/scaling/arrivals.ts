/** Requests of a workload over time: from recorded traces, or of a named shape. Times in milliseconds from the beginning. */
import { parseTrace } from "../routing/trace.ts";
import type { Random } from "../../ports.ts";

export interface Arrival {
  readonly at: number;
  readonly promptTokens: number;
  readonly answerTokens: number;
}

const AZURE_HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens";

/** Virtual time goes in steps of 50 ms, and 31 days of them are minutes of work; published traces have up to a week. */
const MOST_DAYS = 31;

/**
 * A trace in Azure's form (`TIMESTAMP,ContextTokens,GeneratedTokens`, CSV) or Mooncake's (a JSON object a line), told apart
 * by the first letter; the first request comes at 0. Throws a RangeError that names the line.
 */
export function parseArrivals(text: string): readonly Arrival[] {
  const arrivals = text.trimStart().startsWith("{") ? parseMooncake(text) : parseAzure(text);
  const begin = arrivals[0]?.at ?? 0;
  const days = ((arrivals.at(-1)?.at ?? 0) - begin) / 86_400_000;
  if (days > MOST_DAYS)
    throw new RangeError(
      `from the first request to the last are ${Math.ceil(days)} days; at most ${MOST_DAYS} are run`,
    );
  return arrivals.map((arrival) => ({ ...arrival, at: arrival.at - begin }));
}

const parseMooncake = (text: string): readonly Arrival[] =>
  parseTrace(text).map(({ at, promptTokens, outputTokens }) => ({ at, promptTokens, answerTokens: outputTokens }));

function parseAzure(text: string): readonly Arrival[] {
  const [head = "", ...lines] = text.split(/\r?\n/);
  if (head.trim() !== AZURE_HEAD) throw new RangeError(`line 1: expected ${AZURE_HEAD}, or a JSON object a line`);
  const arrivals = lines.flatMap((line, index) => (line.trim() === "" ? [] : [azureLine(line, index + 2)]));
  if (arrivals.length === 0) throw new RangeError("the trace has no request");
  return arrivals.sort((a, b) => a.at - b.at);
}

/** Date alone would take `5` for a day of 2001. */
const AZURE_TIME = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?([+-]\d\d:\d\d|Z)?$/;

function azureLine(line: string, number: number): Arrival {
  const [time = "", prompt = "", answer = ""] = line.split(",").map((part) => part.trim());
  const at = timeOf(time);
  if (!Number.isFinite(at))
    throw new RangeError(`line ${number}: ${time || "an empty field"} is no time as 2023-11-16 18:15:46.6805900`);
  return {
    at,
    promptTokens: tokens(prompt, number, "ContextTokens"),
    answerTokens: tokens(answer, number, "GeneratedTokens"),
  };
}

/** Up to seven digits of a second, of which Date reads three; in the files of 2024 a zone follows. NaN of what is no time. */
function timeOf(text: string): number {
  const [, day = "", clock = "", part = "", zone = "Z"] = AZURE_TIME.exec(text) ?? [];
  return Date.parse(`${day}T${clock}${part.slice(0, 4)}${zone}`);
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
