/** Cells of a comparison: one policy on one workload, topology, load and seed -> one row of figures. */
import type { EngineModel, Topology } from "./fleet.ts";
import { drive } from "./drive.ts";
import { figuresOf, type Figures } from "./figures.ts";
import { policyNamed, type PolicyName, type PolicyOptions } from "./policies/index.ts";
import { TRACE_MODEL, type Scene } from "./scenes.ts";
import { atRate, TRACE_BLOCK_TOKENS } from "./trace.ts";
import type { SimulatedRequest, Workload } from "./workload.ts";

/** What is replayed: a scene at its own load, or a trace at a share of what the engines can do. */
export type Replay =
  | { readonly kind: "scene"; readonly scene: Scene }
  | { readonly kind: "trace"; readonly name: string; readonly requests: readonly SimulatedRequest[] };

export interface Cell {
  readonly policy: PolicyName;
  readonly replay: Replay;
  readonly topology: Topology;
  /** Share of the capacity; of no meaning for a scene. */
  readonly load: number;
  /** Requests a second of round robin when they never end; of no meaning for a scene. */
  readonly capacityRps: number;
  readonly seed: number;
}

export interface Row extends Figures {
  readonly policy: PolicyName;
  readonly scene: string;
  /** `8`: engines that do both; `4p4d`: prefill and decode engines. */
  readonly topology: string;
  /** Null where the scene has its own. */
  readonly load: number | null;
  readonly seed: number;
}

export type CellOptions = Omit<PolicyOptions, "kthena"> & { readonly progress?: (done: number, of: number) => void };

export async function runCell(cell: Cell, options: CellOptions): Promise<Row> {
  const { policy, replay, topology, seed } = cell;
  const { workload, model, kthena } = stageOf(cell);
  const total = workload.requests.length * (workload.runs ?? 1);
  const outcomes = await drive({
    ...{ workload, topology, model, seed },
    policy: (world) => policyNamed(policy, { ...options, kthena }, world),
    progress: (done) => options.progress?.(done, total),
  });
  const [scene, load] = replay.kind === "scene" ? [replay.scene.name, null] : [replay.name, cell.load];
  return { policy, scene, topology: topologyName(topology), load, seed, ...figuresOf(outcomes) };
}

/** Round robin under requests that never end: how many a second all engines answer together. */
export async function capacityOf(requests: readonly SimulatedRequest[], topology: Topology): Promise<number> {
  const workload = { requests: requests.map((request) => ({ ...request, at: 0 })), blockTokens: TRACE_BLOCK_TOKENS };
  const options = { kthena: "current", tandem: undefined as never } as const;
  const policy = policyNamed.bind(undefined, "round-robin", options);
  const outcomes = await drive({ policy, workload, topology, model: TRACE_MODEL, seed: 1 });
  return figuresOf(outcomes).throughputRps;
}

export const topologyName = ({ both, prefill, decode }: Topology): string =>
  both > 0 ? String(both) : `${prefill}p${decode}d`;

interface Stage {
  readonly workload: Workload;
  readonly model: EngineModel;
  readonly kthena: PolicyOptions["kthena"];
}

function stageOf({ replay, load, capacityRps, seed }: Cell): Stage {
  if (replay.kind === "scene") {
    const { workload, model, kthena } = replay.scene;
    return { workload: workload(seed), model, kthena };
  }
  const requests = atRate(replay.requests, load * capacityRps, seed);
  return { workload: { requests, blockTokens: TRACE_BLOCK_TOKENS }, model: TRACE_MODEL, kthena: "current" };
}
