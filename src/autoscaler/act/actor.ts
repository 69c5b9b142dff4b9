/**
 * Carries plans out, one workload at a time: each write in its turn, under the fence of what was read, and only while this
 * replica leads. What fails waits, longer with each failure, and stops no other workload; what another changed meanwhile
 * is read again and planned anew. It decides nothing.
 */
import { hasStatus, retryAfterOf } from "../../kinds/kube-error.ts";
import { keyOf, type KubeObject, type Pod } from "../../kinds/kube.ts";
import { AUTOSCALING_STATUS } from "../../kinds/names.ts";
import { warned, type Verdict } from "../../kinds/verdict.ts";
import { lastScaleText } from "../../workload/draining.ts";
import { replicasPerInstance } from "../../workload/scaling-decode.ts";
import type { Clock, KubeReader, KubeWriter, Log, Metrics, Random } from "../../ports.ts";
import { createBackoff, type Backoff } from "./backoff.ts";
import type { DrainMemory } from "./drain.ts";
import { isActive } from "./instances.ts";
import { planActions, type DrainTimes, type Plan, type Step, type WorkloadView } from "./plan.ts";
import { answersOf, changeVerdict, untold } from "./tell.ts";
import { NotWritten, type Throttle, type Urgency } from "./throttle.ts";
import { verify, type Shrunk } from "./verify.ts";
import { podPatch, replicasOf, scalePatch, scaleRef, workloadPatch, type Patch } from "./writes.ts";

