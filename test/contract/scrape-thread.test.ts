/** Scraping beside the serving thread: what is read arrives, and no call of it leaves from here. */
import { channel } from "node:diagnostics_channel";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startScraping } from "../../src/cli/roles/scraping.ts";
import { loadConfig } from "../../src/config/load.ts";
import { EndpointDirectory, staticEndpoints } from "../../src/endpoints/directory.ts";
import { createEngineClient, type EngineAccess } from "../../src/router/disagg/client.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";

t.setTimeout(300_000);

interface Stub {
  readonly address: string;
  readonly asked: IncomingMessage[];
  page: string;
  models: string;
  down: boolean;
}

async function engine(t: Test): Promise<Stub> {
  const stub = { address: "", asked: [] as IncomingMessage[], page: "", models: '{"data":[{"id":"m"}]}', down: false };
  const server = createServer((request, response) => {
    stub.asked.push(request);
    if (stub.down) response.writeHead(503).end();
    else response.end(request.url === "/metrics" ? stub.page : stub.models);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  return Object.assign(stub, { address: `127.0.0.1:${(server.address() as AddressInfo).port}` });
}

function endpointsOf(...stubs: Stub[]): ReturnType<typeof staticEndpoints> {
  const entries = stubs.map(({ address }) => ({ address, role: "both", model: "m" }));
  const text = JSON.stringify({ router: { endpoints: { static: entries } } });
  return staticEndpoints(loadConfig({ text }).router.endpoints.static);
}

function rig(t: Test, first: Stub[], access: EngineAccess = {}) {
  const ports = createPorts(loadConfig({ flags: { "router.scrapeIntervalMs": "60" } }), SILENT_LOG);
  const self = { ports, endpoints: endpointsOf(...first) };
  const scraper = startScraping(ports, () => self.endpoints, access, { intervalMs: 60, timeoutMs: 2000 });
  t.teardown(() => scraper.stop());
  return Object.assign(self, { scraper });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

/** Calls that leave from this thread. */
function callsFrom(t: Test): unknown[] {
  const calls: unknown[] = [];
  const made = (call: unknown): void => void calls.push(call);
  channel("undici:request:create").subscribe(made);
  t.teardown(() => channel("undici:request:create").unsubscribe(made));
  return calls;
}

t.test("stats, models and counts arrive; no call is made by the thread that serves", async (t) => {
  const [a, b] = [await engine(t), await engine(t)];
  a.page = 'vllm:num_requests_running 3\nvllm:cache_config_info{block_size="16",num_gpu_blocks="999"} 1\n';
  b.page = "vllm:num_requests_waiting 7\n";
  b.models = '{"data":[{"id":"m"},{"id":"lora"}]}';
  const calls = callsFrom(t);
  const { scraper, endpoints, ports } = rig(t, [a, b]);
  const asked = ports.clock.monotonic();
  await scraper.pollNow();
  const [first, second] = endpoints.map(({ id }) => scraper.of(id));
  t.match(first, { stats: { running: 3, waiting: 0, blockSize: 16, blocks: 999 }, models: ["m"] });
  t.match(second, { stats: { waiting: 7, blocks: undefined }, models: ["m", "lora"] });
  const at = first?.stats?.at ?? 0;
  t.ok(at >= asked && at <= ports.clock.monotonic(), "the time of the read is on this thread's clock");
  b.down = true;
  await until(() => b.asked.length > 20);
  await sleep(300);
  const counted = /tandem_scrape_failures_total (\d+)/.exec(await ports.metrics.page())?.[1];
  t.ok(Number(counted) >= 5, `${counted ?? 0} failures counted`);
  t.match(scraper.of(endpoints[1]?.id ?? ""), { stats: { waiting: 7 } }, "kept, with its age");
  t.equal(calls.length, 0);
  const client = createEngineClient();
  await client.send({ address: a.address, method: "GET", path: "/metrics", timeoutMs: 1000 });
  await client.close();
  t.equal(calls.length, 1, "a call that did leave here would have been seen");
});

t.test("what did not change is the same object; lists and engines that change are followed", async (t) => {
  const [a, b] = [await engine(t), await engine(t)];
  for (const stub of [a, b]) stub.page = "vllm:num_requests_running 1\n";
  const world = rig(t, [a, b]);
  const directory = new EndpointDirectory(() => world.endpoints, world.scraper);
  await world.scraper.pollNow();
  for (const stub of [a, b]) stub.down = true;
  await world.scraper.pollNow();
  const before = directory.list();
  await world.scraper.pollNow();
  t.equal(directory.list(), before, "nothing new, the same list");
  for (const stub of [a, b]) stub.down = false;
  const [first, second] = world.endpoints;
  if (first === undefined || second === undefined) throw new Error("two endpoints were made");
  world.endpoints = [{ ...second, bootId: "next" }];
  await world.scraper.pollNow();
  t.same(world.scraper.of(first.id), { stats: undefined, models: [] }, "gone");
  t.match(world.scraper.of(second.id), { stats: { running: 1 }, models: ["m"] }, "new, and read anew");
});

t.test("credentials reach the thread, at first and renewed", async (t) => {
  const a = await engine(t);
  const { scraper } = rig(t, [a], { credential: ["authorization", "Bearer one"] });
  await scraper.pollNow();
  const said = (): (string | undefined)[] => a.asked.map(({ headers }) => headers.authorization);
  t.same(new Set(said()), new Set(["Bearer one"]));
  scraper.use({ credential: ["authorization", "Bearer two"] });
  // A round that was on its way keeps what it set out with.
  await until(() => said().at(-1) === "Bearer two");
  const first = said().indexOf("Bearer two");
  await scraper.pollNow();
  t.same(new Set(said().slice(first)), new Set(["Bearer two"]), "renewed once and for all");
});

t.test("a scraper that was stopped asks nobody, and keeps nobody waiting", async (t) => {
  const a = await engine(t);
  const { scraper } = rig(t, [a]);
  await scraper.pollNow();
  const waiting = scraper.pollNow();
  scraper.stop();
  await waiting;
  await sleep(100);
  const before = a.asked.length;
  await sleep(300);
  t.equal(a.asked.length, before);
});
