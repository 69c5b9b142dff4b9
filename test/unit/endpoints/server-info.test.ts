/** Where an SGLang engine says that it publishes KV events: read once, from whichever path it answers at. */
import t from "tap";
import { readServerInfo } from "../../../src/endpoints/server-info.ts";
import { startScraper } from "../../../src/endpoints/scrape.ts";
import type { EngineReply } from "../../../src/ports.ts";

const told = (kv: unknown): string => JSON.stringify({ model_path: "m", kv_events: kv });
const zmq = { publisher: "zmq", endpoint_host: "*", endpoint_port_base: 5557, topic: "", block_size: 16, dp_size: 2 };

t.test("what is told, and what is no answer", (t) => {
  t.same(readServerInfo(told(zmq)), { port: 5557, ranks: 2 });
  t.same(readServerInfo(told({ ...zmq, dp_size: undefined })), { port: 5557, ranks: 1 });
  for (const none of [null, { ...zmq, publisher: "null" }, { ...zmq, endpoint_port_base: 0 }, { ...zmq, dp_size: 1e9 }])
    t.equal(readServerInfo(told(none)), undefined);
  for (const text of ["", "[]", "null", "{", '"x"']) t.equal(readServerInfo(text), undefined);
  t.end();
});

const page = (status: number, text: string): EngineReply => ({
  kind: "answer",
  status,
  headers: {},
  body: Buffer.from(text),
});

for (const [what, reply, expected, asked] of [
  ["the newer path", () => page(200, told(zmq)), { port: 5557, ranks: 2 }, 1],
  [
    "the older path",
    (path: string) => (path === "/server_info" ? page(404, "") : page(200, told(zmq))),
    { port: 5557, ranks: 2 },
    2,
  ],
  ["none", () => page(200, told(null)), null, 1],
  ["nobody there", () => ({ kind: "refused", detail: "" }) as const, undefined, 2],
] as const)
  t.test(`asked of an engine: ${what}`, async (t) => {
    const paths: string[] = [];
    const never = () => () => undefined;
    const scraper = startScraper({
      endpoints: () => [{ id: "e", address: "127.0.0.1:1", bootId: "1", asksEvents: true }],
      client: {
        send: ({ path }) => {
          if (!path.includes("server_info")) return Promise.resolve(page(200, ""));
          paths.push(path);
          return Promise.resolve(reply(path));
        },
      },
      clock: { now: () => 0, monotonic: () => 0 },
      timers: { after: never, every: never },
      random: { next: () => 0, id: () => "" },
      metrics: { count: () => undefined, gauge: () => undefined, observe: () => undefined },
      ...{ intervalMs: 1000, timeoutMs: 100 },
    });
    await scraper.pollNow();
    await scraper.pollNow();
    t.same(scraper.of("e").events, expected);
    t.equal(paths.length, asked);
    scraper.stop();
  });
