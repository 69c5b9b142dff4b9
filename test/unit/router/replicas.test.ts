import fc from "fast-check";
import fastify from "fastify";
import t from "tap";
import { LoadBook, type OwnLoad } from "../../../src/router/load.ts";
import { decodeMessage, encodeMessage } from "../../../src/router/replicas/message.ts";
import { Peers } from "../../../src/router/replicas/peers.ts";
import { replicaRoutes } from "../../../src/router/replicas/routes.ts";

const load = (inflight: number, prefillMs = 0): OwnLoad => ({ inflight, prefillMs });

/** A replica, and what it says to others. */
const replica = (name: string): { loads: LoadBook; peers: Peers } => {
  const loads = new LoadBook();
  return { loads, peers: new Peers(loads, name) };
};
const tell = (from: Peers, to: Peers, now: number): boolean => {
  const text = from.due(now);
  const message = text === undefined ? undefined : decodeMessage(text);
  if (message !== undefined) to.hear(message, now);
  return message !== undefined;
};

t.test("a message survives the wire; anything else is none", (t) => {
  const message = { from: "a", all: true, loads: new Map([["e1", load(3, 12.5)]]) };
  t.same(decodeMessage(encodeMessage(message)), message);
  t.same(
    decodeMessage(encodeMessage({ ...message, loads: new Map([["e1", load(0, 0.01)]]) }))?.loads.get("e1"),
    load(0, 0.1),
  );
  const bad = [
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
  t.ok(a.peers.due(0));
  t.equal(a.peers.due(50), undefined, "nothing changed");
  a.loads.request("e2");
  t.same(decodeMessage(a.peers.due(100) ?? "")?.loads, new Map([["e2", load(1)]]));
  t.equal(a.peers.due(1050), undefined);
  t.same(decodeMessage(a.peers.due(1100) ?? "")?.loads.size, 0, "a sign of life");
  tell(b.peers, a.peers, 1200);
  const whole = decodeMessage(a.peers.due(1250) ?? "");
  t.equal(whole?.all, true);
  t.same([...(whole?.loads.keys() ?? [])], ["e1", "e2"]);
  t.end();
});

t.test("a replica that falls silent takes its work along; its own message is not heard", (t) => {
  const [a, b] = [replica("a"), replica("b")];
  a.loads.request("e1");
  const text = a.peers.due(0) ?? "";
  t.equal(a.peers.hear(decodeMessage(text)!, 0), false);
  t.equal(b.peers.hear(decodeMessage(text)!, 0), true);
  b.peers.due(3000);
  t.equal(b.loads.of("e1").inflight, 1);
  b.peers.due(3001);
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
        if (lost) a.peers.due(now);
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

t.test("the edge: token, media type, form", async (t) => {
  const { peers, loads } = replica("b");
  const app = fastify();
  const clock = { now: () => 0, monotonic: () => 0 };
  const metrics = { count: () => undefined, gauge: () => undefined, observe: () => undefined };
  await app.register(replicaRoutes({ state: peers, token: "secret", clock, metrics }));
  const post = async (payload: string, authorization = "Bearer secret", type = "application/json"): Promise<number> =>
    (await app.inject({ method: "POST", url: "/v1/loads", payload, headers: { authorization, "content-type": type } }))
      .statusCode;
  const message = encodeMessage({ from: "a", all: true, loads: new Map([["e1", load(2)]]) });
  t.equal(await post(message, "Bearer other"), 401);
  t.equal(await post(message, ""), 401);
  t.equal(loads.of("e1").inflight, 0);
  t.equal(await post(message), 204);
  t.equal(loads.of("e1").inflight, 2);
  t.equal(await post("{}"), 400);
  t.equal(await post(message, "Bearer secret", "text/plain"), 415);
  t.equal(await post(encodeMessage({ from: "b", all: true, loads: new Map() })), 409, "its own");
  t.equal(await post("x".repeat(3_000_000)), 413);
});
