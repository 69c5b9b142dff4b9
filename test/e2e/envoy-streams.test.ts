/**
 * Requests through real Envoys and the real router, each counted: none lost, none doubled, every body as it was sent;
 * clients that go away leave nothing behind; a router that is told to go breaks nothing, and beside another refuses
 * nothing. `STREAMS` at once (1000), `ABORTS` in each of three rounds (200), from seed `SEED`.
 */
import t from "tap";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { decodeMessage } from "../../src/router/replicas/message.ts";
import { startCollectingRouter } from "../score/collecting-router.ts";
import { comes, sizeOf, startRouterProcess, type RouterSettings } from "../score/router-process.ts";
import { startClients, type Answered, type Asked, type Clients } from "./cluster/counting-clients.ts";
import { checksum, startCountingEngines, type CountingEngines } from "./cluster/counting-engine.ts";
import { seededRandom } from "../../src/simulator/random.ts";
import { ENVOY_VERSIONS, type EnvoyVersion } from "./cluster/envoy-binary.ts";
import { startEnvoy, type Envoy, type EnvoyOptions } from "./cluster/envoy.ts";
import { freePorts } from "../support/ports.ts";

t.setTimeout(600_000);

const STREAMS = sizeOf("STREAMS", 1000);
const ABORTS = sizeOf("ABORTS", 200);
const SEED = sizeOf("SEED", 1);
const MIB = 1024 * 1024;
const LIMIT = 16 * MIB;
/** Bodies of the many; the large ones come a few at a time, since the router holds 128 MiB of bodies at most. */
const SIZES = [70, 1000, 4000, 16_000, 16_384, 16_385, 40_000, 65_536] as const;
const LARGE = [1 * MIB, 4 * MIB, LIMIT - 1, LIMIT] as const;
const ENGINES = 4;
/** Takes requests without a body: routed by load. */
const BARE = "/v1/passed";

/** A completion of exactly so many bytes, like no other. */
function bodyOf(id: string, bytes: number): Buffer {
  const head = `{"model":"m","max_tokens":8,"prompt":"${id} `;
  return Buffer.from(head + "x".repeat(Math.max(0, bytes - head.length - 2)) + '"}');
}

const askedOf = (id: string, bytes: number, answer: Asked["answer"]): Asked =>
  bytes === 0
    ? { id, answer, path: BARE, body: Buffer.alloc(0) }
    : { id, answer, path: "/v1/completions", body: bodyOf(id, bytes) };

const settings = (engines: CountingEngines, router: object = {}): RouterSettings => ({
  router: {
    ...{ endpoints: { static: engines.addresses.map((address) => ({ address, role: "both", model: "m" })) } },
    ...{ passthrough: [{ path: BARE, methods: ["POST"] }], scrapeIntervalMs: 60_000, ...router },
  },
});

/** What is wrong with an answer; undefined where it is that of this request's own body. */
function wrong({ id, body }: Asked, { status, text }: Answered): string | undefined {
  if (status !== 200) return `${id}: status ${status} ${text.slice(0, 200)}`;
  const told = JSON.stringify({ id, checksum: checksum(body) });
  return text.includes(told) ? undefined : `${id}: ${text.slice(-200)}`;
}

/** All of them, by both protocols in turn; what went wrong. */
async function askAll(clients: Clients, all: readonly Asked[]): Promise<readonly string[]> {
  const answers = await Promise.all(
    all.map((asked, index) => (index % 2 === 0 ? clients.overHttp1(asked) : clients.overHttp2(asked))),
  );
  return all.flatMap((asked, index) => wrong(asked, answers[index] as Answered) ?? []);
}

const COMPLAINTS = ["spurious_msgs_received", "streams_failed", "message_timeouts", "rejected_header_mutations"];
async function complaints(envoy: Envoy): Promise<readonly string[]> {
  const counts = await Promise.all(COMPLAINTS.map((name) => envoy.stat(`http.inference.ext_proc.${name}`)));
  return COMPLAINTS.filter((_, index) => counts[index] !== 0);
}

