/** Runs cells of bench:routing on a thread of its own: one at a time, each asked for by its plan. */
import { readFileSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { loadConfig } from "../../../src/config/load.ts";
import { capacityOf, runCell, type Replay, type Row } from "../../../src/simulator/routing/cells.ts";
import type { Topology } from "../../../src/simulator/routing/fleet.ts";
import type { PolicyName } from "../../../src/simulator/routing/policies/index.ts";
import { SCENES } from "../../../src/simulator/routing/scenes.ts";
import { parseTrace } from "../../../src/simulator/routing/trace.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";

/** What can be sent to a thread. */
export interface Plan {
  readonly section: "a" | "b" | "c" | "d";
  readonly policy: PolicyName;
  /** Shown instead of the policy's name; Tandem with another setting. */
  readonly variant?: { readonly name: string; readonly router: object };
  /** A scene's name, or the path of a trace. */
  readonly replay: string;
  readonly topology: Topology;
  readonly load: number;
  readonly capacityRps: number;
  readonly seed: number;
}

export type Ask =
  | { readonly kind: "run"; readonly plan: Plan }
  | { readonly kind: "capacity"; readonly trace: string; readonly topology: Topology };
export type BenchRow = Omit<Row, "policy"> & { readonly section: Plan["section"]; readonly policy: string };
export type Told =
  { readonly kind: "row"; readonly row: BenchRow } | { readonly kind: "capacity"; readonly rps: number };

const traces = new Map<string, ReturnType<typeof parseTrace>>();

function traceOf(path: string): ReturnType<typeof parseTrace> {
  const trace = traces.get(path) ?? parseTrace(readFileSync(path, "utf8"));
  traces.set(path, trace);
  return trace;
}

function replayOf(name: string): Replay {
  const scene = SCENES.find((each) => each.name === name);
  return scene === undefined
    ? { kind: "trace", name: "mooncake_conversation", requests: traceOf(name) }
    : { kind: "scene", scene };
}

async function answer(ask: Ask): Promise<Told> {
  if (ask.kind === "capacity") return { kind: "capacity", rps: await capacityOf(traceOf(ask.trace), ask.topology) };
  const { section, variant, replay, ...cell } = ask.plan;
  const config = loadConfig({ text: JSON.stringify({ router: variant?.router ?? {} }) }).router;
  const row = await runCell(
    { ...cell, replay: replayOf(replay) },
    { tandem: { config, log: SILENT_LOG, metrics: NO_METRICS } },
  );
  return { kind: "row", row: { ...row, section, policy: variant?.name ?? row.policy } };
}

parentPort?.on("message", (ask: Ask) => void answer(ask).then((told) => parentPort?.postMessage(told)));
