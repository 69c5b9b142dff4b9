import { forgeries } from "../support/forged.ts";
import { ENVOY_VERSIONS } from "../e2e/cluster/envoy-binary.ts";
import { ENVOY_PROFILES, type EnvoyProfile } from "../e2e/cluster/envoy.ts";
import { FAILING_ROUTERS } from "../e2e/cluster/failing-router.ts";
import { harm, sendAll, servedBy, startPool, type PoolOptions } from "../e2e/cluster/pool.ts";
import type { ScoreRow } from "./row.ts";

/** Requests to each Envoy and failure; R3_FORMS=81600 sends every form. */
const FORMS = Number(process.env["R3_FORMS"] ?? 120);
/** What an Envoy may take to find out that the router hangs: 10 s to the ping, 5 s for its answer, and connecting anew. */
const SLOWEST_MS = 40_000;

interface Setting extends PoolOptions {
  readonly profile: EnvoyProfile;
  readonly failing: string;
}

const SETTINGS: readonly Setting[] = ENVOY_VERSIONS.flatMap((version) =>
  ENVOY_PROFILES.flatMap((profile) => Object.keys(FAILING_ROUTERS).map((failing) => ({ version, profile, failing }))),
);

/** A stream that ends well, or says nothing at all of the destination, tells Envoy to go on. */
const GOES_ON = new Set(["ends", "says_nothing"]);

interface Found {
  readonly sent: number;
  readonly served: number;
  readonly unanswered: number;
  readonly survived: number;
  readonly strayed: number;
  readonly tookMs: number;
}

async function measure({ failing, ...options }: Setting): Promise<Found> {
  const instead = await FAILING_ROUTERS[failing]!();
  const pool = await startPool({ ...options, instead: instead.address });
  try {
    const all = [...forgeries(pool.stranger.address)].filter(({ name }) => !name.includes("blank before the colon"));
    const step = Math.max(1, Math.floor(all.length / FORMS));
    const chosen = all.filter((_, index) => index % step === 0);
    const begun = performance.now();
    const statuses = await sendAll(pool.envoy.url, chosen, chosen.length);
    const { survived, strayed } = harm(pool);
    const tookMs = Math.round(performance.now() - begun);
    const unanswered = statuses["0"] ?? 0;
    return { sent: chosen.length, served: servedBy(pool), unanswered, survived: survived.length, strayed, tookMs };
  } finally {
    await pool.stop();
    await instead.stop();
  }
}

export const row: ScoreRow = {
  id: "R3",
  fault: `the router absent, resetting, hanging, failing, or talking nonsense, under ${FORMS} forged requests for each of ${SETTINGS.length} settings of real Envoys`,
  required: `0 requests outside the decode engines; with a closed filter none there either, where the router does not say "go on"; every answer within ${SLOWEST_MS} ms`,
  run: async (progress) => {
    const total = { sent: 0, open: 0, leaked: 0, survived: 0, strayed: 0, slowestMs: 0 };
    for (const setting of SETTINGS) {
      const found = await measure(setting);
      progress(`${setting.version} ${setting.profile}, ${setting.failing}: ${JSON.stringify(found)}`);
      const mayServe = setting.profile === "fail-open" || GOES_ON.has(setting.failing);
      total.sent += found.sent;
      total[mayServe ? "open" : "leaked"] += found.served;
      total.survived += found.survived;
      total.strayed += found.strayed;
      total.slowestMs = Math.max(total.slowestMs, found.tookMs);
    }
    const { leaked, survived, strayed, slowestMs, open } = total;
    const met = leaked + survived + strayed === 0 && open > 0 && slowestMs <= SLOWEST_MS;
    return { figures: total, met };
  },
};