interface Variant extends Partial<EnvoyOptions> {
  readonly name: string;
}
const VARIANTS: readonly Variant[] = [
  { name: "light", profile: "light" },
  { name: "exact", profile: "exact" },
  { name: "buffered", profile: "light", bodyMode: "BUFFERED" },
];

const many = (): readonly Asked[] =>
  Array.from({ length: STREAMS }, (_, index) => {
    const bytes = index % 50 < 2 ? 0 : (SIZES[Math.floor(index / 2) % SIZES.length] ?? 0);
    return askedOf(`many-${index}`, bytes, index % 4 < 2 ? "sse" : "unary");
  });

function counted(version: EnvoyVersion, variant: Variant): void {
  t.test(`Envoy (${version}, ${variant.name}): ${STREAMS} at once, and bodies up to the limit`, async (t) => {
    const engines = await startCountingEngines(ENGINES);
    const router = await startRouterProcess(settings(engines));
    const base = { version, extProcAddress: router.address, decodeEndpoints: engines.addresses };
    const { name, ...options } = variant;
    const envoy = await startEnvoy({ ...base, ...options });
    t.comment(`${name}: ${envoy.log}`);
    const clients = startClients(envoy.url);
    t.teardown(async () => {
      await clients.close();
      await envoy.stop();
      await router.stop();
      engines.stop();
    });
    const all = many();
    // No answer before the last has come: all of them are open at once.
    engines.hold(all.length);
    t.same(await askAll(clients, all), [], "each is answered for its own body");
    for (const [index, bytes] of LARGE.entries()) {
      const pair = [`large-${index}-a`, `large-${index}-b`].map((id) => askedOf(id, bytes, "unary"));
      t.same(await askAll(clients, pair), [], `${bytes} bytes`);
    }
    const beyond = askedOf("beyond", LIMIT + 1, "unary");
    t.equal((await clients.overHttp1(beyond)).status, 413, "a byte more is too much");
    t.equal(engines.served.size, all.length + 2 * LARGE.length, "each came");
    t.same(
      [...engines.served].filter(([, times]) => times !== 1),
      [],
      "none came twice",
    );
    t.ok(await comes(async () => (await router.metric("tandem_router_streams")) === 0, 10_000), "no stream is left");
    t.same(await complaints(envoy), [], "Envoy complains of nothing");
  });
}

/** Another replica, that hears what the router has on its endpoints. */
async function startListener(): Promise<{ address: string; inflight: () => number; stop: () => void }> {
  const loads = new Map<string, number>();
  const server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    request.on("end", () => {
      const message = decodeMessage(text);
      if (message?.all === true) loads.clear();
      for (const [id, { inflight }] of message?.loads ?? []) loads.set(id, inflight);
      response.writeHead(204).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    inflight: () => [...loads.values()].reduce((sum, each) => sum + each, 0),
    stop: () => server.close().closeAllConnections(),
  };
}

/** Clients that go away: in their body, while they wait, or while the answer streams. */
async function abortAll(clients: Clients, round: string, random: () => number): Promise<void> {
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < ABORTS) {
      const asked = askedOf(`${round}-${next++}`, 100 + Math.floor(random() ** 3 * 2 * MIB), "sse");
      const bytes = random() < 0.4 ? Math.floor(random() * asked.body.length) : asked.body.length;
      const gone = { bytes, afterMs: Math.floor(random() * 120) };
      await (random() < 0.5 ? clients.goneHttp1(asked, gone) : clients.goneHttp2(asked, gone));
    }
  };
  await Promise.all(Array.from({ length: 20 }, one));
}

/** What may be alive that was not before: caches of code and of names; a leaked stream holds 3 KB, and its body. */
const SLACK_BYTES = 4 * MIB;

