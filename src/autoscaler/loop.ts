/**
 * The autoscaler's one loop: every `autoscaler.intervalMs` all groups are observed, a number is decided for each, and the
 * leader acts on it; a group for which a router holds requests comes at once. It decides nothing itself.
 *
 * Replicas that do not lead observe and decide all the same, and write nothing: what was learned of the load is there when
 * one of them takes over, and costs as much as the scrapes. Rounds of one group never overlap, and one that fails stops no
 * other.
 */
import type { Config } from "../config/schema.ts";
import { keyOf, type Pod, type Workload } from "../kinds/kube.ts";
import type { ClusterSnapshot } from "../kinds/snapshot.ts";
import { drainingOf } from "../workload/draining.ts";
import { makerOf } from "../workload/owner.ts";
import type { Cancel, Clock, KubeReader, KubeWriter, Log, MetricSeries, Random, Timers } from "../ports.ts";
import { createActor, type Actor } from "./act/actor.ts";
import type { WorkloadView } from "./act/plan.ts";
import { createThrottle, type Throttle } from "./act/throttle.ts";
import type { Decision, Observation, WorkloadDecision } from "./group.ts";
import { createHistory, type History } from "./history.ts";
import { createMeter, type Meter } from "./meter.ts";

export interface Observed {
  /** Unique over the cluster, and the same from one observation to the next. */
  readonly group: string;
  readonly observation: Observation;
}

/** Where observations come from. */
export interface Observer {
  /** All groups, or the one of this name if it is there. Given at once: what must be waited for was read before. */
  observe(only?: string): readonly Observed[];
  /** Called when requests wait for a group that has no endpoint. */
  onWake(listener: (group: string) => void): Cancel;
}

/** The decision core: pure, with a memory of its own for each group. */
export interface Decider<Memory> {
  createMemory(): Memory;
  decide(memory: Memory, observation: Observation): Decision;
}

export interface AutoscalerOptions<Memory> {
  readonly config: Config["autoscaler"];
  readonly observer: Observer;
  readonly decider: Decider<Memory>;
  readonly snapshot: () => ClusterSnapshot;
  /** Nothing is decided before everything has been listed. */
  readonly synced: () => boolean;
  readonly isLeader: () => boolean;
  readonly reader: Pick<KubeReader, "get">;
  readonly writer: Pick<KubeWriter, "patch" | "event">;
  readonly clock: Clock;
  /** The API server's own time in milliseconds since the epoch, where it was heard. */
  readonly serverNow?: () => number | undefined;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: MetricSeries;
  /** Told of every decision, whoever leads. */
  readonly onDecision?: (observation: Observation, decision: Decision) => void;
  /** Told which workloads there are, by id, after each round over all groups. */
  readonly onRound?: (workloads: ReadonlySet<string>) => void;
}

export interface Autoscaler {
  /** The last decisions, for people. */
  readonly history: Pick<History, "last" | "of">;
  /** True once a round has come to its end. */
  readonly began: () => boolean;
  /** Nothing is written once it has resolved. */
  stop(): Promise<void>;
}

/** After a write the watch tells within moments what came of it. */
const SETTLE_MS = 1000;
/** Words that requests wait come with every one of them. */
const WAKE_MS = 250;

interface Group<Memory> {
  readonly memory: Memory;
  running: Promise<void> | undefined;
  /** What is to follow the round that runs. */
  next: Round | undefined;
  /** Monotonic time of its last beginning. */
  begunAt: number;
  cancel: Cancel;
}

interface Round {
  /** Monotonic time at which a router told that requests wait. */
  readonly wokenAt?: number;
}

interface State<Memory> {
  readonly options: AutoscalerOptions<Memory>;
  readonly groups: Map<string, Group<Memory>>;
  readonly throttle: Throttle;
  readonly actor: Actor;
  readonly history: History;
  readonly meter: Meter;
  /** Pods being taken back that drain for nobody. */
  strays: Promise<void> | undefined;
  began: boolean;
  stopped: boolean;
}

export function startAutoscaler<Memory>(options: AutoscalerOptions<Memory>): Autoscaler {
  const state = stateOf(options);
  let cancel: Cancel = () => undefined;
  const tick = (): void => {
    cancel = options.timers.after(options.config.intervalMs, tick);
    roundOfAll(state);
  };
  const unsubscribe = options.observer.onWake((group) => wake(state, group));
  tick();
  return {
    history: state.history,
    began: () => state.began,
    stop: async () => {
      state.stopped = true;
      unsubscribe();
      cancel();
      for (const group of state.groups.values()) group.cancel();
      await state.throttle.stop();
      await Promise.all([...state.groups.values()].flatMap(({ running }) => running ?? []));
    },
  };
}

