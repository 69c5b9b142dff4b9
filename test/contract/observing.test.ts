/** A router and the autoscaler's eyes over loopback: statistics, groups that may be woken, requests that are held. */
import { setTimeout as sleep } from "node:timers/promises";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { startRouters, type Routers } from "../../src/autoscaler/observe/routers/client.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startRouterRole, type RouterRole } from "../../src/cli/roles/router.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import type { Endpoint } from "../../src/kinds/endpoint.ts";
import { ProcessClient, type ProcessStream } from "../../src/simulator/gateway/client.ts";
import { encodeBody, encodeHeaders } from "../../src/simulator/gateway/codec.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { freePorts } from "../support/ports.ts";

const MODEL = "m";
const GROUP = "n/g";
const HEADERS: readonly [string, string][] = [
  [":method", "POST"],
  [":path", "/v1/chat/completions"],
  ["content-type", "application/json"],
];

interface Rig {
  readonly role: RouterRole;
  readonly address: string;
  readonly routers: Routers;
  /** Groups in the order in which they were to be woken, with the time. */
  readonly woken: { readonly group: string; readonly at: number; readonly held: number }[];
  /** Begins a request; its first reply comes once there is one. */
  readonly ask: () => ProcessStream;
  endpoints: readonly Endpoint[];
}

/** One endpoint of the group, as it is found in a cluster. */
function endpointOf(ready: boolean): readonly Endpoint[] {
  const text = JSON.stringify({
    router: { endpoints: { static: [{ address: "10.0.0.1:80", role: "both", model: MODEL }] } },
  });
  return staticEndpoints(loadConfig({ text }).router.endpoints.static).map((endpoint) => ({
    ...{ ...endpoint, namespace: "n", group: "g", ready },
  }));
}

async function rig(t: Test, more: object = {}): Promise<Rig> {
  const address = `127.0.0.1:${(await freePorts(1))[0]!}`;
  const tokenFile = join(t.testdir(), "token");
  writeFileSync(tokenFile, "secret\n");
  const replicas = { listen: address, tokenFile };
  const text = JSON.stringify({ router: { replicas, leaveMs: 0, drainMs: 2000, ...more } });
  const flags = { "router.listen": "127.0.0.1:0", "router.healthListen": "" };
  const ports = createPorts(loadConfig({ text, flags }), SILENT_LOG);
  const self = { endpoints: [] as readonly Endpoint[] };
  const role = await startRouterRole(ports, { endpoints: () => self.endpoints, synced: () => true });
  const woken: Rig["woken"] = [];
  const routers = startRouters({
    ...ports,
    resolve: () => Promise.resolve([address]),
    token: () => "secret",
    onWake: (group) => {
      const held = routers.seen().get(group)?.[0]?.heldRequests ?? 0;
      woken.push({ group, at: performance.now(), held });
    },
  });
  const client = new ProcessClient(role.address);
  const streams: ProcessStream[] = [];
  t.teardown(async () => {
    for (const stream of streams) stream.reset();
    // One whose server ended tells nothing of its own end.
    await Promise.race([client.close(), sleep(200)]);
    await routers.stop();
    await role.stop();
  });
  const body = Buffer.from(
    JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "Hello? ".repeat(50) }] }),
  );
  const ask = (): ProcessStream => {
    const stream = client.open();
    streams.push(stream);
    stream.send(encodeHeaders("requestHeaders", HEADERS, false, { request: "FULL_DUPLEX_STREAMED", response: "NONE" }));
    stream.send(encodeBody("requestBody", body, true));
    return stream;
  };
  return Object.assign(self, { role, address, routers, woken, ask });
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) {
    if (tries > 1000) throw new Error(`never came: ${condition.toString()}`);
    await sleep(10);
  }
}

const figuresOf = async (address: string): Promise<Record<string, number>> => (await page(address))[GROUP] ?? {};
const heldRequests = async (address: string): Promise<number | undefined> => (await figuresOf(address))["heldRequests"];

const page = async (address: string): Promise<Record<string, Record<string, number>>> => {
  const reply = await fetch(`http://${address}/v1/statistics`, { headers: { authorization: "Bearer secret" } });
  return ((await reply.json()) as { groups: Record<string, Record<string, number>> }).groups;
};

