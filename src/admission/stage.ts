/** What a stage is: a pure function from what is known to wishes and a Verdict, for one or both mounting points. */
import type { Config } from "../config/schema.ts";
import type { Container, KubeObject, Namespace, PodTemplate } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { kept, skipped, type Verdict } from "../kinds/verdict.ts";
import type { Stage, WorkloadSpec } from "../workload/spec.ts";
import type { Wish } from "./change.ts";
import type { Path, Step } from "./value.ts";

/** `topology` is what the tree of domains is made of; absent: HyperNodes. */
export type Settings = Config["admission"] & { readonly topology?: Config["topology"] };

const known = new WeakMap<object, Settings>();

/** What admission reads of the configuration: the same object each time, by which profiles are remembered. */
export function admissionSettings(config: Pick<Config, "admission" | "topology">): Settings {
  const settings = known.get(config) ?? { ...config.admission, topology: config.topology };
  known.set(config, settings);
  return settings;
}

export interface StageContext {
  readonly spec: WorkloadSpec;
  /** The object, with the changes of the stages before. */
  readonly object: KubeObject;
  /** Where its pod template stands; empty for a Pod. */
  readonly path: readonly string[];
  readonly template: PodTemplate;
  readonly snapshot: ClusterSnapshot;
  readonly settings: Settings;
  readonly namespace: Namespace | undefined;
  /** The Pod stands for those that its workload makes. */
  readonly sample?: boolean;
}

export interface StageResult {
  readonly changes: readonly Wish[];
  /** What the changes come to; with none of them needed, the planner says `kept` instead. */
  readonly verdict: Verdict;
}

export type StageRun = (context: StageContext) => StageResult;

/** One named stage. `workload` runs on the template of a workload, `pod` on a Pod at its creation. */
export interface StageEntry {
  readonly name: Stage;
  readonly workload?: StageRun;
  readonly pod?: StageRun;
  /** Writes part of the contract itself, and looks at `tandem.sh/skip` on its own for the rest. */
  readonly contract?: true;
}

/** A path within the pod template. */
export const at = (context: StageContext, ...steps: Step[]): Path => [...context.path, ...steps];

/** A path within the engine container. */
export const inContainer = (context: StageContext, ...steps: Step[]): Path =>
  at(context, "spec", "containers", { name: context.spec.container }, ...steps);

/** The engine container, as the stages before left it. */
export const containerOf = (context: StageContext): Container =>
  context.template.spec.containers.find(({ name }) => name === context.spec.container) ?? {
    name: context.spec.container,
  };

/** Nothing to do, and why. */
export const nothing = (message: string): StageResult => ({
  changes: [],
  verdict: skipped("StageNothingToDo", message),
});

/** Everything already is as wanted. */
export const asWanted = (stage: Stage): Verdict =>
  kept("StageNothingToDo", "everything is as wanted", { subject: stage });