function stateOf<Memory>(options: AutoscalerOptions<Memory>): State<Memory> {
  const { clock, timers, config, isLeader } = options;
  const state = { stopped: false };
  const mayWrite = (): boolean => !state.stopped && isLeader();
  const throttle = createThrottle({ clock, timers, perSecond: config.writesPerSecond, mayWrite });
  const wallClock = (): number => options.serverNow?.() ?? clock.now();
  const actor = createActor({ ...options, throttle, times: config.drain, wallClock });
  const parts = { throttle, actor, history: createHistory(), meter: createMeter(options.metrics) };
  return Object.assign(state, { options, groups: new Map(), strays: undefined, began: false, ...parts });
}

/** Observes and decides in one turn of the event loop; the writes follow in their own time. */
function roundOfAll<Memory>(state: State<Memory>): void {
  const { options } = state;
  if (!options.synced()) return;
  const observed = observe(state);
  if (observed === undefined) return;
  const begun = options.clock.monotonic();
  for (const one of observed) begin(state, one, {});
  options.metrics.observe("tandem_autoscaler_round_seconds", (options.clock.monotonic() - begun) / 1000, {
    phase: "decide",
  });
  forget(state, observed);
  takeBackStrays(state, observed);
  state.began = true;
}

function observe<Memory>({ options }: State<Memory>, only?: string): readonly Observed[] | undefined {
  const { clock, metrics, log, observer } = options;
  const begun = clock.monotonic();
  try {
    const observed = observer.observe(only);
    if (only === undefined)
      metrics.observe("tandem_autoscaler_round_seconds", (clock.monotonic() - begun) / 1000, { phase: "observe" });
    return observed;
  } catch (error) {
    metrics.count("tandem_autoscaler_failures_total", { phase: "observe" });
    log.error("not observed", { group: only, why: (error as Error).message });
    return undefined;
  }
}

function groupOf<Memory>({ groups, options }: State<Memory>, name: string): Group<Memory> {
  const known = groups.get(name);
  if (known !== undefined) return known;
  const fresh: Group<Memory> = {
    memory: options.decider.createMemory(),
    running: undefined,
    next: undefined,
    begunAt: -Infinity,
    cancel: () => undefined,
  };
  groups.set(name, fresh);
  return fresh;
}

/** A group whose writes are still under way is decided anew when they are done. */
function begin<Memory>(state: State<Memory>, observed: Observed, round: Round): void {
  const group = groupOf(state, observed.group);
  if (group.running !== undefined) {
    group.next = { ...group.next, ...round };
    return;
  }
  group.cancel();
  group.begunAt = state.options.clock.monotonic();
  const running = roundOf(state, observed, { group, round }).then((again) => {
    group.running = undefined;
    const { next } = group;
    group.next = undefined;
    if (next !== undefined) later(state, observed.group, { ms: 0, round: next });
    else if (again) later(state, observed.group, { ms: SETTLE_MS, round: {} });
  });
  group.running = running;
}

function later<Memory>(state: State<Memory>, name: string, { ms, round }: { ms: number; round: Round }): void {
  const group = state.groups.get(name);
  if (state.stopped || group === undefined) return;
  group.cancel();
  group.cancel = state.options.timers.after(ms, () => again(state, name, round));
}

function again<Memory>(state: State<Memory>, name: string, round: Round): void {
  if (state.stopped || !state.options.synced()) return;
  const observed = observe(state, name)?.find(({ group }) => group === name);
  if (observed !== undefined) begin(state, observed, round);
}

function wake<Memory>(state: State<Memory>, name: string): void {
  const { clock } = state.options;
  const round = { wokenAt: clock.monotonic() };
  const group = state.groups.get(name);
  const since = clock.monotonic() - (group?.begunAt ?? -Infinity);
  // Clients that come and go make many such words: each would look at the whole group.
  if (group?.running !== undefined) group.next = { ...group.next, ...round };
  else if (since >= WAKE_MS) again(state, name, round);
  else later(state, name, { ms: WAKE_MS - since, round });
}

interface Running<Memory> {
  readonly group: Group<Memory>;
  readonly round: Round;
}

/** One group, once. True where it is worth to look again soon. Never throws. */
async function roundOf<Memory>(state: State<Memory>, observed: Observed, running: Running<Memory>): Promise<boolean> {
  const { options } = state;
  const decision = decide(state, observed, running.group.memory);
  if (decision === undefined) return false;
  const acted = options.isLeader() ? await actOn(state, observed, decision) : NOTHING_DONE;
  state.meter.show(observed.group, decision, acted.draining);
  const { wokenAt } = running.round;
  if (wokenAt !== undefined)
    options.metrics.observe("tandem_autoscaler_wake_seconds", (options.clock.monotonic() - wokenAt) / 1000);
  return acted.again;
}

