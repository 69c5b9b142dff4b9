import t from "tap";
import { EndpointDirectory, staticEndpoints } from "../../../src/endpoints/directory.ts";
import { startScraper, type Scraper } from "../../../src/endpoints/scrape.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { Endpoint } from "../../../src/kinds/endpoint.ts";
import type { EngineReply, EngineRequest } from "../../../src/ports.ts";

const endpointsOf = (...addresses: string[]): readonly Endpoint[] => {
  const entries = addresses.map((address) => ({ address, role: "decode", model: "m" }));
  const text = JSON.stringify({ router: { endpoints: { static: entries } } });
  return staticEndpoints(loadConfig({ text }).router.endpoints.static);
};
const page = (status: number, text: string): EngineReply => ({
  kind: "answer",
  status,
  headers: {},
  body: Buffer.from(text),
});
const models = (...ids: unknown[]): EngineReply => page(200, JSON.stringify({ data: ids.map((id) => ({ id })) }));
const LATE: EngineReply = { kind: "late", detail: "" };

interface Rig {
  readonly scraper: Scraper;
  readonly asked: string[];
  readonly failures: () => number;
  readonly changes: () => number;
  readonly fire: () => void;
  endpoints: readonly Endpoint[];
  reply: (request: EngineRequest) => EngineReply | Promise<EngineReply>;
}

function rig(...addresses: string[]): Rig {
  const timers: (() => void)[] = [];
  const after = (_: number, task: () => void): (() => void) => {
    timers.push(task);
    return () => void timers.splice(timers.indexOf(task), timers.includes(task) ? 1 : 0);
  };
  let [failures, changes, now] = [0, 0, 0];
  const asked: string[] = [];
  const self: Omit<Rig, "scraper"> & { scraper?: Scraper } = {
    asked,
    endpoints: endpointsOf(...addresses),
    reply: () => page(200, "vllm:num_requests_running 1"),
    failures: () => failures,
    changes: () => changes,
    fire: () => timers.slice().forEach((task) => task()),
  };
  self.scraper = startScraper({
    endpoints: () => self.endpoints,
    client: {
      send: async (request) => {
        asked.push(`${request.address}${request.path}`);
        return self.reply(request);
      },
    },
    clock: { now: () => 0, monotonic: () => ++now },
    timers: { after, every: after },
    random: { next: () => 0.5, id: () => "" },
    metrics: { count: () => (failures += 1), gauge: () => undefined, observe: () => undefined },
    ...{ intervalMs: 1000, timeoutMs: 100, onChange: () => (changes += 1) },
  });
  return self as Rig;
}

const ID = "static:a:1";

t.test("numbers and names are read; what fails is counted and changes nothing", async (t) => {
  const world = rig("a:1");
  world.reply = ({ path }) =>
    path === "/metrics" ? page(200, "vllm:num_requests_waiting 5") : models("m", "lora", 7, null);
  await world.scraper.pollNow();
  t.match(world.scraper.of(ID), { stats: { waiting: 5 }, models: ["m", "lora"] });
  t.equal(world.changes(), 1);
  const before = world.scraper.of(ID).stats;
  const bad: readonly EngineReply[] = [LATE, page(500, ""), page(404, ""), { kind: "lost", detail: "larger than" }];
  for (const reply of bad) {
    world.reply = () => reply;
    await world.scraper.pollNow();
    t.equal(world.scraper.of(ID).stats, before, "kept, with its age");
  }
  t.equal(world.failures(), bad.length);
  for (const text of ["", "null", "[]", '{"data":null}', '{"data":[null]}', '{"data":7}']) {
    world.reply = () => page(200, text);
    for (let poll = 0; poll < 10; poll++) await world.scraper.pollNow();
    t.equal(world.scraper.of(ID).stats, before, `garbage ${text}`);
  }
  world.scraper.stop();
});

t.test("an engine that hangs is asked once and delays nobody else", async (t) => {
  const world = rig("a:1", "b:1");
  world.reply = ({ address }) =>
    address === "a:1" ? new Promise(() => undefined) : page(200, "vllm:num_requests_running 1");
  for (let round = 0; round < 5; round++) {
    world.fire();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal(world.asked.filter((each) => each === "a:1/metrics").length, 1);
  t.ok(world.asked.filter((each) => each === "b:1/metrics").length > 1);
  t.match(world.scraper.of("static:b:1"), { stats: { running: 1 } });
  world.scraper.stop();
});

t.test("gone endpoints are forgotten, restarted engines start anew but keep their names", async (t) => {
  const world = rig("a:1");
  world.reply = ({ path }) => (path === "/metrics" ? page(200, "vllm:num_requests_running 9") : models("m", "lora"));
  await world.scraper.pollNow();
  world.reply = () => LATE;
  world.endpoints = world.endpoints.map((endpoint) => ({ ...endpoint, bootId: "2" }));
  await world.scraper.pollNow();
  t.match(world.scraper.of(ID), { stats: undefined, models: ["m", "lora"] });
  world.endpoints = [];
  await world.scraper.pollNow();
  t.same(world.scraper.of(ID), { stats: undefined, models: [] });
  world.scraper.stop();
});

t.test("the directory is the same list until something changed", async (t) => {
  const world = rig("a:1", "b:1");
  const directory = new EndpointDirectory(() => world.endpoints, world.scraper);
  const first = directory.list();
  t.equal(directory.list(), first);
  await world.scraper.pollNow();
  const second = directory.list();
  t.not(second, first);
  t.equal(directory.list(), second);
  world.reply = ({ path }) => (path === "/metrics" ? LATE : models("lora"));
  for (let poll = 0; poll < 11; poll++) await world.scraper.pollNow();
  t.same(directory.list()[0]?.endpoint.models, ["m", "lora"], "new names count without new numbers");
  world.endpoints = world.endpoints.slice(1);
  t.equal(directory.list().length, 1);
  world.scraper.stop();
});
