/** What is wrong with a call, and where, for the caller. */
export class BadCall extends Error {
  /** Of the answer. */
  readonly status: number = 400;
}
