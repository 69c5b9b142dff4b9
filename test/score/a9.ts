import { X509Certificate } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import type { KubeObject } from "../../src/kinds/kube.ts";
import type { Cluster } from "../e2e/cluster/control-plane.ts";
import type { Installation } from "../e2e/cluster/installation.ts";
import { startLoad, type LoadReport } from "../e2e/cluster/load.ts";
import { eventually } from "../e2e/cluster/process.ts";
import { authorityOf } from "../e2e/cluster/tandem.ts";
import { withTandem } from "./cluster.ts";
import type { Progress, ScoreRow } from "./row.ts";

const RATE = 60;
const SECRETS = "/api/v1/namespaces/tandem-system/secrets";
const LEAF = "tandem-webhook-tls";

async function textIn({ api }: Cluster, secret: string, key: string): Promise<string | undefined> {
  const found = await api.get(`${SECRETS}/${secret}`).catch(() => undefined);
  const value = (found as (KubeObject & { data?: Record<string, string> }) | undefined)?.data?.[key];
  return value === undefined ? undefined : Buffer.from(value, "base64").toString();
}

/** Deletes a Secret, which makes the controller renew what was in it; resolves when it holds something else. */
async function renew(cluster: Cluster, secret: string, key: string): Promise<void> {
  const before = await textIn(cluster, secret, key);
  await cluster.api.remove(`${SECRETS}/${secret}`);
  await eventually(
    `another ${key}`,
    async () => {
      const after = await textIn(cluster, secret, key);
      return after !== undefined && after !== before ? after : undefined;
    },
    60_000,
  );
}

/** One handshake of a client that trusts what is published now; undefined when it was good. */
async function handshake(cluster: Cluster, port: number): Promise<string | undefined> {
  const ca = await authorityOf(cluster);
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port, ca: ca ?? "" });
    const done = (why: string | undefined): void => {
      socket.destroy();
      resolve(why);
    };
    socket.once("secureConnect", () => done(undefined)).once("error", (error: Error) => done(error.message));
  });
}

export interface RotationReport extends LoadReport {
  readonly handshakes: number;
  readonly failedHandshakes: number;
  readonly leaves: number;
  readonly authorities: number;
}

/** Rotates leaf and authority under load, with fresh handshakes beside the API server's kept-alive connections. */
export async function rotateUnderLoad(
  cluster: Cluster,
  tandem: Installation,
  wanted: { readonly perSecond: number; readonly least: number; readonly leaves: number; readonly authorities: number },
  progress: Progress = () => undefined,
): Promise<RotationReport> {
  const load = startLoad(cluster.api, { perSecond: wanted.perSecond });
  const [broken, seen]: [string[], Set<string>] = [[], new Set()];
  let [handshakes, done] = [0, false];
  const probing = (async () => {
    while (!done) {
      for (const { port } of tandem.replicas) {
        handshakes += 1;
        const why = await handshake(cluster, port);
        if (why !== undefined) broken.push(why);
      }
      await sleep(200);
    }
  })();
  for (let leaf = 0; leaf < wanted.leaves; leaf++) {
    await renew(cluster, LEAF, "tls.crt");
    seen.add(new X509Certificate((await textIn(cluster, LEAF, "tls.crt")) ?? "").serialNumber);
    await sleep(500);
  }
  progress(`${seen.size} leaves, ${load.sent()} admissions`);
  for (let authority = 0; authority < wanted.authorities; authority++) {
    await renewAuthority(cluster);
    progress(`${authority + 1} authorities, ${load.sent()} admissions, ${broken.length} failed handshakes`);
  }
  while (load.sent() < wanted.least) await sleep(100);
  done = true;
  await probing;
  const report = await load.stop();
  return {
    ...report,
    failures: [...report.failures, ...broken],
    handshakes,
    failedHandshakes: broken.length,
    leaves: seen.size,
    authorities: wanted.authorities,
  };
}

/** Lost, introduced again behind what is trusted, known for 10 s, promoted: the leaf is another one's then. */
async function renewAuthority(cluster: Cluster): Promise<void> {
  const before = await textIn(cluster, LEAF, "ca.crt");
  await cluster.api.remove(`${SECRETS}/${LEAF}-authority`);
  await eventually(
    "a leaf of the next authority",
    async () => {
      const after = await textIn(cluster, LEAF, "ca.crt");
      return after !== undefined && after !== before ? after : undefined;
    },
    60_000,
  );
}

export const row: ScoreRow = {
  id: "A9",
  fault: `leaf rotated 20 times and authority 10 times (their Secrets deleted) at ${RATE} admissions a second, failurePolicy Fail`,
  required: "0 failed admissions of at least 8000, 0 failed handshakes",
  run: (progress) =>
    withTandem({ failurePolicy: "Fail" }, async (cluster, tandem) => {
      const wanted = { perSecond: RATE, least: 8000, leaves: 20, authorities: 10 };
      const report = await rotateUnderLoad(cluster, tandem, wanted, progress);
      const { sent, failed, untouched, handshakes, failedHandshakes, leaves, authorities, perSecond, failures } =
        report;
      const first = failures[0] === undefined ? {} : { first: failures[0] };
      const figures = {
        sent,
        failed,
        untouched,
        handshakes,
        failedHandshakes,
        leaves,
        authorities,
        perSecond,
        ...first,
      };
      return { figures, met: failed + failedHandshakes === 0 && sent >= wanted.least && leaves === wanted.leaves };
    }),
};
