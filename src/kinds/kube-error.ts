/** What went wrong with a call to the API server: one type, whatever broke. */
export interface KubeFailure {
  /** HTTP status, or 0 where no answer came. */
  readonly status: number;
  /** The server's reason (`Conflict`, `NotFound`, `AlreadyExists`, `Expired`, ...), or `Unreachable`, `Timeout`, `Aborted`, `Malformed`, `Withheld`. */
  readonly reason: string;
  readonly message: string;
  /** So long the server asks not to be asked again, in milliseconds. */
  readonly retryAfterMs?: number;
}

export class KubeError extends Error implements KubeFailure {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterMs?: number;

  constructor(failure: KubeFailure) {
    super(failure.message);
    this.name = "KubeError";
    this.status = failure.status;
    this.reason = failure.reason;
    if (failure.retryAfterMs !== undefined) this.retryAfterMs = failure.retryAfterMs;
  }
}

/** True for a KubeError of this HTTP status. */
export const hasStatus = (error: unknown, status: number): boolean =>
  error instanceof KubeError && error.status === status;

/** True for a write that was not sent, since its sender might not write any more. */
export const isWithheld = (error: unknown): boolean => error instanceof KubeError && error.reason === "Withheld";

/** 0 where the server asks for nothing. */
export const retryAfterOf = (error: unknown): number => (error instanceof KubeError ? (error.retryAfterMs ?? 0) : 0);
