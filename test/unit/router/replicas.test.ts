import fc from "fast-check";
import t from "tap";
import { LoadBook, type OwnLoad } from "../../../src/router/load.ts";
import { HistoryIndex } from "../../../src/router/kv/history.ts";
import { decodeMessage, encodeMessage, type ReplicaMessage } from "../../../src/router/replicas/message.ts";
import { Peers, type History } from "../../../src/router/replicas/peers.ts";
import { MAX_BATCH, MAX_BATCH_BLOCKS, MAX_SENT_BLOCKS, SentLog, ToldIndex } from "../../../src/router/replicas/sent.ts";

const load = (inflight: number, prefillMs = 0): OwnLoad => ({ inflight, prefillMs });

/** A replica, and what it says to others. */
const replica = (name: string): { loads: LoadBook; peers: Peers } => {
  const loads = new LoadBook();
  return { loads, peers: new Peers(loads, name, knowing("x", "y", "z", "e1", "e2", "e3", "e4")) };
};
const knowing = (...endpoints: readonly string[]): History => ({
  index: { record: () => undefined },
  endpoints: () => new Set(endpoints),
});
/** What the replica says next; it arrives. */
const said = (from: Peers, now: number, to = "b"): ReplicaMessage | undefined => {
  from.advance(now);
  const telling = from.next(to);
  telling?.arrived();
  return telling === undefined ? undefined : decodeMessage(telling.body);
};
const tell = (from: Peers, to: Peers, now: number): boolean => {
  const message = said(from, now);
  if (message !== undefined) to.hear(message, now);
  return message !== undefined;
};
const keysOf = (...numbers: readonly number[]): Int32Array => Int32Array.from(numbers.flatMap((each) => [each, ~each]));
const blocks = (count: number, first = 0): Int32Array =>
  keysOf(...Array.from({ length: count }, (_, block) => first + block));

t.test("a message survives the wire; anything else is none", (t) => {
  const sent = [
    { endpoint: "e1", keys: blocks(3) },
    { endpoint: "e2", keys: blocks(1, -7) },
  ];
  const message = { from: "a", all: true, loads: new Map([["e1", load(3, 12.5)]]), sent };
  t.same(decodeMessage(encodeMessage(message)), message);
  t.same(
    decodeMessage(encodeMessage({ ...message, loads: new Map([["e1", load(0, 0.01)]]) }))?.loads.get("e1"),
    load(0, 0.1),
  );
  t.same(decodeMessage('{"from":"a","all":true,"loads":[]}')?.sent, [], "of a replica that says nothing of it");
  const telling = (rows: unknown): string => JSON.stringify({ from: "a", all: true, loads: [], sent: rows });
  const key = "AAAAAAAAAAA=";
  t.equal(decodeMessage(telling([["e", key]]))?.sent.length, 1);
  const long = Buffer.alloc((MAX_BATCH_BLOCKS / 2 + 1) * 8).toString("base64");
  const bad = [
    telling({}),
    telling([["e"]]),
    telling([["e", key, 1]]),
    telling([["", key]]),
    telling([[7, key]]),
    telling([["e", ""]]),
    telling([["e", 7]]),
    telling([["e", "AAAAAAAAAA=="]]),
    telling([["e", "AAAAAAAAAAA"]]),
    telling([["e", "AAAA AAAAAA="]]),
    telling([["e", "AAA=AAAAAAA="]]),
    telling([["e", "AA\u00e9AAAAAAAA="]]),
    telling([
      ["e", key],
      ["e", "?"],
    ]),
    telling([
      ["e", long],
      ["e", long],
    ]),
    telling(Array.from({ length: MAX_BATCH + 1 }, () => ["e", key])),
    "",
    "{",
    "null",
    "[]",
    '{"from":"","all":true,"loads":[]}',
    '{"from":"a","all":1,"loads":[]}',
    '{"from":"a","all":true,"loads":{}}',
    '{"from":"a","all":true,"loads":[["e",1]]}',
    '{"from":"a","all":true,"loads":[["e",-1,0]]}',
    '{"from":"a","all":true,"loads":[["e",1.5,0]]}',
    '{"from":"a","all":true,"loads":[["e",1,1e300]]}',
    '{"from":"a","all":true,"loads":[["e",1e9,0]]}',
    '{"from":"a","all":true,"loads":[[7,1,0]]}',
    `{"from":"a","all":true,"loads":[${Array.from({ length: 10_001 }, () => '["e",1,0]').join(",")}]}`,
  ];
  for (const text of bad) t.equal(decodeMessage(text), undefined, text.slice(0, 50));
  t.end();
});

