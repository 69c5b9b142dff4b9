/**
 * The controller's one loop: gather, decide, do. A pass runs after a change (200 ms later, so that a rollout of many
 * pods is one pass), and at least every `controller.resyncMs`.
 *
 * Passes never overlap. Only the leader acts, and leadership is asked before every write. One action that fails stops no
 * other; it waits its turn. What else must be reconciled (certificates) comes in as tasks.
 */
import type { Config } from "../config/schema.ts";
import { isObject, type KubeObject, type ObjectRef } from "../kinds/kube.ts";
import { pluralOf } from "../kinds/resource.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { hasStatus } from "../kinds/kube-error.ts";
import { isWarned, warned, type Verdict } from "../kinds/verdict.ts";
import { FIELD_MANAGER } from "../kinds/names.ts";
import type { Cancel, Clock, KubeReader, KubeWriter, Log, Metrics, Random, Timers } from "../ports.ts";
import { kindOf, type Action } from "./action.ts";
import { controllerPlan } from "./plan.ts";
import { createExplainer, type Judge } from "./explanations.ts";
import { optedIn, reachOf } from "./reach.ts";
import { createGates, type Gates } from "./gates.ts";
import { rememberedTree, type TreeOf } from "../topology/memo.ts";
import { createRetries, type Retries } from "./retries.ts";

/** Something else to reconcile: every `controller.resyncMs`, sooner after a failure. */
export interface Task {
  readonly name: string;
  run(): Promise<readonly Verdict[]>;
}

