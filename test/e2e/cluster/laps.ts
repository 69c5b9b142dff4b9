/** How long each part of a slow test took, as comments in its output. */
import type t from "tap";

/** Begins now; each call tells what is done by then. */
export function startLaps(test: Pick<typeof t, "comment">): (what: string) => void {
  const begun = performance.now();
  return (what) => {
    test.comment(`${what} after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  };
}
