/** Loaded by `--import` before a program: its wall clock is off by `SKEW_MS` milliseconds; timers and monotonic clocks are not. */
const SKEW_MS = Number(process.env["SKEW_MS"] ?? 0);
const RealDate = Date;

class SkewedDate extends RealDate {
  constructor(...given: unknown[]) {
    super(...((given.length === 0 ? [SkewedDate.now()] : given) as [number]));
  }

  static override now(): number {
    return RealDate.now() + SKEW_MS;
  }
}

globalThis.Date = SkewedDate as DateConstructor;

/** Environment of a child process whose clock is off by so much. */
export const skewed = (ms: number): Readonly<Record<string, string>> => ({
  NODE_OPTIONS: `--import ${import.meta.url}`,
  SKEW_MS: String(ms),
});
