/** What the demo prints for people. */
import type { Scheduled } from "../../simulator/cluster.ts";
import type { PodEngine } from "./fleet.ts";
import { hitRate, type DemoResult } from "./traffic.ts";

export type Print = (line: string) => void;

export const heading = (step: number, text: string): string =>
  `\n== ${step}. ${text} ${"=".repeat(Math.max(3, 96 - text.length))}`;

/** Only what admission added or took away, without the file headers that `diff` needs. */
export const changesOnly = (diff: string): string =>
  diff
    .split("\n")
    .filter((line) => !/^(=+|---|\+\+\+|\\)/.test(line))
    .join("\n")
    .trimEnd();

export const placementLine = ({ pod, node, verdict }: Scheduled): string =>
  `${(pod.metadata.name ?? "").padEnd(38)} ${(node ?? "(no node)").padEnd(9)} ${verdict.message}`;

const COLUMNS = ["#", "conversation", "prefill on", "decode on", "predicted", "actual", "TTFT"] as const;
const WIDTHS = [3, 13, 36, 36, 10, 7, 9];

const row = (cells: readonly string[]): string =>
  cells
    .map((cell, index) => (index < 4 ? cell.padEnd(WIDTHS[index] ?? 0) : cell.padStart(WIDTHS[index] ?? 0)))
    .join(" ");

export const resultHeader = (): string => row(COLUMNS);

export function resultLine(result: DemoResult, fleet: readonly PodEngine[]): string {
  return row([
    String(result.number),
    result.conversation,
    result.prefill === result.decode ? "(the decode engine itself)" : podAt(result.prefill, fleet),
    podAt(result.decode, fleet),
    String(result.predictedTokens),
    String(result.cachedTokens),
    `${result.ttftMs.toFixed(0)} ms`,
  ]);
}

export const podAt = (address: string, fleet: readonly PodEngine[]): string =>
  fleet.find(({ engine }) => engine.address === address)?.pod.metadata.name ?? `(${address || "unknown"})`;

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

export interface Summary {
  readonly hitRate: number;
  readonly ttftMedianMs: number;
}

export const summaryOf = (results: readonly DemoResult[]): Summary => ({
  hitRate: hitRate(results),
  ttftMedianMs: median(results.map(({ ttftMs }) => ttftMs)),
});

export const summaryLine = (name: string, { hitRate: rate, ttftMedianMs }: Summary): string =>
  `${name.padEnd(12)} cached prompt tokens ${(100 * rate).toFixed(1).padStart(5)} %   median TTFT ${ttftMedianMs.toFixed(0).padStart(4)} ms`;