function decide<Memory>(state: State<Memory>, { group, observation }: Observed, memory: Memory): Decision | undefined {
  const { decider, metrics, log } = state.options;
  try {
    const decision = decider.decide(memory, observation);
    state.history.add(group, decision, observation.wallClock);
    state.options.onDecision?.(observation, decision);
    return decision;
  } catch (error) {
    metrics.count("tandem_autoscaler_failures_total", { phase: "decide" });
    log.error("not decided", { group, why: (error as Error).message });
    return undefined;
  }
}

interface Acted {
  readonly again: boolean;
  readonly draining: ReadonlyMap<string, number>;
}

const NOTHING_DONE: Acted = { again: false, draining: new Map() };

async function actOn<Memory>(
  state: State<Memory>,
  { group, observation }: Observed,
  decision: Decision,
): Promise<Acted> {
  const { options, actor } = state;
  const until = options.clock.monotonic() + options.config.intervalMs;
  try {
    const views = viewsOf(options.snapshot(), observation, decision.workloads);
    const acted = await Promise.all(views.map(async (view) => [view, await actor.act(view, until)] as const));
    return {
      again: acted.some(([, { again }]) => again),
      draining: new Map(acted.map(([{ seen }, { draining }]) => [seen.id, draining])),
    };
  } catch (error) {
    options.metrics.count("tandem_autoscaler_failures_total", { phase: "act" });
    options.log.error("not acted", { group, why: (error as Error).message });
    return NOTHING_DONE;
  }
}

/** What was decided about a workload that is gone, or is on its way out, is past. */
function viewsOf(
  snapshot: ClusterSnapshot,
  observation: Observation,
  decisions: readonly WorkloadDecision[],
): readonly WorkloadView[] {
  const { workloads, pods } = indexOf(snapshot);
  const seen = new Map(observation.workloads.map((workload) => [workload.id, workload]));
  return decisions.flatMap((decision) => {
    const [one, workload] = [seen.get(decision.workload), workloads.get(decision.workload)];
    if (one === undefined || workload?.metadata.deletionTimestamp !== undefined || workload === undefined) return [];
    const instances = observation.instances.filter((instance) => instance.workload === one.id);
    return [
      { workload, decision, seen: one, pods: pods.get(one.id) ?? [], instances, budgets: snapshot.budgets ?? [] },
    ];
  });
}

interface Index {
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly pods: ReadonlyMap<string, readonly Pod[]>;
}

/** Made once for each snapshot: many groups act on the same. */
const INDEXES = new WeakMap<ClusterSnapshot, Index>();

function indexOf(snapshot: ClusterSnapshot): Index {
  const known = INDEXES.get(snapshot);
  if (known !== undefined) return known;
  const index = {
    workloads: new Map(snapshot.workloads.map((workload) => [idOf(workload), workload])),
    pods: Map.groupBy(snapshot.pods, (pod) => makerOf(pod) ?? ""),
  };
  INDEXES.set(snapshot, index);
  return index;
}

const idOf = ({ kind, metadata }: Workload): string =>
  `${metadata.namespace ?? "default"}/${kind}/${metadata.name ?? ""}`;

/** What is gone is remembered no more; a group that comes back is new. */
function forget<Memory>(state: State<Memory>, observed: readonly Observed[]): void {
  const { groups, history, meter, actor, options } = state;
  const names = new Set(observed.map(({ group }) => group));
  for (const [name, group] of groups)
    if (!names.has(name) && group.running === undefined) {
      group.cancel();
      groups.delete(name);
    }
  const workloads = new Set(observed.flatMap(({ observation }) => observation.workloads.map(({ id }) => id)));
  history.keep(workloads);
  meter.keep(names);
  actor.keep(workloads);
  options.onRound?.(workloads);
}

/** What drains in other namespaces may drain for another autoscaler. */
const isOurs = ({ namespaces }: Config["autoscaler"], namespace = "default"): boolean =>
  namespaces.length === 0 || namespaces.includes(namespace);

/** Pods that drain while nobody scales what they belong to: its mode was switched off, or its labels were taken off. */
function takeBackStrays<Memory>(state: State<Memory>, observed: readonly Observed[]): void {
  const { options, actor } = state;
  if (!options.isLeader() || state.strays !== undefined) return;
  const known = new Set(observed.flatMap(({ observation }) => observation.workloads.map(({ id }) => id)));
  const strays = options
    .snapshot()
    .pods.filter((pod) => drainingOf(pod) !== undefined && !known.has(makerOf(pod) ?? keyOf(pod)))
    .filter(({ metadata }) => isOurs(options.config, metadata.namespace));
  if (strays.length === 0) return;
  const until = options.clock.monotonic() + options.config.intervalMs;
  state.strays = actor.takeBack(strays, until).then(() => (state.strays = undefined));
}
