/** What R7 and R8 share: a router of one endpoint, somebody honest who asks it, and the attackers' process. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ProcessClient } from "../../src/simulator/gateway/client.ts";
import { quantile } from "../support/usage.ts";
import type { Attack, Told } from "./raw-peers.ts";
import { ask, promptOf, startRouterProcess, type RouterProcess } from "./router-process.ts";

export interface Attacked {
  readonly told: Told;
  readonly latenciesMs: readonly number[];
  /** Requests of the honest one that were not picked for. */
  readonly failed: number;
}

/** Its endpoint need not exist: nothing is sent there. */
export const startTarget = (): Promise<RouterProcess> =>
  startRouterProcess({ router: { endpoints: { static: [{ address: "127.0.0.1:9", model: "m", served: ["m"] }] } } });

/** Between two requests: 100 a second and less, one after the other. */
const PAUSE_MS = 10;

/** Asks for so long; how long each pick took to come. */
export async function askFor(address: string, ms: number): Promise<Omit<Attacked, "told">> {
  const client = new ProcessClient(address);
  const latenciesMs: number[] = [];
  let failed = 0;
  const until = performance.now() + ms;
  for (let n = 0; performance.now() < until; n++) {
    const begun = performance.now();
    const { stream, reply } = await ask(client, promptOf("m", `question ${n} `.repeat(50)));
    latenciesMs.push(performance.now() - begun);
    if (reply === undefined || reply.status !== undefined) failed += 1;
    stream.reset();
    await sleep(PAUSE_MS);
  }
  client.close();
  return { latenciesMs, failed };
}

/** While the attack runs, the honest one asks on a connection of its own. */
export async function attack(attack: Attack, ms: number): Promise<Attacked> {
  const attackers = fork(join(import.meta.dirname, "raw-peers.ts"));
  attackers.send(attack);
  const asked = await askFor(attack.address, ms);
  attackers.send("tell");
  const [told] = (await once(attackers, "message")) as [Told];
  attackers.kill("SIGKILL");
  return { ...asked, told };
}

export const p99 = (latencies: readonly number[]): number => quantile(latencies, 0.99);