export interface ActorOptions {
  readonly reader: Pick<KubeReader, "get">;
  readonly writer: Pick<KubeWriter, "patch" | "event">;
  readonly throttle: Throttle;
  readonly times: DrainTimes;
  readonly clock: Pick<Clock, "monotonic">;
  /** Milliseconds since the epoch, by the API server's clock where it was heard: what is written outlives this process. */
  readonly wallClock: () => number;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface Acted {
  /** Something was written, or was found changed: it is worth to look again soon. */
  readonly again: boolean;
  readonly draining: number;
}

export interface Actor {
  /** Plans and writes; what has not begun by `until` (monotonic) is left to the next plan. Never throws. */
  act(view: WorkloadView, until: number): Promise<Acted>;
  /** Takes back pods that drain for nobody: their workload is scaled by us no more. Never throws. */
  takeBack(pods: readonly Pod[], until: number): Promise<void>;
  /** Forgets all workloads but these. */
  keep(workloads: ReadonlySet<string>): void;
}

/** Of one workload, between plans. */
interface Memory {
  drains: ReadonlyMap<string, DrainMemory>;
  shrunk: Shrunk | undefined;
  /** Monotonic time of the last write of its annotations. */
  toldAt: number | undefined;
}

interface State extends ActorOptions {
  readonly backoff: Backoff;
  readonly memories: Map<string, Memory>;
}

export function createActor(options: ActorOptions): Actor {
  const state: State = { ...options, backoff: createBackoff(), memories: new Map() };
  return {
    act: (view, until) => act(state, view, until),
    takeBack: async (pods, until) => {
      await Promise.all(pods.map((pod) => takeBack(state, pod, until)));
    },
    keep: (workloads) => {
      for (const key of state.memories.keys()) if (!workloads.has(key)) state.memories.delete(key);
      state.backoff.keep(workloads);
    },
  };
}

function memoryOf({ memories }: State, workload: string): Memory {
  const known = memories.get(workload);
  if (known !== undefined) return known;
  const fresh: Memory = { drains: new Map(), shrunk: undefined, toldAt: undefined };
  memories.set(workload, fresh);
  return fresh;
}

/** One workload, one plan. */
interface Job {
  readonly state: State;
  readonly view: WorkloadView;
  readonly memory: Memory;
  readonly plan: Plan;
  readonly until: number;
}

async function act(state: State, view: WorkloadView, until: number): Promise<Acted> {
  const { clock, wallClock, times, backoff } = state;
  const memory = memoryOf(state, view.seen.id);
  const now = clock.monotonic();
  checkShrunk(state, view, memory);
  const plan = planActions(view, memory.drains, { times, moment: { now, wallClock: wallClock() } });
  memory.drains = plan.drains;
  const acted = { again: false, draining: plan.draining };
  if (!backoff.due(view.seen.id, now)) return acted;
  const job = { state, view, memory, plan, until };
  const again = await carryOut(job);
  await tellPeople(job);
  return { ...acted, again };
}

/** Whether to look again soon. After a failure only what people wait for is tried. */
async function carryOut(job: Job): Promise<boolean> {
  const { state, view, plan } = job;
  const outcomes = new Set<Outcome>();
  for (const step of plan.steps)
    if (isTried(job, step, outcomes)) outcomes.add(await attempt(job, kindOf(step), () => write(job, step)));
  // The first wait is over when the next look comes; conflicts without end must not make writes without end.
  const missed = outcomes.has("failed") || outcomes.has("conflict");
  if (missed) state.backoff.failed(view.seen.id, state.clock.monotonic(), state.random.next());
  else if (!outcomes.has("stopped")) state.backoff.succeeded(view.seen.id);
  return !outcomes.has("failed") && (outcomes.has("done") || outcomes.has("conflict"));
}

const isTried = (job: Job, step: Step, before: ReadonlySet<Outcome>): boolean =>
  !before.has("stopped") && (!before.has("failed") || isUrgent(step)) && !isHeld(job);

const isUrgent = (step: Step): boolean => step.do === "release" || (step.do === "scale" && step.to > step.from);
const urgencyOf = (step: Step): Urgency => (isUrgent(step) ? "urgent" : "ordinary");
const kindOf = (step: Step): string => (step.do === "scale" ? "Scale" : "Pod");

const isHeld = ({ state, view }: Job): boolean => state.backoff.isHeld(view.seen.id, state.clock.monotonic());

type Outcome = "done" | "conflict" | "failed" | "stopped";

async function attempt({ state, view }: Job, kind: string, task: () => Promise<void>): Promise<Outcome> {
  const outcome = await task().then(
    () => "done" as const,
    (error: unknown) => outcomeOf(state, view, error),
  );
  if (outcome !== "stopped") state.metrics.count("tandem_autoscaler_writes_total", { kind, outcome });
  return outcome;
}

/** What the API server will refuse again is for people to mend. */
const LASTING = [403, 422];

function outcomeOf(state: State, { workload, seen }: WorkloadView, error: unknown): Outcome {
  if (error instanceof NotWritten) return "stopped";
  const why = (error as Error).message;
  if (hasStatus(error, 409) || error instanceof ChangedMeanwhile) {
    state.log.debug("changed meanwhile", { workload: seen.id, why });
    return "conflict";
  }
  state.log.warn("not written", { workload: seen.id, why });
  const retryAfterMs = retryAfterOf(error);
  if (retryAfterMs > 0) state.backoff.held(seen.id, state.clock.monotonic(), retryAfterMs);
  if (LASTING.some((status) => hasStatus(error, status)))
    tellEvent(state, workload, warned("ScaleRefused", `${seen.id}: ${why}`, { subject: seen.id }));
  return "failed";
}

/** The replicas are not those that were decided about. */
class ChangedMeanwhile extends Error {}

async function write(job: Job, step: Step): Promise<void> {
  if (step.do === "scale") {
    await scale(job, step);
    return;
  }
  const { state, until } = job;
  const { do: what, pod } = step;
  await patch(state, () => podPatch(what, pod, state.wallClock()), { urgency: urgencyOf(step), until });
}

/** The workload's Scale as it is now. */
async function readScale({ state, view: { workload } }: Job): Promise<KubeObject> {
  const read = await state.reader.get(scaleRef(workload));
  if (read === undefined) throw new ChangedMeanwhile("the workload is gone");
  return read;
}

interface Turn {
  readonly urgency: Urgency;
  readonly until: number;
  readonly goesOn?: boolean;
}

/** Made in its turn: what it is fenced by is read right before it leaves. What is gone needs no mark. */
async function patch(
  state: State,
  make: () => Patch | Promise<Patch>,
  { urgency, until, goesOn }: Turn,
): Promise<void> {
  const task = async (): Promise<void> => {
    if (state.clock.monotonic() > until) throw new NotWritten("its turn came too late");
    const { ref, body } = await make();
    await state.writer.patch(ref, "merge", body).catch((error: unknown) => {
      if (ref.plural !== "pods" || !hasStatus(error, 404)) throw error;
    });
  };
  await state.throttle.write(urgency, task, goesOn);
}

type ScaleStep = Extract<Step, { do: "scale" }>;

/** First what is about to be asked for, so that the number is known for ours whatever happens next; then the number. */
async function scale(job: Job, step: ScaleStep): Promise<void> {
  const { state, view, memory, plan, until } = job;
  const { workload, seen, decision } = view;
  const each = replicasPerInstance({ kind: workload.kind, nodesPerInstance: seen.nodesPerInstance });
  const turn = { urgency: urgencyOf(step), until };
  const standing = async (): Promise<KubeObject> => {
    const read = await readScale(job);
    const replicas = replicasOf(read);
    if (Math.ceil(replicas / each) === step.from) return read;
    throw new ChangedMeanwhile(`${replicas} replicas, not ${step.from * each}`);
  };
  const last = lastScaleText(step.from * each, step.to * each, state.wallClock());
  const answers = { ...answersOf(seen, decision, plan), [AUTOSCALING_STATUS.lastScale]: last };
  await patch(state, async () => workloadPatch(workload, await standing(), answers), turn);
  memory.toldAt = state.clock.monotonic();
  await patch(state, async () => scalePatch(workload, await standing(), step.to * each), { ...turn, goesOn: true });
  const { victims } = step;
  if (victims.length > 0) memory.shrunk = { victims, before: view.pods.filter(isActive), at: state.clock.monotonic() };
  const verdict = changeVerdict(decision, step);
  state.log.info(verdict.message, { workload: seen.id });
  for (const end of step.ends) state.metrics.count("tandem_autoscaler_drains_total", { end });
  tellEvent(state, workload, verdict);
}

/** In its turn, behind everything else; nothing waits for it. */
function tellEvent({ throttle, writer, metrics, log }: State, about: KubeObject, verdict: Verdict): void {
  const count = (outcome: Outcome): void => metrics.count("tandem_autoscaler_writes_total", { kind: "Event", outcome });
  throttle
    .write("ordinary", () => writer.event(about, verdict))
    .then(
      () => count("done"),
      (error: unknown) => {
        if (!(error instanceof NotWritten)) count("failed");
        log.debug("not told", { about: keyOf(about), why: (error as Error).message });
      },
    );
}

function checkShrunk(state: State, { workload, seen, pods }: WorkloadView, memory: Memory): void {
  if (memory.shrunk === undefined) return;
  const context = { workload: seen.id, now: state.clock.monotonic() };
  const { done, verdict } = verify(memory.shrunk, pods.filter(isActive), context);
  if (done) memory.shrunk = undefined;
  if (verdict !== undefined) tellEvent(state, workload, verdict);
}

/** Never in the way of what scales: only where a write would go out at once. */
async function tellPeople(job: Job): Promise<void> {
  const { state, view, memory, plan, until } = job;
  const now = state.clock.monotonic();
  const told = untold(view.workload, answersOf(view.seen, view.decision, plan), { toldAt: memory.toldAt, now });
  if (told === undefined || !state.throttle.isFree() || isHeld(job)) return;
  memory.toldAt = now;
  const turn = { urgency: "ordinary", until } as const;
  const task = (): Promise<void> =>
    patch(state, async () => workloadPatch(view.workload, await readScale(job), told), turn);
  const outcome = await attempt(job, view.workload.kind, task);
  if (outcome === "failed") state.backoff.failed(view.seen.id, now, state.random.next());
}

async function takeBack(state: State, pod: Pod, until: number): Promise<void> {
  const written = (): Patch => podPatch("release", pod, state.wallClock());
  const outcome = await patch(state, written, { urgency: "ordinary", until }).then(
    () => "done" as const,
    (error: unknown) => {
      state.log.debug("not taken back", { pod: keyOf(pod), why: (error as Error).message });
      return error instanceof NotWritten ? ("stopped" as const) : ("failed" as const);
    },
  );
  if (outcome !== "stopped") state.metrics.count("tandem_autoscaler_writes_total", { kind: "Pod", outcome });
}
