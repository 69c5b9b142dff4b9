import { forgeries } from "../support/forged.ts";
import { ENVOY_VERSIONS } from "../e2e/cluster/envoy-binary.ts";
import { ENVOY_PROFILES } from "../e2e/cluster/envoy.ts";
import { harm, sendAll, servedBy, startPool, type PoolOptions } from "../e2e/cluster/pool.ts";
import type { ScoreRow } from "./row.ts";

/** Forms sent in all; R1_FORMS=1300000 sends every one everywhere. */
const FORMS = Number(process.env["R1_FORMS"] ?? 20_000);

/** Every shipped configuration, the same without its removal of headers, and one without the router's filter. */
const SETTINGS: readonly PoolOptions[] = ENVOY_VERSIONS.flatMap((version) => [
  ...ENVOY_PROFILES.flatMap((profile) => [false, true].map((believing) => ({ version, profile, believing }))),
  { version, profile: "light", plain: true } as const,
]);

interface Found {
  readonly sent: number;
  readonly served: number;
  readonly survived: readonly string[];
  readonly strayed: number;
}

async function measure(options: PoolOptions, offset: number): Promise<Found> {
  const pool = await startPool(options);
  try {
    const all = [...forgeries(pool.stranger.address)];
    const step = Math.max(1, Math.floor((all.length * SETTINGS.length) / FORMS));
    // Each setting begins elsewhere, so that together they send as many different ones as there can be.
    const chosen = all.filter((_, index) => index % step === offset % step);
    await sendAll(pool.envoy.url, chosen, 64);
    const { survived, strayed } = harm(pool);
    // Envoy's own headers are Envoy's to remove.
    const left = survived.filter((name) => options.believing !== true || !name.startsWith("x-envoy-"));
    return { sent: chosen.length, served: servedBy(pool), survived: left, strayed };
  } finally {
    await pool.stop();
  }
}

export const row: ScoreRow = {
  id: "R1",
  fault: `${FORMS} requests with routing headers forged in every form of name, value, place and kind, over ${SETTINGS.length} settings of real Envoys`,
  required: "0 survive at an engine, on every path; 0 requests outside the decode engines; 1,000 or more served",
  run: async (progress) => {
    const total = { sent: 0, served: 0, survived: 0, strayed: 0 };
    let first = "";
    for (const [index, options] of SETTINGS.entries()) {
      const { sent, served, survived, strayed } = await measure(options, index * 7);
      progress(
        `${JSON.stringify(options)}: ${sent} sent, ${served} served, ${survived.length} survived, ${strayed} strayed`,
      );
      total.sent += sent;
      total.served += served;
      total.survived += survived.length;
      total.strayed += strayed;
      first ||= survived[0] ?? "";
    }
    const met = total.survived === 0 && total.strayed === 0 && total.served >= 1000;
    return { figures: { ...total, ...(first === "" ? {} : { first }) }, met };
  },
};
