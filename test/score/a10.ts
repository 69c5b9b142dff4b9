import { setImmediate as turn } from "node:timers/promises";
import { reconcileCertificates } from "../../src/certs/loop.ts";
import { isValidAt } from "../../src/certs/plan.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import { bundlesOf, certificatesOf, complaint, emptyCluster, optionsAt, stateOf } from "./certificates.ts";
import type { ScoreRow } from "./row.ts";

const START = Date.parse("2026-01-01T00:00:00Z");
const DAY = 86_400_000;
const MINUTE = 60_000;
/** `controller.resyncMs`; a suspended timer has all of it left at most. */
const RESYNC_MS = 30_000;
const HOUR_MS = 3_600_000;

export interface ClockJump {
  readonly name: string;
  readonly byMs: number;
  /** A leaf of before is not valid after the jump, so readiness must say no until it is renewed. */
  readonly breaksLeaf: boolean;
}

export const JUMPS: readonly ClockJump[] = [
  { name: "+400 d", byMs: 400 * DAY, breaksLeaf: true },
  { name: "-10 min", byMs: -10 * MINUTE, breaksLeaf: false },
  { name: "suspended for 45 d", byMs: 45 * DAY, breaksLeaf: true },
  { name: "-400 d", byMs: -400 * DAY, breaksLeaf: true },
];

export interface JumpResult {
  /** Until what is served is valid again and trusted by clients with the new time, from the jump on. */
  readonly recoveryMs: number;
  readonly readyWhileInvalid: boolean;
  readonly notBeforeBackMs: number;
  /** Authorities in the bundle at the end of the rotation. */
  readonly authorities: number;
}

/** The controller passes every 30 s of a clock that jumps between two passes. */
export async function jump({ byMs }: ClockJump): Promise<JumpResult> {
  const objects = emptyCluster(seededRandom(1).next);
  let now = START;
  const pass = async (): Promise<void> => {
    await reconcileCertificates(optionsAt(objects, () => now));
    await turn();
  };
  await pass();
  await pass();
  now += byMs;
  const jumped = now;
  const old = stateOf(objects).serving?.certificate ?? "";
  const readyWhileInvalid = isValidAt(old, now) && complaint(objects, now) !== "";
  const broken = complaint(objects, now) !== "";
  let recoveredAt: number | undefined;
  // The timer was about to start its 30 s when the clock jumped; ten minutes see a rotation through.
  for (let passes = 0; passes < 20; passes++) {
    now += RESYNC_MS;
    await pass();
    if (complaint(objects, now) === "") recoveredAt ??= now;
  }
  return {
    recoveryMs: broken ? (recoveredAt ?? Number.NaN) - jumped : 0,
    readyWhileInvalid,
    notBeforeBackMs: await freshLeafAge(),
    authorities: certificatesOf(bundlesOf(objects)[0] ?? "").length,
  };
}

/** How far back the first moment of a leaf lies that is made now, in milliseconds. */
async function freshLeafAge(): Promise<number> {
  const objects = emptyCluster(seededRandom(2).next);
  await reconcileCertificates(optionsAt(objects, () => START));
  const [leaf] = certificatesOf(stateOf(objects).serving?.certificate ?? "");
  return START - Date.parse(leaf?.validFrom ?? "");
}

export const isGood = ({ breaksLeaf }: ClockJump, result: JumpResult): boolean =>
  result.recoveryMs <= (breaksLeaf ? MINUTE : 0) &&
  !result.readyWhileInvalid &&
  result.notBeforeBackMs === HOUR_MS &&
  result.authorities === 1;

export const row: ScoreRow = {
  id: "A10",
  fault: "the clock jumps by +400 d, -10 min and -400 d, and over a suspension of 45 d (clock injected)",
  required: "renewed within 60 s; notBefore one hour back; not ready while the served leaf is invalid",
  run: async (progress) => {
    const figures: Record<string, number | string> = {};
    let met = true;
    for (const each of JUMPS) {
      const result = await jump(each);
      progress(`${each.name}: ${JSON.stringify(result)}`);
      figures[`recoverySeconds ${each.name}`] = result.recoveryMs / 1000;
      figures["notBeforeBackMinutes"] = result.notBeforeBackMs / MINUTE;
      met &&= isGood(each, result);
    }
    return { figures, met };
  },
};
