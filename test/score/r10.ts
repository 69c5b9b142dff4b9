/** R10: the router is told to go, or is killed, while streams are open: what becomes of them. */
import { setTimeout as sleep } from "node:timers/promises";
import { ProcessClient, type ProcessStream } from "../../src/simulator/gateway/client.ts";
import { answerOf, ask, comes, promptOf, sizeOf, startRouterProcess, type RouterProcess } from "./router-process.ts";
import type { Progress, ScoreResult, ScoreRow } from "./row.ts";

const STREAMS = sizeOf("R10_STREAMS", 1000);
/** Requests while one of two is killed. */
const REQUESTS = sizeOf("R10_REQUESTS", 10_000);
const CONCURRENCY = 50;
const CONNECTIONS = 4;
/** After the signal; answers take longer than that. */
const HOLD_MS = 3000;
const BACK_MS = 2000;

const start = (): Promise<RouterProcess> =>
  startRouterProcess({
    router: {
      endpoints: { static: [1, 2, 3].map((host) => ({ address: `127.0.0.${host}:9`, role: "both", model: "m" })) },
    },
  });

const isForwarded = (stream: { readonly reply: { readonly destination?: string } | undefined }): boolean =>
  stream.reply?.destination !== undefined;

/** The engine's answer, from its first header to its end: whether the router took part until then. */
async function finish(stream: ProcessStream): Promise<boolean> {
  stream.send(answerOf(true));
  stream.end();
  // The replies to the body, then that to the headers of the answer; then the end.
  for (let reply = await stream.next(); reply !== undefined; reply = await stream.next());
  return stream.status === "0";
}

async function terminated(progress: Progress): Promise<{ broken: number; exitCode: number; refusedLate: number }> {
  const router = await start();
  const clients = Array.from({ length: CONNECTIONS }, () => new ProcessClient(router.address));
  const open = await Promise.all(
    Array.from({ length: STREAMS }, (_, index) =>
      ask(clients[index % CONNECTIONS] as ProcessClient, promptOf("m", `prompt ${index}`)),
    ),
  );
  const unrouted = open.filter((each) => !isForwarded(each)).length;
  progress(`${STREAMS - unrouted} streams wait for their answers: SIGTERM`);
  router.signal("SIGTERM");
  await sleep(HOLD_MS);
  const ends = await Promise.all(open.map(({ stream }) => finish(stream)));
  const exitCode = (await Promise.race([router.ended, sleep(10_000)])) ?? -1;
  const refusedLate = await asks(router.address);
  await router.stop();
  return { broken: unrouted + ends.filter((fine) => !fine).length, exitCode, refusedLate };
}

/** 1 where a router that has gone still answers. */
async function asks(address: string): Promise<number> {
  const { reply } = await ask(new ProcessClient(address), promptOf("m", "late"));
  return reply === undefined ? 0 : 1;
}

interface Killed {
  readonly failed: number;
  readonly inFlight: number;
  readonly backMs: number;
}

/** A proxy with two replicas behind it, that takes the next one where a call failed at the connection. */
async function killed(progress: Progress): Promise<Killed> {
  const routers = [await start(), await start()];
  const clients = routers.map(({ address }) => new ProcessClient(address));
  let [sent, failed, inFlight, dead, killedAt, lastFailure] = [0, 0, 0, false, 0, 0];
  const running = [0, 0];
  const one = async (number: number): Promise<boolean> => {
    const at = dead ? 1 : number % 2;
    running[at] = (running[at] ?? 0) + 1;
    const { stream, reply } = await ask(clients[at] as ProcessClient, promptOf("m", `prompt ${number}`));
    const fine = reply?.destination !== undefined && (await finish(stream));
    running[at] -= 1;
    return fine;
  };
  const worker = async (): Promise<void> => {
    while (sent < REQUESTS) {
      const [number, begun] = [sent++, performance.now()];
      if (await one(number)) continue;
      lastFailure = performance.now();
      // The proxy saw its connection break; what it began behind that never left it, and goes to the other replica.
      dead = true;
      if (killedAt > 0 && begun > killedAt && (await one(number))) continue;
      failed += 1;
    }
  };
  const kill = async (): Promise<void> => {
    await comes(() => sent > REQUESTS / 2, 60_000);
    inFlight = running[0] ?? 0;
    killedAt = performance.now();
    routers[0]?.signal("SIGKILL");
  };
  await Promise.all([kill(), ...Array.from({ length: CONCURRENCY }, worker)]);
  progress(`${sent} requests, ${failed} failed, ${inFlight} were under way`);
  await Promise.all(routers.map((router) => router.stop()));
  return { failed, inFlight, backMs: Math.max(0, Math.round(lastFailure - killedAt)) };
}

async function run(progress: Progress): Promise<ScoreResult> {
  const { broken, exitCode, refusedLate } = await terminated(progress);
  const { failed, inFlight, backMs } = await killed(progress);
  const figures = { streams: STREAMS, broken, exitCode, refusedLate, requests: REQUESTS, failed, inFlight, backMs };
  const met = broken === 0 && exitCode === 0 && refusedLate === 0 && failed <= inFlight && backMs <= BACK_MS;
  return { figures, met };
}

export const row: ScoreRow = {
  id: "R10",
  fault: `SIGTERM with ${STREAMS} streams that wait for answers; SIGKILL of one of two replicas under ${REQUESTS} requests, ${CONCURRENCY} at a time`,
  required: `SIGTERM: no stream broken, exit code 0; SIGKILL: only what was under way fails, within ${BACK_MS} ms`,
  run,
};
