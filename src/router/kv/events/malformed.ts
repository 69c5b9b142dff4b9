/** Why a payload cannot be read. */
export type MalformedReason = "truncated" | "shape" | "tooLarge" | "tooDeep";

export class Malformed extends Error {
  readonly reason: MalformedReason;

  constructor(reason: MalformedReason) {
    super(reason);
    this.reason = reason;
  }
}

/** Made once: a flood of garbage must not cost a stack trace for each message. */
const FAILURES: Readonly<Record<MalformedReason, Malformed>> = {
  truncated: new Malformed("truncated"),
  shape: new Malformed("shape"),
  tooLarge: new Malformed("tooLarge"),
  tooDeep: new Malformed("tooDeep"),
};

export function fail(reason: MalformedReason): never {
  throw FAILURES[reason];
}
