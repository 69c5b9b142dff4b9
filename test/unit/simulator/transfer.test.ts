import t from "tap";
import { newCounts } from "../../../src/simulator/engine/facts.ts";
import { keepsBlocks, Pins, readTransfer, transferParams } from "../../../src/simulator/engine/transfer.ts";
import { VirtualTime } from "../../../src/simulator/engine/virtual-time.ts";

const RESULT = {
  engineId: "engine-1",
  requestId: "cmpl-1-0-abcd",
  host: "127.64.0.5",
  port: 8000,
  blocks: [4, 5, 6],
  tokens: 40,
  blockSize: 16,
  lastTokenId: 77,
  tensorParallel: 2,
};

/** What the router sends with a prefill leg. */
const PREFILL_LEG = {
  do_remote_decode: true,
  do_remote_prefill: false,
  remote_engine_id: null,
  remote_block_ids: null,
  remote_host: null,
  remote_port: null,
};

t.test("NIXL answers in vLLM's shape", (t) => {
  t.strictSame(transferParams("nixl", RESULT), {
    do_remote_prefill: true,
    do_remote_decode: false,
    remote_engine_id: "engine-1",
    remote_request_id: "cmpl-1-0-abcd",
    remote_host: "127.64.0.5",
    remote_port: 8000,
    remote_block_ids: [[4, 5, 6]],
    tp_size: 2,
    remote_num_tokens: 40,
    remote_blocks_expiry_time: null,
  });
  t.end();
});

t.test("Mooncake answers in vLLM-Ascend's shape", (t) => {
  t.strictSame(transferParams("mooncake", RESULT), {
    do_remote_prefill: true,
    do_remote_decode: false,
    remote_engine_id: "engine-1",
    remote_request_id: "cmpl-1-0-abcd",
    remote_host: "127.64.0.5",
    remote_port: 8000,
    remote_block_ids: [4, 5, 6],
    remote_pcp_size: 1,
    remote_dcp_size: 1,
    remote_ptp_size: 2,
    last_token_id: 77,
    remote_multi_nodes_meta_mapping: {},
    num_prompt_blocks: 3,
    remote_block_size: 16,
  });
  t.end();
});

t.test("what one leg answers, the other leg reads", (t) => {
  const source = { engineId: "engine-1", requestId: "cmpl-1-0-abcd", host: "127.64.0.5", port: 8000 };
  for (const connector of ["nixl", "mooncake"] as const) {
    const carried: unknown = JSON.parse(JSON.stringify(transferParams(connector, RESULT)));
    t.same(readTransfer(carried), { kind: "decode", source }, connector);
  }
  t.end();
});

t.test("parameters of a request are read as the connectors do", (t) => {
  const whole = transferParams("nixl", RESULT);
  const without = (key: string): unknown => ({ ...whole, [key]: undefined });
  const cases: readonly (readonly [unknown, string])[] = [
    [undefined, "none"],
    [null, "none"],
    ["text", "none"],
    [{}, "none"],
    [{ do_remote_decode: false, do_remote_prefill: false }, "none"],
    [PREFILL_LEG, "prefill"],
    [{ do_remote_prefill: true }, "broken"],
    [without("remote_engine_id"), "broken"],
    [without("remote_request_id"), "broken"],
    [without("remote_host"), "broken"],
    [without("remote_port"), "broken"],
    [without("remote_block_ids"), "broken"],
    [{ ...whole, remote_block_ids: [] }, "broken"],
    [{ ...whole, remote_port: "8000" }, "broken"],
    [{ ...whole, remote_port: 70_000 }, "broken"],
    [{ ...whole, remote_host: "x".repeat(600) }, "broken"],
    [whole, "decode"],
  ];
  for (const [params, kind] of cases) t.equal(readTransfer(params).kind, kind, JSON.stringify(params));
  t.end();
});

t.test("Mooncake keeps blocks of legs that end by length only", (t) => {
  t.same([keepsBlocks("nixl", "length"), keepsBlocks("nixl", "stop")], [true, true]);
  t.same([keepsBlocks("mooncake", "length"), keepsBlocks("mooncake", "stop")], [true, false]);
  t.end();
});

function newPins(leaseMs = 30_000) {
  const time = new VirtualTime();
  const counts = newCounts();
  const freed: { at: number; blocks: readonly number[] }[] = [];
  const pins = new Pins(time, leaseMs, (blocks) => freed.push({ at: time.now(), blocks }), counts);
  pins.hold("r", { blocks: [1, 2], tokens: 30, digest: 9 });
  return { time, counts, freed, pins };
}

t.test("a pin is pulled once, and freed when the transfer has ended", (t) => {
  const { time, counts, freed, pins } = newPins();
  t.match(pins.claim("r", 25), { blocks: [1, 2], tokens: 30, digest: 9 });
  t.equal(pins.claim("r", 25), undefined);
  t.equal(pins.size, 0);
  t.same(freed, [], "not before");
  time.drain();
  t.same(freed, [{ at: 25, blocks: [1, 2] }]);
  t.same([counts.pinsPulled, counts.pinsExpired], [1, 0]);
  t.end();
});

t.test("a pin that nobody pulls expires with its lease", (t) => {
  const { time, counts, freed, pins } = newPins(30_000);
  time.advance(29_999);
  t.equal(pins.size, 1);
  time.drain();
  t.same(freed, [{ at: 30_000, blocks: [1, 2] }]);
  t.equal(pins.claim("r", 1), undefined);
  t.same([counts.pinsPulled, counts.pinsExpired], [0, 1]);
  t.end();
});

t.test("renewing begins the lease anew", (t) => {
  const { time, freed, pins } = newPins(30_000);
  time.advance(20_000);
  t.equal(pins.renew("r"), true);
  t.equal(pins.renew("other"), false);
  time.drain();
  t.equal(freed[0]?.at, 50_000);
  t.equal(freed.length, 1);
  t.end();
});

t.test("dropping frees at once", (t) => {
  const { time, freed, pins } = newPins();
  t.equal(pins.drop("r"), true);
  t.equal(pins.drop("r"), false);
  time.drain();
  t.same(freed, [{ at: 0, blocks: [1, 2] }]);
  t.end();
});

t.test("a foreign engine cannot keep blocks longer than a lease", (t) => {
  const { time, freed, pins } = newPins(1000);
  pins.claim("r", 1e12);
  time.drain();
  t.equal(freed[0]?.at, 1000);
  t.end();
});

t.test("stopping leaves no timer behind", (t) => {
  const { time, freed, pins } = newPins();
  pins.hold("s", { blocks: [3], tokens: 1, digest: 1 });
  pins.claim("s", 10);
  pins.stop();
  time.drain();
  t.same(freed, []);
  t.equal(time.now(), 0, "nothing was left to run");
  t.end();
});
