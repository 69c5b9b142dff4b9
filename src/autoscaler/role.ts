/**
 * One role of a group: from its need, with the memory of what was needed, to the work that must stand. Rises at once or in
 * panic; falls only when it was needed by nothing within the delay, and by more than chance. Knows no bounds and no variants.
 */
import type { Need } from "./demand.ts";
import { DelayMemory } from "./pace.ts";
import { WindowMaximum } from "./windows.ts";

export interface RoleInput {
  readonly at: number;
  readonly need: Need;
  /** Standard deviation of the need, as a share of it. */
  readonly noise: number;
  /** Reference instances that are asked for, and those of them that serve. */
  readonly asked: number;
  readonly ready: number;
  readonly panicThreshold: number;
  readonly scaleInDelayMs: number;
}

export interface RoleTarget {
  /** Reference instances, not rounded. */
  readonly work: number;
  readonly isPanicking: boolean;
  /** Why it is not less: the delay, or chance. */
  readonly isHeld: boolean;
}

/** Panic lasts until the need was below the threshold for so long. */
const PANIC_HOLD_MS = 60_000;
/** Outside panic what came in the last moments adds at most this share, or one instance, to what is asked for. */
const FAST_SHARE = 0.25;
/** More noise is a shape of its own, that no patience waits for. */
const MOST_NOISE = 0.1;
/** A fall smaller than so many standard deviations may be chance. */
const CHANCE = 3;
/** The delay doubles at this standard deviation of the mean, and grows with its square: at 9 % it is ten times as long. */
const PATIENCE = 0.03;
/**
 * Less than so many standard deviations are not worth a change of direction: 9 of 9 stay where 8 would do, under 30 % noise
 * (simulated over a day: none instead of one, for 7 % more GPU-hours).
 */
const DEAD_BAND = 2.5;

export class RoleMemory {
  readonly #delay = new DelayMemory();
  readonly #seen = new WindowMaximum();
  #panicUntil: number | undefined;
  #panicSince = 0;
  #wasWhole = true;

  /** A process that begins knows nothing of the last minutes: it takes nothing away for one hold. */
  begin(at: number, asked: number): void {
    this.#panicSince = at;
    this.#panicUntil = at + PANIC_HOLD_MS;
    this.#seen.add(at, asked);
    this.#delay.see(at, asked);
  }

  /** What nobody saw, or could measure, may have needed all that stood: once all is seen the delay begins anew. */
  sight({ at, asked, isWhole }: Pick<RoleInput, "at" | "asked"> & { readonly isWhole: boolean }): void {
    if (isWhole && !this.#wasWhole) this.#delay.see(at, asked);
    this.#wasWhole = isWhole;
  }

  target(input: RoleInput): RoleTarget {
    const { at, asked } = input;
    const need = finite(input.need);
    const noise = Math.min(MOST_NOISE, input.noise);
    const latest = Math.max(need.stable, need.fast);
    const isPanicking = this.#panic({ ...input, need });
    if (isPanicking) this.#seen.add(at, latest);
    const wanted = isPanicking
      ? Math.max(latest, this.#seen.since(this.#panicSince) ?? 0)
      : Math.max(need.stable, Math.min(need.fast, asked + Math.max(1, FAST_SHARE * asked)));
    this.#delay.see(at, wanted * (1 + CHANCE * noise));
    if (wanted >= asked) return { work: wanted, isPanicking, isHeld: false };
    const most = this.#delay.most(at, input.scaleInDelayMs * (1 + (noise / PATIENCE) ** 2));
    const held = most > asked * (1 - DEAD_BAND * noise) ? asked : most;
    return { work: Math.max(wanted, held), isPanicking, isHeld: Math.ceil(held) > Math.ceil(wanted) };
  }

  #panic({ at, need, ready, panicThreshold }: RoleInput): boolean {
    if (Math.ceil(need.fast) >= panicThreshold * Math.max(1, ready)) {
      if (this.#panicUntil === undefined || at > this.#panicUntil) this.#panicSince = at;
      this.#panicUntil = at + PANIC_HOLD_MS;
    }
    return this.#panicUntil !== undefined && at <= this.#panicUntil;
  }
}

/** A counter that jumped by a broken exporter is no need of infinitely many. */
const MOST = 1e6;

const finite = ({ stable, fast }: Need): Need => ({ stable: bounded(stable), fast: bounded(fast) });

const bounded = (need: number): number => (Number.isNaN(need) ? 0 : Math.min(MOST, Math.max(0, need)));