t.test("what one replica has on an endpoint counts for the other, until it is done", (t) => {
  const [a, b] = [replica("a"), replica("b")];
  const done = a.loads.request("e1");
  const prefilled = a.loads.prefill("e1", 40);
  tell(a.peers, b.peers, 0);
  t.match(b.loads.of("e1"), { inflight: 1, prefillMs: 40 });
  b.loads.request("e1");
  t.match(b.loads.of("e1"), { inflight: 2 });
  t.same(b.loads.takeChanges().get("e1"), load(1), "what it heard is not its own to tell");
  done();
  prefilled();
  tell(a.peers, b.peers, 50);
  t.match(b.loads.of("e1"), { inflight: 1, prefillMs: 0 });
  t.equal(b.peers.count, 1);
  t.end();
});

t.test("only what changed is told, a sign of life each second, and everything to a new replica", (t) => {
  const [a, b] = [replica("a"), replica("b")];
  a.loads.request("e1");
  t.ok(said(a.peers, 0));
  t.equal(said(a.peers, 50), undefined, "nothing changed");
  a.loads.request("e2");
  t.same(said(a.peers, 100)?.loads, new Map([["e2", load(1)]]));
  t.equal(said(a.peers, 1050), undefined);
  t.same(said(a.peers, 1100)?.loads.size, 0, "a sign of life");
  tell(b.peers, a.peers, 1200);
  const whole = said(a.peers, 1250);
  t.equal(whole?.all, true);
  t.same([...(whole?.loads.keys() ?? [])], ["e1", "e2"]);
  a.loads.request("e3");
  a.peers.advance(1300);
  a.loads.request("e4");
  const [missed, fresh] = [said(a.peers, 1350), said(a.peers, 1400, "c")];
  t.same([missed?.all, missed?.loads.size], [true, 4], "who missed a round is told everything");
  t.same([fresh?.all, fresh?.loads.size], [true, 4], "as is an address that is new");
  t.end();
});

t.test("a replica that falls silent takes its work along; its own message is not heard", (t) => {
  const [a, b] = [replica("a"), replica("b")];
  a.loads.request("e1");
  const message = said(a.peers, 0)!;
  t.equal(a.peers.hear(message, 0), undefined);
  t.same(b.peers.hear(message, 0), { recorded: 0, unknown: 0 });
  b.peers.advance(3000);
  t.equal(b.loads.of("e1").inflight, 1);
  b.peers.advance(3001);
  t.equal(b.loads.of("e1").inflight, 0);
  t.equal(b.peers.count, 0);
  t.end();
});

t.test("whatever is sent, lost or said twice: after one whole message the replica is known exactly", (t) => {
  const step = fc.record({
    endpoint: fc.constantFrom("x", "y", "z"),
    end: fc.nat(9),
    lost: fc.boolean(),
    ms: fc.nat(50),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const [a, b] = [replica("a"), replica("b")];
      const open: (() => void)[] = [];
      let now = 0;
      for (const { endpoint, end, lost, ms } of steps) {
        open.push(a.loads.request(endpoint), a.loads.prefill(endpoint, ms));
        if (end < 7) open.splice(end, 2).forEach((release) => release());
        now += 50;
        if (lost) a.peers.advance(now);
        else tell(a.peers, b.peers, now);
      }
      tell(a.peers, b.peers, now + 6000);
      return ["x", "y", "z"].every((endpoint) => {
        const [own, heard] = [a.loads.of(endpoint), b.loads.of(endpoint)];
        return own.inflight === heard.inflight && Math.abs(own.prefillMs - heard.prefillMs) <= 0.1;
      });
    }),
  );
  t.end();
});

/** A replica with an index, which knows some endpoints. */
const remembering = (name: string, endpoints = ["e1", "e2"], maxBytes?: number) => {
  const [index, sent, loads] = [
    new HistoryIndex({ slots: 65_536, endpoints: 3, rows: 64 }, 50_000),
    new SentLog(maxBytes),
    new LoadBook(),
  ];
  const peers = new Peers(loads, name, { index, endpoints: () => new Set(endpoints), sent });
  return {
    index,
    loads,
    peers,
    own: new ToldIndex(index, sent),
    held: (endpoint: string, keys: Int32Array) => index.match(keys).of(endpoint),
  };
};

t.test("what one replica sent where is in the index of the other; as nobody's load, and not told on", (t) => {
  const [a, b] = [remembering("a"), remembering("b", ["e1"])];
  a.own.record("e1", blocks(5));
  a.own.record("e2", blocks(4));
  a.own.record("e1", blocks(0));
  t.equal(a.held("e1", blocks(9)), 5);
  const message = said(a.peers, 0)!;
  t.same(b.peers.hear(message, 0), { recorded: 1, unknown: 1 });
  t.equal(b.held("e1", blocks(9)), 5);
  t.equal(b.held("e2", blocks(9)), 0);
  t.equal(b.index.blocks, 5, "an endpoint that is not known takes no place");
  t.match(b.loads.of("e1"), { inflight: 0, assigned: 0 });
  t.same(said(b.peers, 50, "c")?.sent, []);
  t.equal(said(a.peers, 50), undefined, "said once");
  t.same(said(a.peers, 50, "c")?.sent, message.sent, "a new replica is told of what was before");
  t.end();
});

