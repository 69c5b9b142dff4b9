/** What went wrong with a call to the API server: one type, whatever broke. */
export interface KubeFailure {
  /** HTTP status, or 0 where no answer came. */
  readonly status: number;
  /** The server's reason (`Conflict`, `NotFound`, `AlreadyExists`, `Expired`, ...), or `Unreachable`, `Timeout`, `Aborted`, `Malformed`. */
  readonly reason: string;
  readonly message: string;
}

export class KubeError extends Error implements KubeFailure {
  readonly status: number;
  readonly reason: string;

  constructor(failure: KubeFailure) {
    super(failure.message);
    this.name = "KubeError";
    this.status = failure.status;
    this.reason = failure.reason;
  }
}

/** True for a KubeError of this HTTP status. */
export const hasStatus = (error: unknown, status: number): boolean =>
  error instanceof KubeError && error.status === status;