export interface ControllerOptions {
  readonly config: Config;
  readonly snapshot: () => ClusterSnapshot;
  /** Nothing is decided before everything has been listed: what is not known yet would look deleted. */
  readonly synced: () => boolean;
  readonly onChange: (listener: () => void) => Cancel;
  readonly isLeader: () => boolean;
  readonly reader: Pick<KubeReader, "get">;
  readonly writer: KubeWriter;
  readonly tasks?: readonly Task[];
  /** What admission makes of a workload, for Events on it. */
  readonly judge?: Judge;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Controller {
  /** No pass runs once it has resolved. */
  stop(): Promise<void>;
}

const SETTLE_MS = 200;
/** A replica that does not lead looks this often whether it does. */
const STANDBY_MS = 1000;
const TASK_RETRY_MS = 5000;

interface State {
  readonly options: ControllerOptions;
  readonly retries: Retries;
  /** Monotonic time at which a task is due, by name. */
  readonly dueAt: Map<string, number>;
  /** Said in the log already. */
  readonly said: Set<string>;
  readonly explain: ReturnType<typeof createExplainer>;
  readonly gates: Gates;
  readonly tree: TreeOf;
  stopped: boolean;
}

export function startController(options: ControllerOptions): Controller {
  const state: State = {
    options,
    retries: createRetries(),
    dueAt: new Map(),
    said: new Set(),
    explain: createExplainer(options.judge ?? (() => [])),
    gates: createGates(options.config, () => options.clock.now()),
    tree: rememberedTree(options.config.topology),
    stopped: false,
  };
  let running: Promise<void> | undefined;
  let again = false;
  let cancel: Cancel = () => undefined;

  const schedule = (ms: number): void => {
    cancel();
    if (!state.stopped) cancel = options.timers.after(ms, begin);
  };
  const begin = (): void => {
    running = pass(state).then((wait) => {
      running = undefined;
      schedule(again ? SETTLE_MS : wait);
      again = false;
    });
  };
  const unsubscribe = options.onChange(() => {
    if (running === undefined) schedule(SETTLE_MS);
    else again = true;
  });
  begin();
  return {
    stop: async () => {
      state.stopped = true;
      unsubscribe();
      cancel();
      await running;
    },
  };
}

const mayAct = ({ stopped, options }: State): boolean => !stopped && options.isLeader();

/** One pass; gives the milliseconds until the next one, if nothing changes before. Never throws. */
async function pass(state: State): Promise<number> {
  const { clock, metrics, config, log } = state.options;
  if (!mayAct(state)) return STANDBY_MS;
  const begun = clock.monotonic();
  let wait: number = config.controller.resyncMs;
  try {
    wait = Math.min(wait, await runTasks(state));
    wait = Math.min(wait, await reconcile(state));
    metrics.observe("tandem_controller_reconcile_duration_seconds", (clock.monotonic() - begun) / 1000);
  } catch (error) {
    log.error("pass failed", { why: (error as Error).message });
    wait = TASK_RETRY_MS;
  }
  return wait;
}

async function runTasks(state: State): Promise<number> {
  const { tasks = [], clock, config, log } = state.options;
  let wait: number = config.controller.resyncMs;
  for (const task of tasks) {
    const left = (state.dueAt.get(task.name) ?? 0) - clock.monotonic();
    if (left > 0) {
      wait = Math.min(wait, left);
      continue;
    }
    let next: number = config.controller.resyncMs;
    try {
      for (const verdict of await task.run()) say(state, task.name, verdict);
    } catch (error) {
      next = TASK_RETRY_MS;
      log.warn("task failed", { task: task.name, why: (error as Error).message });
    }
    state.dueAt.set(task.name, clock.monotonic() + next);
    wait = Math.min(wait, next);
  }
  return wait;
}

async function reconcile(state: State): Promise<number> {
  const { options, retries } = state;
  if (!options.synced()) return STANDBY_MS;
  const configuration = await readReach(options);
  if (configuration === undefined) say(state, "reach", absentWebhooks(options));
  const snapshot = options.snapshot();
  const acts = optedIn(reachOf(configuration, snapshot), snapshot, options.config);
  const actions = controllerPlan(snapshot, {
    ...{ config: options.config, acts, explain: state.explain, gates: state.gates, tree: state.tree },
    now: options.clock.now(),
  });
  for (const action of actions) {
    if (!mayAct(state)) return STANDBY_MS;
    if (retries.due(action, options.clock.monotonic())) await carryOut(state, action);
  }
  const pending = retries.keep(actions, options.clock.monotonic());
  return Math.max(SETTLE_MS, pending ?? options.config.controller.resyncMs);
}

function readReach({ config, reader }: ControllerOptions): Promise<KubeObject | undefined | "none"> {
  const name = config.controller.webhookConfiguration;
  if (name === "") return Promise.resolve("none");
  return reader.get(webhookRef(name));
}

const webhookRef = (name: string): ObjectRef => ({
  apiVersion: "admissionregistration.k8s.io/v1",
  plural: pluralOf("MutatingWebhookConfiguration"),
  name,
});

const absentWebhooks = ({ config }: ControllerOptions): Verdict => ({
  outcome: "warned",
  reason: "WebhooksAbsent",
  message: `MutatingWebhookConfiguration ${config.controller.webhookConfiguration} is not there: nothing is done`,
});

async function carryOut(state: State, action: Action): Promise<void> {
  const { metrics, log, clock, random } = state.options;
  let outcome = "done";
  try {
    await write(state.options, action);
    say(state, action.key, action.verdict);
    await tell(state.options, action);
    metrics.count("tandem_controller_verdicts_total", {
      outcome: action.verdict.outcome,
      reason: action.verdict.reason,
    });
  } catch (error) {
    outcome = "failed";
    log.warn("action failed", { action: action.key, why: (error as Error).message });
    await tellRefusal(state.options, action, error);
  }
  state.retries.tried(action, clock.monotonic(), random.next());
  metrics.count("tandem_controller_writes_total", { kind: kindOf(action), outcome });
}

async function write({ writer }: ControllerOptions, action: Action): Promise<void> {
  switch (action.do) {
    case "apply":
      await writer.apply(action.object, FIELD_MANAGER.controller);
      return;
    case "patch":
      await writer.patch(action.ref, action.type, action.body);
      return;
    case "remove":
      await writer.remove(action.ref, action.uid, action.version);
      return;
    case "tell":
      return;
  }
}

/** What the API server will refuse again is for people to mend. */
const LASTING = [403, 422];

async function tellRefusal({ writer, log }: ControllerOptions, action: Action, error: unknown): Promise<void> {
  if (!LASTING.some((status) => hasStatus(error, status))) return;
  const verdict = warned("WriteRefused", `${action.key}: ${(error as Error).message}`);
  for (const object of action.about.length > 0 ? action.about : writtenTo(action))
    await writer.event(object, verdict).catch((failure: unknown) => log.debug("not told", { why: String(failure) }));
}

/** What nobody is told of while it is done is told where it was to be done: a gate that stays, on its pod. */
function writtenTo(action: Action): readonly KubeObject[] {
  if (action.do !== "patch" && action.do !== "remove") return [];
  const uid = action.do === "remove" ? action.uid : uidIn(action.body);
  const { apiVersion, namespace, name } = action.ref;
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }) };
  return [{ apiVersion, kind: action.kind, metadata }];
}

/** Merge patches carry the uid of what they were made for. */
function uidIn(body: unknown): string | undefined {
  const metadata = isObject(body) ? body["metadata"] : undefined;
  const uid = isObject(metadata) ? metadata["uid"] : undefined;
  return typeof uid === "string" ? uid : undefined;
}

async function tell({ writer }: ControllerOptions, action: Action): Promise<void> {
  for (const object of action.about) await writer.event(object, action.verdict);
}

/** Most lines to remember; then the same may be said again. */
const MOST_SAID = 4096;

/** Writes a verdict to the log, the same one once. */
function say(state: State, key: string, verdict: Verdict): void {
  const line = `${key}/${verdict.reason}/${verdict.message}`;
  if (state.said.has(line)) return;
  if (state.said.size >= MOST_SAID) state.said.clear();
  state.said.add(line);
  const { reason, subject, message } = verdict;
  state.options.log[isWarned(verdict) ? "warn" : "info"](message, { reason, subject });
}