t.test("what did not arrive is said again; a pick waits for the next round", (t) => {
  const a = remembering("a");
  a.own.record("e1", blocks(2));
  a.peers.advance(0);
  const failed = a.peers.next("b");
  a.own.record("e1", blocks(2, 10));
  t.equal(a.peers.next("b")?.body, failed?.body);
  a.peers.advance(50);
  t.same(
    decodeMessage(a.peers.next("b")?.body ?? "")?.sent.map(({ keys }) => keys),
    [blocks(2), blocks(2, 10)],
  );
  t.end();
});

t.test("who was away is told in messages of bounded size what is still kept, and what is lost is counted", (t) => {
  const [a, b] = [remembering("a", [], 100_000), remembering("b", ["e1"])];
  said(a.peers, 0);
  a.own.record("e1", blocks(1));
  said(a.peers, 50);
  for (let pick = 0; pick < 5000; pick++) a.own.record("e1", blocks(2, 2 * pick));
  a.peers.advance(100);
  const tellings = [];
  for (let next = a.peers.next("b"); next !== undefined; next = a.peers.next("b")) {
    tellings.push(next);
    next.arrived();
  }
  const told = tellings.map(({ body }) => decodeMessage(body)!);
  const picks = told.flatMap(({ sent }) => sent);
  t.ok(told.every(({ sent }) => sent.length <= MAX_BATCH));
  t.equal(picks.length, Math.floor(100_000 / 272));
  t.same(picks.at(-1)?.keys, blocks(2, 9998), "the newest are kept");
  t.equal(
    tellings.reduce((sum, { lost }) => sum + lost, 0),
    5000 - picks.length,
  );
  for (const message of told) b.peers.hear(message, 100);
  t.equal(b.index.blocks, 2 * picks.length);
  t.end();
});

t.test(
  "a long prompt travels whole, in parts, tails first; a message holds no more blocks than are heard at once",
  (t) => {
    const [a, b] = [remembering("a"), remembering("b")];
    const all = blocks(3 * MAX_SENT_BLOCKS + 5);
    a.own.record("e1", all);
    a.peers.advance(0);
    const sizes: number[] = [];
    for (let next = a.peers.next("b"); next !== undefined; next = a.peers.next("b")) {
      const message = decodeMessage(next.body)!;
      sizes.push(message.sent.reduce((sum, { keys }) => sum + keys.length / 2, 0));
      b.peers.hear(message, 0);
      next.arrived();
    }
    t.same(sizes, [2 * MAX_SENT_BLOCKS, MAX_SENT_BLOCKS + 5]);
    t.ok(sizes.every((size) => size <= MAX_BATCH_BLOCKS));
    t.equal(b.held("e1", all), all.length / 2);
    t.end();
  },
);

t.test("the log holds no more bytes than it may, whatever comes", (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat(400), { maxLength: 200 }), (sizes) => {
      const log = new SentLog(20_000);
      for (const size of sizes) log.add("e", blocks(size));
      const { sent, next } = log.from(0);
      const newest = sizes.filter((size) => size > 0).slice(next - sent.length, next);
      return log.bytes <= 20_000 && sent.every(({ keys }, at) => keys.length === 2 * (newest[at] ?? 0));
    }),
  );
  t.end();
});

const named = (name: string, count: number): Map<string, OwnLoad> =>
  new Map(Array.from({ length: count }, (_, n) => [`${name}${n}`, load(1)]));

t.test("loads of endpoints that do not exist are passed over; the end of what was heard is not", (t) => {
  const loads = new LoadBook();
  const known = new Set(["e0"]);
  const peers = new Peers(loads, "b", { index: { record: () => undefined }, endpoints: () => known });
  peers.hear({ from: "a", all: true, loads: named("e", 3), sent: [] }, 0);
  t.same(
    ["e0", "e1", "e2"].map((id) => loads.of(id).inflight),
    [1, 0, 0],
  );
  known.clear();
  peers.hear({ from: "a", all: false, loads: new Map([["e0", load(0)]]), sent: [] }, 0);
  t.equal(loads.of("e0").inflight, 0);
  t.end();
});

t.test("no message names more endpoints than are heard: those with most work", (t) => {
  const loads = new LoadBook();
  const peers = new Peers(loads, "a", { ...knowing(), maxEndpoints: 2 });
  for (const id of ["e1", "e2", "e3", "e2", "e3"]) loads.request(id);
  t.same([...(said(peers, 0)?.loads.keys() ?? [])], ["e2", "e3"]);
  t.end();
});

t.test("of another's requests no more are believed than its own limit lets it have", (t) => {
  const loads = new LoadBook(512);
  loads.hear("a", new Map([["e1", load(100_000)]]), true);
  t.equal(loads.of("e1").inflight, 512);
  t.equal(loads.ownInflight("e1"), 0);
  t.end();
});