function aborted(version: EnvoyVersion, profile: "light" | "exact"): void {
  t.test(`Envoy (${version}, ${profile}): clients that go away leave nothing behind`, async (t) => {
    const engines = await startCountingEngines(ENGINES, 3);
    const listener = await startListener();
    const listen = `127.0.0.1:${(await freePorts(1))[0] ?? 0}`;
    const router = await startCollectingRouter(settings(engines, { replicas: { listen, peers: listener.address } }));
    const base = { version, profile, extProcAddress: router.address, decodeEndpoints: engines.addresses };
    const envoy = await startEnvoy(base);
    const clients = startClients(envoy.url);
    t.teardown(async () => {
      await clients.close();
      await envoy.stop();
      await router.stop();
      listener.stop();
      engines.stop();
    });
    const random = seededRandom(SEED).next;
    const idle = async (): Promise<boolean> =>
      (await router.metric("tandem_router_streams")) === 0 && listener.inflight() === 0;
    const live: number[] = [];
    const rss: number[] = [];
    for (const round of ["warm", "one", "two"]) {
      await abortAll(clients, round, random);
      t.ok(await comes(idle, 20_000), `${round}: no stream and no request in flight is left`);
      const { liveBytes, rssMib } = await router.held();
      live.push(liveBytes);
      rss.push(rssMib);
    }
    const [warm = 0, , last = 0] = live;
    t.ok(last - warm < SLACK_BYTES, `alive: ${live.join(", ")} bytes`);
    t.comment(`RSS ${rss.join(", ")} MiB, alive ${live.map((bytes) => Math.round(bytes / 1024)).join(", ")} KiB`);
    const after = Array.from({ length: 20 }, (_, index) => askedOf(`after-${index}`, 4000, "sse"));
    t.same(await askAll(clients, after), [], "others are served");
    t.same(
      [...engines.served].filter(([, times]) => times !== 1),
      [],
      "none came twice",
    );
  });
}

function drained(version: EnvoyVersion): void {
  t.test(`Envoy (${version}): one of two routers is told to go with ${STREAMS} streams open`, async (t) => {
    const engines = await startCountingEngines(ENGINES);
    const [healthOne = 0, healthTwo = 0, tellOne = 0, tellTwo = 0] = await freePorts(4);
    const peers = `127.0.0.1:${tellOne},127.0.0.1:${tellTwo}`;
    const started = ([health, tell]: readonly [number, number]) =>
      startRouterProcess(
        settings(engines, { healthListen: `127.0.0.1:${health}`, replicas: { listen: `127.0.0.1:${tell}`, peers } }),
      );
    const [one, two] = [await started([healthOne, tellOne]), await started([healthTwo, tellTwo])];
    const envoy = await startEnvoy({
      ...{ version, profile: "light", decodeEndpoints: engines.addresses },
      extProcAddress: `${one.address},${two.address}`,
      routerHealth: `127.0.0.1:${healthOne},127.0.0.1:${healthTwo}`,
    });
    const clients = startClients(envoy.url);
    t.teardown(async () => {
      await clients.close();
      await envoy.stop();
      await Promise.all([one.stop(), two.stop()]);
      engines.stop();
    });
    const all = Array.from({ length: STREAMS }, (_, index) => askedOf(`long-${index}`, 4000, "sse"));
    engines.hold();
    const answers = askAll(clients, all);
    t.ok(await comes(() => engines.waiting() === STREAMS, 60_000), "all wait for their answers");
    const open = await one.metric("tandem_router_streams");
    t.ok(open > STREAMS / 4, `${open} of them are open at the one that goes`);
    one.signal("SIGTERM");
    // Those that come while it goes: they wait with the others, and both protocols ask.
    const late: Asked[] = [];
    const lateAnswers: Promise<readonly string[]>[] = [];
    for (let count = 0; count < 100; count++) {
      const pair = [0, 1].map((side) => askedOf(`late-${count}-${side}`, 4000, "unary"));
      late.push(...pair);
      lateAnswers.push(askAll(clients, pair));
      // For longer than it waits for proxies to learn that it goes.
      await sleep(100);
    }
    engines.release();
    t.same(await answers, [], "no answer is broken");
    t.same((await Promise.all(lateAnswers)).flat(), [], "those that came meanwhile are served");
    t.equal(await Promise.race([one.ended, sleep(20_000)]), 0, "and it has gone");
    t.equal(engines.served.size, all.length + late.length, "each came");
    t.same(
      [...engines.served].filter(([, times]) => times !== 1),
      [],
      "none came twice",
    );
  });
}

for (const version of ENVOY_VERSIONS) {
  for (const variant of VARIANTS) counted(version, variant);
  for (const profile of ["light", "exact"] as const) aborted(version, profile);
  drained(version);
}