/** The router knows that the group may be woken. */
async function mayWake(self: Rig): Promise<void> {
  self.routers.tell([{ group: GROUP, models: [MODEL], service: "s" }]);
  const models = async (): Promise<string> => {
    const client = new ProcessClient(self.role.address);
    const stream = client.open();
    const head: readonly [string, string][] = [
      [":method", "GET"],
      [":path", "/v1/models"],
    ];
    stream.send(encodeHeaders("requestHeaders", head, true, { request: "NONE", response: "NONE" }));
    const reply = await stream.next();
    await client.close();
    return JSON.stringify(reply);
  };
  await until(async () => (await models()).length > 0 && (await held(self)));
}

/** A request is held: tried until one is, and let go again. */
async function held(self: Rig): Promise<boolean> {
  const stream = self.ask();
  const reply = await Promise.race([stream.next(), sleep(100).then(() => "held" as const)]);
  stream.reset();
  return reply === "held";
}

/** A time at which nothing else kept the machine busy: a turn of the event loop took next to nothing. */
async function calm(self: Rig): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const before = performance.now();
    await sleep(50);
    if (performance.now() - before < 60) break;
  }
  self.woken.length = 0;
  return performance.now();
}

t.test("without the autoscaler's word a model that nobody serves is refused", async (t) => {
  const self = await rig(t);
  t.match(await self.ask().next(), { status: 404 });
});

t.test("a group is woken at once, and its requests are served once an engine is ready", async (t) => {
  const self = await rig(t);
  await mayWake(self);
  await until(async () => Object.keys(await page(self.address)).length === 1);
  const { requests: known = 0 } = await figuresOf(self.address);
  const asked = await calm(self);
  const streams = [self.ask(), self.ask(), self.ask()];
  await until(() => self.woken.length > 0);
  const { group, at, held: counted } = self.woken[0]!;
  t.equal(group, GROUP);
  t.ok(counted >= 1, "and is known to be waited for by then");
  t.ok(at - asked < 100, `${at - asked} ms`);
  await until(async () => (await heldRequests(self.address)) === 3);
  const { backlogTokens = 0, ...waiting } = await figuresOf(self.address);
  t.match(waiting, { requests: known + 3, backlogRequests: 3 });
  t.ok(backlogTokens > 200);
  self.endpoints = endpointOf(false);
  await sleep(200);
  t.equal(await heldRequests(self.address), 3, "one that starts takes nothing yet");
  self.endpoints = endpointOf(true);
  for (const stream of streams) t.match(await stream.next(), { destination: "10.0.0.1:80" });
  t.match(await figuresOf(self.address), { heldRequests: 0, requests: known + 3 });
  t.equal(self.woken.length, 1, "told once");
  for (const stream of streams) stream.reset();
});

t.test("bounds, time, a client that goes, a router that goes", async (t) => {
  const self = await rig(t, { hold: { maxRequests: 2, ttlMs: 1500 } });
  await mayWake(self);
  await until(async () => (await heldRequests(self.address)) === 0);
  const [one, two] = [self.ask(), self.ask()];
  await until(async () => (await heldRequests(self.address)) === 2);
  const full = await self.ask().next();
  t.match(full, { status: 503 });
  t.match(JSON.stringify(full), /HoldFull/);
  one.reset();
  await until(async () => (await heldRequests(self.address)) === 1);
  const late = await two.next();
  t.match(late, { status: 503 });
  t.match(JSON.stringify(late), /HoldExpired/);
  const three = self.ask();
  await until(async () => (await heldRequests(self.address)) === 1);
  const stopped = self.role.stop();
  const ended = await three.next();
  t.match(ended, { status: 503 });
  t.match(JSON.stringify(ended), /HoldEnded/);
  await stopped;
});

t.test("whoever follows later hears of what waits, and is told again after a break", async (t) => {
  const self = await rig(t);
  await mayWake(self);
  const stream = self.ask();
  await until(async () => (await heldRequests(self.address)) === 1);
  const woken: string[] = [];
  const ports = createPorts(loadConfig(), SILENT_LOG);
  const second = startRouters({
    ...ports,
    resolve: () => Promise.resolve([self.address, "127.0.0.1:1"]),
    token: () => "secret",
    onWake: (group) => void woken.push(group),
  });
  await until(() => woken.length > 0);
  t.same(woken, [GROUP]);
  await until(() => second.seen().has(GROUP));
  t.match(second.seen().get(GROUP), [{ heldRequests: 1 }, { at: -Infinity }], "one never answers: it is silent");
  await second.stop();
  const refused = startRouters({
    ...ports,
    resolve: () => Promise.resolve([self.address]),
    token: () => "wrong",
    onWake: (group) => void woken.push(group),
  });
  await sleep(300);
  t.equal(refused.seen().size, 0);
  t.same(woken, [GROUP]);
  await refused.stop();
  stream.reset();
});
