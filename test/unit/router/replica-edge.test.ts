/** Who is heard as a replica, and what is refused at the edge. */
import fastify from "fastify";
import t from "tap";
import { LoadBook, type OwnLoad } from "../../../src/router/load.ts";
import { Members } from "../../../src/router/replicas/members.ts";
import { encodeMessage } from "../../../src/router/replicas/message.ts";
import { MAX_REPLICAS, Peers } from "../../../src/router/replicas/peers.ts";
import { replicaRoutes } from "../../../src/router/replicas/routes.ts";

const load = (inflight: number, prefillMs = 0): OwnLoad => ({ inflight, prefillMs });
const named = (name: string, count: number): Map<string, OwnLoad> =>
  new Map(Array.from({ length: count }, (_, n) => [`${name}${n}`, load(1)]));

const replica = (): { loads: LoadBook; peers: Peers } => {
  const loads = new LoadBook();
  const endpoints = new Set(["e0", "e1", "e2"]);
  return { loads, peers: new Peers(loads, "b", { index: { record: () => undefined }, endpoints: () => endpoints }) };
};
const clock = { now: () => 0, monotonic: () => 0 };

/** The edge of a replica, and what it refused, by reason. */
async function edge(peers: Peers, token: string, isMember: (remote: string | undefined) => Promise<boolean>) {
  const refused: Record<string, number> = {};
  const count = (name: string, { reason = "" }: Readonly<Record<string, string>> = {}): void => {
    if (name === "tandem_router_replica_refused_total") refused[reason] = (refused[reason] ?? 0) + 1;
  };
  const metrics = { count, gauge: () => undefined, observe: () => undefined };
  const app = fastify();
  await app.register(replicaRoutes({ state: peers, token, isMember, maxEndpoints: 4, clock, metrics }));
  return { app, refused };
}

t.test("the edge: token, media type, form", async (t) => {
  const { peers, loads } = replica();
  const { app, refused } = await edge(peers, "secret", () => Promise.resolve(false));
  const post = async (payload: string, authorization = "Bearer secret", type = "application/json"): Promise<number> =>
    (await app.inject({ method: "POST", url: "/v1/loads", payload, headers: { authorization, "content-type": type } }))
      .statusCode;
  const message = encodeMessage({ from: "a", all: true, loads: new Map([["e1", load(2)]]), sent: [] });
  t.equal(await post(message, "Bearer other"), 401);
  t.equal(await post(message, ""), 401);
  t.equal(loads.of("e1").inflight, 0);
  t.equal(await post(message), 204);
  t.equal(loads.of("e1").inflight, 2);
  t.equal(await post("{}"), 400);
  t.equal(await post(message, "Bearer secret", "text/plain"), 415);
  t.equal(await post(encodeMessage({ from: "b", all: true, loads: new Map(), sent: [] })), 409, "its own");
  t.equal(await post("x".repeat(3_000_000)), 413);
  const wide = encodeMessage({ from: "a", all: true, loads: named("e", 5), sent: [] });
  t.equal(await post(wide), 400, "more endpoints than there can be");
  t.equal(loads.of("e1").inflight, 2, "refused whole");
  for (let other = 1; other < MAX_REPLICAS; other++)
    t.equal(await post(encodeMessage({ from: `r${other}`, all: true, loads: new Map(), sent: [] })), 204);
  t.equal(await post(encodeMessage({ from: "more", all: true, loads: named("e", 2), sent: [] })), 429);
  t.same([peers.count, loads.of("e1").inflight], [MAX_REPLICAS, 2]);
  t.same(refused, { token: 2, form: 2, tooMany: 1 });
});

t.test("without a token a stranger is refused before its body is read", async (t) => {
  const { peers, loads } = replica();
  const asked: unknown[] = [];
  const { app, refused } = await edge(peers, "", (remote) => {
    asked.push(remote);
    return Promise.resolve(remote === "10.0.0.1");
  });
  const post = async (remoteAddress: string, payload: string): Promise<number> => {
    const headers = { "content-type": "application/json", "x-forwarded-for": "10.0.0.1" };
    return (await app.inject({ method: "POST", url: "/v1/loads", payload, headers, remoteAddress })).statusCode;
  };
  const message = encodeMessage({ from: "a", all: true, loads: named("e", 3), sent: [] });
  t.equal(await post("10.0.0.9", message), 403);
  t.equal(await post("10.0.0.9", "x".repeat(3_000_000)), 403);
  t.same([peers.count, loads.of("e1").inflight], [0, 0]);
  t.equal(await post("10.0.0.1", message), 204);
  t.same([peers.count, loads.of("e1").inflight], [1, 1]);
  t.same(refused, { stranger: 2 });
  t.same(asked, ["10.0.0.9", "10.0.0.9", "10.0.0.1"], "what a header claims counts for nothing");
});

t.test("members: IPv4, mapped or not, IPv6; one fresh resolution a second for all strangers", async (t) => {
  let now = 0;
  let resolutions = 0;
  let found = ["10.0.0.1:9080", "[fd00::1]:9080"];
  const resolve = async () => {
    resolutions += 1;
    await Promise.resolve();
    return found;
  };
  const members = new Members(resolve, { monotonic: () => now });
  t.same(
    await Promise.all([members.refresh(), members.includes("10.0.0.1")]),
    [undefined, true],
    "waits for the first",
  );
  t.equal(resolutions, 1);
  now = 1000;
  for (const [remote, heard] of [
    ["::ffff:10.0.0.1", true],
    ["fd00::1", true],
    ["10.0.0.2", false],
    ["::1", false],
    ["", false],
    [undefined, false],
  ] as const)
    t.equal(await members.includes(remote), heard, String(remote));
  t.equal(resolutions, 2, "one for the four");
  found = ["10.0.0.2:9080"];
  t.equal(await members.includes("10.0.0.2"), false);
  now = 2000;
  t.equal(await members.includes("10.0.0.2"), true, "one that just started");
  t.equal(await members.includes("10.0.0.1"), false, "one that is gone");
  t.equal(resolutions, 3);
});
