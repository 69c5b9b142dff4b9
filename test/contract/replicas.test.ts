/** Two routers over loopback, as a Service's replicas: what one sent where, the other knows. */
import { once } from "node:events";
import { request } from "node:http";
import { setTimeout as wait } from "node:timers/promises";
import t, { type Test } from "tap";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { startRouterRole } from "../../src/cli/roles/router.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { ProcessClient } from "../../src/simulator/gateway/client.ts";
import { encodeBody, encodeHeaders } from "../../src/simulator/gateway/codec.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { freePorts } from "../support/ports.ts";

const MODEL = "m";
const MODES = { request: "FULL_DUPLEX_STREAMED", response: "NONE" } as const;
const HEADERS: readonly [string, string][] = [
  [":method", "POST"],
  [":path", "/v1/chat/completions"],
  ["content-type", "application/json"],
];
type Message = { readonly role: "user" | "assistant"; readonly content: string };

const freeAddress = async (): Promise<string> => `127.0.0.1:${(await freePorts(1))[0]!}`;

interface Router {
  /** Where a conversation is sent; it is answered at once. */
  readonly send: (messages: readonly Message[]) => Promise<string>;
  /** Picks of the other that are in the index. */
  readonly recorded: () => number;
  /** Messages that were not heard. */
  readonly refused: () => number;
}

async function startRouter(t: Test, listen: string, peers: string): Promise<Router> {
  const entries = ["a:1", "b:1", "c:1", "d:1"].map((address) => ({ address, role: "both", model: MODEL }));
  const config = loadConfig({
    text: JSON.stringify({ router: { endpoints: { static: entries }, replicas: { listen, peers } } }),
    flags: { "router.listen": "127.0.0.1:0", "router.healthListen": "" },
  });
  const endpoints = staticEndpoints(config.router.endpoints.static);
  const ports = createPorts(config, SILENT_LOG);
  let [recorded, refused] = [0, 0];
  const count = (name: string, labels: Readonly<Record<string, string>> = {}, by = 1): void => {
    if (name === "tandem_router_replica_picks_total" && labels["outcome"] === "recorded") recorded += by;
    if (name === "tandem_router_replica_refused_total") refused += by;
  };
  const metrics = { ...ports.metrics, count, observe: () => undefined, gauge: () => undefined };
  const role = await startRouterRole({ ...ports, metrics }, { endpoints: () => endpoints, synced: () => true });
  const client = new ProcessClient(role.address);
  t.teardown(async () => {
    await client.close();
    await role.stop();
  });
  const send = async (messages: readonly Message[]): Promise<string> => {
    const stream = client.open();
    stream.send(encodeHeaders("requestHeaders", HEADERS, false, MODES));
    stream.send(encodeBody("requestBody", Buffer.from(JSON.stringify({ model: MODEL, messages })), true));
    const reply = await stream.next();
    stream.reset();
    return reply?.destination ?? "";
  };
  return { send, recorded: () => recorded, refused: () => refused };
}

/** A turn through one router, until the other one knows of it. */
async function turn(through: Router, other: Router, messages: readonly Message[]): Promise<string> {
  const before = other.recorded();
  const went = await through.send(messages);
  while (other.recorded() === before) await wait(5);
  return went;
}

t.test("the next turn of a conversation goes where the last one went, whichever router either came to", async (t) => {
  const addresses = [await freeAddress(), await freeAddress()] as const;
  const peers = addresses.join(",");
  const [one, two] = [await startRouter(t, addresses[0], peers), await startRouter(t, addresses[1], peers)];
  for (let conversation = 0; conversation < 8; conversation++) {
    const [first, second] = conversation % 2 === 0 ? [one, two] : [two, one];
    const opening: Message = { role: "user", content: `${conversation} has a topic of its own. `.repeat(200) };
    const more: readonly Message[] = [
      { role: "assistant", content: "Yes." },
      { role: "user", content: "And then?" },
    ];
    const went = await turn(first, second, [opening]);
    t.match(went, /^[abcd]:1$/);
    t.equal(await turn(second, first, [opening, ...more]), went);
  }
});

/** Status of a message that says that every endpoint is full. */
async function sayFull(address: string, localAddress: string): Promise<number | undefined> {
  const loads = ["a:1", "b:1", "c:1", "d:1"].map((id) => [`static:${id}`, 512, 0]);
  const posted = request(`http://${address}/v1/loads`, {
    ...{ method: "POST", localAddress, headers: { "content-type": "application/json" } },
  });
  posted.end(JSON.stringify({ from: `at ${localAddress}`, all: true, loads }));
  const [response] = (await once(posted, "response")) as [{ statusCode?: number; resume: () => void }];
  response.resume();
  return response.statusCode;
}

t.test("what a stranger says changes nothing; what a replica says stops nobody", async (t) => {
  const listen = await freeAddress();
  const router = await startRouter(t, listen, `${listen},[::1]:9080`);
  const said: Message = { role: "user", content: "Hello?" };
  t.equal(await sayFull(listen, "127.0.0.2"), 403);
  t.equal(router.refused(), 1);
  t.match(await router.send([said]), /^[abcd]:1$/);
  t.equal(await sayFull(listen, "127.0.0.1"), 204);
  t.equal(router.refused(), 1);
  t.match(await router.send([said]), /^[abcd]:1$/);
});
