/** A row of the scorecard: a fault, how it is injected, what must come of it, and the figure that was measured. */

/** A name ends in its unit, as `worstDelayMs`; text where no number says it. */
export type Figures = Readonly<Record<string, number | string>>;

export interface ScoreResult {
  readonly figures: Figures;
  /** Whether the figures meet what is required. */
  readonly met: boolean;
}

/** Tells what happens, one line at a time; goes to stderr. */
export type Progress = (line: string) => void;

export interface ScoreRow {
  /** A letter and a number, as `A5`; its file is `a5.ts`. */
  readonly id: string;
  /** What goes wrong, and how it is injected. */
  readonly fault: string;
  /** What must come of it, with its number. */
  readonly required: string;
  run(progress: Progress): Promise<ScoreResult>;
}
