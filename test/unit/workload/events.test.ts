import fc from "fast-check";
import t from "tap";
import type { EngineName } from "../../../src/workload/spec.ts";
import type { Pod } from "../../../src/kinds/kube.ts";
import { readFlags } from "../../../src/workload/arguments.ts";
import { endpointsOf } from "../../../src/workload/endpoint.ts";
import { freePorts, readEvents, type PortRange } from "../../../src/workload/events.ts";

const read = (config: object | string, engine: EngineName = "vllm"): unknown =>
  readEvents(readFlags(["--kv-events-config", typeof config === "string" ? config : JSON.stringify(config)]), engine);

t.test("a user's own configuration: where it publishes, and where it does not", (t) => {
  const on = { enable_kv_cache_events: true };
  t.same(read({ ...on, publisher: "zmq", endpoint: "tcp://*:6000", replay_endpoint: "tcp://*:6001" }), {
    port: 6000,
    replayPort: 6001,
  });
  t.same(read(on), { port: 5557 }, "vLLM's defaults");
  t.same(read({ ...on, endpoint: "tcp://[::]:7000" }), { port: 7000 });
  t.equal(read({ ...on, endpoint: "tcp://indexer:5557" }), undefined, "one that connects");
  t.equal(read({ ...on, endpoint: "ipc:///tmp/events" }), undefined);
  t.equal(read({ ...on, endpoint: "tcp://*:99999" }), undefined);
  t.equal(read({ ...on, publisher: "null" }), undefined);
  t.equal(read({ publisher: "zmq" }), undefined, "not enabled");
  t.equal(read("{"), undefined);
  t.equal(read({ publisher: "null" }, "sglang"), undefined);
  t.same(read({ publisher: "zmq" }, "sglang"), { port: 5557 }, "SGLang wants a publisher alone");
  t.same(
    readEvents(readFlags(["--kv-events-config.enable_kv_cache_events", "True"]), "vllm"),
    { port: 5557 },
    "dotted keys",
  );
  t.equal(readEvents(readFlags(["m"]), "vllm"), undefined);
  t.end();
});

t.test("ports are free: they meet nothing, and move no further than they must", (t) => {
  const range = fc.record({ first: fc.integer({ min: 1, max: 300 }), count: fc.integer({ min: 1, max: 60 }) });
  const meets = (a: PortRange, b: PortRange): boolean => a.first < b.first + b.count && b.first < a.first + a.count;
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 60 }),
      fc.array(range),
      (from, count, taken) => {
        const first = freePorts(from, count, taken);
        const isFree = (start: number): boolean => !taken.some((one) => meets({ first: start, count }, one));
        if (first < from || !isFree(first)) return false;
        return Array.from({ length: first - from }, (_, index) => from + index).every((start) => !isFree(start));
      },
    ),
  );
  t.end();
});

t.test("each endpoint has the events of its own ranks", (t) => {
  const events = { port: 5557, replayPort: 5561, ranks: 2 };
  const facts = { connector: "nixl", engine: "vllm", port: 8000, served: [], kvPort: 5600, events };
  const pod = (more: object, rank?: string): Pod => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "p",
      uid: "u",
      labels: {
        "tandem.sh/model": "m",
        "tandem.sh/role": "decode",
        ...(rank === undefined ? {} : { "tandem.sh/node-rank": rank }),
      },
      annotations: { "status.tandem.sh/endpoint": JSON.stringify({ ...facts, ...more }) },
    },
    spec: { containers: [{ name: "engine" }] },
    status: { podIP: "10.0.0.1" },
  });
  const eventsOf = (one: Pod): unknown => endpointsOf(one).map((endpoint) => endpoint.events);
  t.same(eventsOf(pod({})), [{ port: 5557, replayPort: 5561, ranks: 2 }], "one server for both ranks");
  t.same(
    eventsOf(pod({ rankPorts: { first: 8000, count: 2 } })),
    [
      { port: 5557, replayPort: 5561, ranks: 1 },
      { port: 5558, replayPort: 5562, ranks: 1 },
    ],
    "a server for each",
  );
  t.same(eventsOf(pod({ dpMode: "hybrid" }, "1")), [{ port: 5559, replayPort: 5563, ranks: 2 }], "the second node");
  t.same(eventsOf(pod({ events: { port: "x" } })), [undefined], "somebody else's word");
  t.same(
    endpointsOf(pod({})).map(({ kvPort }) => kvPort),
    [5600],
  );
  t.end();
});
