/**
 * What the ext_proc benchmark runs on, made here and by its Go peer: fixed bytes and picks, so that neither side drifts.
 * The benchmark itself compares the picks of both before it measures.
 */
import t from "tap";
import { createHash } from "node:crypto";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { NO_METRICS } from "../../../src/telemetry/metrics.ts";
import type { Timers } from "../../../src/ports.ts";
import type { Ticket } from "../../../src/router/exchange.ts";
import { checksum, Content } from "../../bench/extproc/content.ts";
import { createWorld, type World } from "../../bench/extproc/world.ts";

const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex").slice(0, 16);

t.test("bodies are JSON of the wanted size, none like another, and go on with a conversation", (t) => {
  for (const bodyBytes of [1024, 2048, 16_384, 65_536]) {
    const content = new Content({ seed: 7, endpoints: 10, blocks: 1000, bodyBytes });
    const bodies = [0, 1, 2, 3, 4294967295].map((request) => content.body(request));
    for (const [index, body] of bodies.entries()) {
      t.equal(body.length, bodyBytes);
      const { messages } = JSON.parse(body.toString()) as { messages: { role: string; content: string }[] };
      t.equal(messages[0]?.role, "system");
      t.ok(messages.every(({ content }) => content.length > 10));
      t.equal(
        bodies.findIndex((other) => other.equals(body)),
        index,
      );
    }
    t.ok(
      content
        .prompt(5)
        .subarray(0, content.prefix(0).length)
        .equals(content.prefix(content.conversation(5))),
    );
  }
  t.end();
});

t.test("the bytes are those of the peer", (t) => {
  const content = new Content({ seed: 1, endpoints: 100, blocks: 1_000_000, bodyBytes: 16_384 });
  t.match(
    { conversations: content.conversations, body: digest(content.body(12_345)), holders: content.holders(64) },
    { conversations: 22_727, body: "c78acbbb08598b2d", holders: [31, 32, 33, 34, 35, 36] },
  );
  t.equal(checksum([]), "cbf29ce484222325");
  t.equal(checksum(["a"]), "089bdc07b544e7b2");
  t.end();
});

const NO_TIMERS: Timers = { after: () => () => undefined, every: () => () => undefined };
const UNDER_WAY = 256;

/** Requests in order, the last ones still under way: what the load of the benchmark sends to be compared. */
async function picks({ router, content }: World, requests: number): Promise<string[]> {
  const addresses: string[] = [];
  const tickets: Ticket[] = [];
  for (let request = 0; request < requests; request++) {
    const head = {
      method: "POST",
      path: "/v1/chat/completions",
      headers: [["content-type", "application/json"]],
    } as const;
    const { ticket, routed } = router.begin({ ...head, body: content.body(request) });
    const outcome = await routed;
    addresses.push(outcome.kind === "forward" ? outcome.destination : outcome.reason);
    tickets.push(ticket);
    tickets[request - UNDER_WAY]?.finish();
  }
  return addresses;
}

t.test("the picks are those of the peer", async (t) => {
  const spec = { seed: 1, endpoints: 10, blocks: 20_000, bodyBytes: 4096 };
  const world = createWorld(spec, { timers: NO_TIMERS, metrics: NO_METRICS, log: SILENT_LOG });
  t.equal(checksum(await picks(world, 600)), "1d08feeabbc9c719");
});
