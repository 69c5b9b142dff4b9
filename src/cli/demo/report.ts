/** What the demo prints for people. */
import { entry } from "../../kinds/kube.ts";
import { LABEL } from "../../kinds/names.ts";
import type { Scheduled } from "../../simulator/cluster.ts";
import type { PodEngine } from "./fleet.ts";
import { hitRate, type DemoResult } from "./traffic.ts";

export type Print = (line: string) => void;

const WIDTH = 80;

export function heading(step: number, text: string): string {
  const title = `== ${step}. ${text} `;
  return `\n${title}${"=".repeat(Math.max(2, WIDTH - title.length))}`;
}

/** The lines that a diff adds or takes away, with what stands around them; without the headers that tools need. */
export const changesOnly = (diff: string): string =>
  diff
    .split("\n")
    .filter((line) => !/^(=+|---|\+\+\+|\\)/.test(line))
    .join("\n")
    .trimEnd();

/** Lines of a change that another change does not have. */
export function differences(change: string, other: string): string {
  const known = new Set(other.split("\n"));
  const own = change.split("\n").filter((line) => /^[+-]/.test(line) && !known.has(line));
  return own.length === 0 ? "  (nothing else)" : own.join("\n");
}

export const placementLine = ({ pod, node, verdict }: Scheduled): string =>
  `${shortName(pod.metadata.name ?? "", pod.metadata.labels)} -> ${node ?? "no node"}\n    ${verdict.message}`;

/** `prefill-8nmb4`: the role and the last part of the pod's name. */
const shortName = (name: string, labels: Readonly<Record<string, string>> | undefined): string =>
  `${entry(labels, LABEL.role) ?? "pod"}-${name.split("-").at(-1) ?? name}`;

const COLUMNS = ["#", "conversation", "prefill on", "decode on", "predicted", "actual", "TTFT"] as const;
const WIDTHS = [3, 13, 15, 14, 10, 8, 9];
const TEXT_COLUMNS = 4;

const row = (cells: readonly string[]): string =>
  cells
    .map((cell, index) => {
      const width = WIDTHS[index] ?? 0;
      return index < TEXT_COLUMNS ? cell.padEnd(width) : cell.padStart(width);
    })
    .join(" ");

export const resultHeader = (): string => `${" ".repeat(49)}cached prompt tokens\n${row(COLUMNS)}`;

export const resultLine = (result: DemoResult, fleet: readonly PodEngine[]): string =>
  row([
    String(result.number),
    result.conversation,
    result.prefill === result.decode ? "(same engine)" : podAt(result.prefill, fleet),
    podAt(result.decode, fleet),
    String(result.predictedTokens),
    String(result.cachedTokens),
    `${result.ttftMs.toFixed(0)} ms`,
  ]);

/** Short name of the pod whose engine listens on an address. */
export function podAt(address: string, fleet: readonly PodEngine[]): string {
  const found = fleet.find(({ engine }) => engine.address === address)?.pod.metadata;
  return found === undefined ? `(${address || "unknown"})` : shortName(found.name ?? "", found.labels);
}

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
