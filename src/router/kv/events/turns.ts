/** A bound on how many do something at once; the others wait, in order. */
import type { Cancel } from "../../../ports.ts";

/** Calls `begin` when it is its turn, at once where there is room; what is returned ends the turn, or the wait for it. */
export function turns(most: number): (begin: () => void) => Cancel {
  const waiting: (() => void)[] = [];
  let running = 0;
  const next = (): void => {
    if (running >= most) return;
    const begin = waiting.shift();
    if (begin === undefined) return;
    running += 1;
    begin();
  };
  return (begin) => {
    let state: "waiting" | "running" | "over" = "waiting";
    const mine = (): void => {
      state = "running";
      begin();
    };
    waiting.push(mine);
    next();
    return () => {
      const was = state;
      state = "over";
      if (was === "waiting") waiting.splice(waiting.indexOf(mine), 1);
      if (was !== "running") return;
      running -= 1;
      next();
    };
  };
}
