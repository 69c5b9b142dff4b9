/** What the router knows of prefill engines: asked once, kept for the life of the engine's process, and never believed blindly. */
import t from "tap";
import type { Endpoint } from "../../../src/kinds/endpoint.ts";
import type { EngineReply, EngineRequest } from "../../../src/ports.ts";
import { PeerBook } from "../../../src/router/disagg/peers.ts";

const endpoint = (bootId = "1"): Endpoint => ({
  ...{ id: "a", address: "10.0.0.1:8000", name: "a", namespace: "n", service: "m", group: "m", cell: "0" },
  ...{ instance: "a", role: "prefill", dataParallelRank: 0, models: ["m"], draining: false, ready: true, bootId },
  compatibility: { connector: "mooncake", engine: "vllm", tag: "", fabric: "" },
});
const answer = (body: unknown, status = 200): EngineReply => ({
  ...{ kind: "answer", status, headers: {} },
  body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)),
});

function book(reply: () => EngineReply): { peers: PeerBook; asked: EngineRequest[]; now: { at: number } } {
  const now = { at: 0 };
  const asked: EngineRequest[] = [];
  const send = (request: EngineRequest): Promise<EngineReply> => {
    asked.push(request);
    return Promise.resolve(reply());
  };
  const clock = { monotonic: () => now.at };
  return { peers: new PeerBook({ send }, clock), asked, now };
}

t.test("a bootstrap server is asked once for each process of its engine", async (t) => {
  const { peers, asked, now } = book(() => answer({ 0: { engine_id: "e0" }, 1: { engine_id: "e1" } }));
  const found = await Promise.all([peers.ask(endpoint()), peers.ask(endpoint()), peers.ask(endpoint())]);
  for (const peer of found) t.same(peer, { engineIds: ["e0", "e1"] });
  t.match(asked, [{ address: "10.0.0.1:8998", method: "GET", path: "/query", plain: true }]);
  await peers.ask(endpoint("2"));
  t.equal(asked.length, 2, "restarted");
  await peers.ask(endpoint("2"));
  t.equal(asked.length, 2);
  peers.forget(endpoint("2"));
  await peers.ask(endpoint("2"));
  t.equal(asked.length, 3, "a leg failed there");
  now.at = 9_999;
  await peers.ask(endpoint("2"));
  t.equal(asked.length, 3);
  now.at = 10_000;
  await peers.ask(endpoint("2"));
  t.equal(asked.length, 4, "endpoints of the configuration tell of no restart");
});

t.test("what is no list of ranks is not believed, and asked again", async (t) => {
  const wrong: readonly EngineReply[] = [
    { kind: "refused", detail: "" },
    { kind: "late", detail: "" },
    answer({}, 500),
    answer("<html>"),
    answer([]),
    answer({}),
    answer({ 1: { engine_id: "e" } }),
    answer({ 0: { engine_id: "" } }),
    answer({ 0: { engine_id: "x".repeat(600) } }),
    answer({ 0: "e" }),
  ];
  for (const reply of wrong) {
    const { peers, asked } = book(() => reply);
    t.equal(await peers.ask(endpoint()), undefined);
    await peers.ask(endpoint());
    t.equal(asked.length, 2);
  }
});

t.test("coordinates are heard in an engine's answer; several engines behind one address have none", (t) => {
  const { peers } = book(() => answer({}));
  const heard = (id: string, more = {}): void =>
    peers.hear(
      endpoint(),
      Buffer.from(
        JSON.stringify({ remote_engine_id: id, remote_host: "h", remote_port: 1, remote_block_ids: [1], ...more }),
      ),
    );
  peers.hear(endpoint(), Buffer.from("{}"));
  t.equal(peers.known(endpoint()), undefined);
  heard("e");
  const known = { engineIds: [], coordinates: { remote_engine_id: "e", remote_host: "h", remote_port: 1 } };
  t.same(peers.known(endpoint()), known, "and nothing of one request");
  heard("e", { remote_block_ids: [2] });
  t.same(peers.known(endpoint()), known);
  t.equal(peers.known(endpoint("2")), undefined, "another process");
  heard("f");
  t.match(peers.known(endpoint()), { coordinates: { remote_engine_id: "f" } }, "restarted, for all that is known");
  heard("e");
  t.equal(peers.known(endpoint()), undefined, "it was there before: two answer by turns");
  for (const id of ["f", "e", "f"]) {
    heard(id);
    t.equal(peers.known(endpoint()), undefined, "for good");
  }
  t.end();
});
