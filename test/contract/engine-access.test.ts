/** Towards engines behind TLS: who is trusted, what is shown, and that both change while the router runs. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import t, { type Test } from "tap";
import { issueAuthority, issueServing, type KeyedCertificate } from "../../src/certs/issue.ts";
import { engineAccess } from "../../src/cli/roles/engine.ts";
import { createPorts, type RolePorts } from "../../src/cli/roles/ports.ts";
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import { startScraper } from "../../src/endpoints/scrape.ts";
import type { EngineReply, Log, LogFields } from "../../src/ports.ts";
import { createEngineClient, type ClosableEngineClient, type EngineAccess } from "../../src/router/disagg/client.ts";
import { startSecureEngine, type SecureEngine, type SecureEngineOptions } from "../support/tls-engine.ts";
import { issueClient } from "../support/client-certificate.ts";

const context = { now: Date.now(), id: randomUUID };
const authority = await issueAuthority(context);
const stranger = await issueAuthority(context);
const serving = await issueServing(context, authority, ["127.0.0.1"]);
const named = await issueServing(context, authority, ["engine.test"]);
const caller = issueClient("tandem-router", authority);

async function engine(t: Test, options: SecureEngineOptions): Promise<SecureEngine> {
  const started = await startSecureEngine(options);
  t.teardown(() => started.stop());
  return started;
}

function client(t: Test, access: EngineAccess): ClosableEngineClient {
  const made = createEngineClient(access);
  t.teardown(() => made.close());
  return made;
}

const post = (from: ClosableEngineClient, { address }: SecureEngine, headers = {}): Promise<EngineReply> =>
  from.send({ address, method: "POST", path: "/v1/completions", headers, body: Buffer.from("{}"), timeoutMs: 5000 });

const outcome = (reply: EngineReply): string | number => (reply.kind === "answer" ? reply.status : reply.kind);

t.test("an engine is trusted by its authority and its name, and nothing is sent to another", async (t) => {
  const table: [string, KeyedCertificate, EngineAccess["tls"], string | number][] = [
    ["authority and address", serving, { ca: authority.certificate }, 200],
    ["another authority", serving, { ca: stranger.certificate }, "refused"],
    ["the system's authorities", serving, {}, "refused"],
    ["another name", named, { ca: authority.certificate }, "refused"],
    ["the name that is asked for", named, { ca: authority.certificate, serverName: "engine.test" }, 200],
    ["a name it does not carry", serving, { ca: authority.certificate, serverName: "engine.test" }, "refused"],
    ["no TLS from us", serving, undefined, "lost"],
  ];
  for (const [what, pair, tls, wanted] of table) {
    const server = await engine(t, { pair });
    const reply = await post(client(t, tls === undefined ? {} : { tls }), server, { authorization: "Bearer secret" });
    t.equal(outcome(reply), wanted, what);
    t.equal(server.calls.length, wanted === 200 ? 1 : 0, `${what}: what the engine was asked`);
  }
});

t.test("an answer is held up to a bound, and no longer than its deadline", async (t) => {
  const piece = Buffer.alloc(2 ** 20, "x");
  const server = createServer((request, response) => {
    const pieces = request.url === "/large" ? 5 : request.url === "/slow" ? 1 : 4;
    for (let index = 0; index < pieces; index++) response.write(piece);
    if (request.url !== "/slow") response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const asked = client(t, {});
  const get = async (path: string, timeoutMs = 5000): Promise<string | number> =>
    outcome(await asked.send({ address, method: "GET", path, timeoutMs }));
  t.same([await get("/whole"), await get("/large"), await get("/slow", 100)], [200, "lost", "late"]);
});

t.test("an engine that asks for a certificate gets it; without one it is asked nothing", async (t) => {
  const server = await engine(t, { pair: serving, clientCa: authority.certificate });
  const tls = { ca: authority.certificate };
  // In TLS 1.3 the client is done before the server looks at its certificate: the alert may come, or only the end.
  t.match(outcome(await post(client(t, { tls }), server)), /^(lost|refused)$/);
  const own = client(t, { tls: { ...tls, certificate: caller.certificate, key: caller.key } });
  t.equal(outcome(await post(own, server)), 200);
  t.same(
    server.calls.map((call) => call.caller),
    ["tandem-router"],
  );
});

t.test("the credential takes the place of a client's; an engine that does not take it has not begun", async (t) => {
  const server = await engine(t, { pair: serving });
  const tls = { ca: authority.certificate };
  const own = client(t, { tls, credential: ["authorization", "Bearer ours"] });
  t.equal(outcome(await post(own, server, { authorization: "Bearer theirs" })), 200);
  t.equal(server.calls[0]?.headers.authorization, "Bearer ours");
  server.reply = () => ({ status: 401, body: "{}" });
  t.equal(outcome(await post(own, server)), "refused", "our token: another endpoint is to be tried");
  t.equal(outcome(await post(client(t, { tls }), server)), 401, "the client's token: the client's answer");
});

t.test("what was begun ends as it began, what comes goes the new way", async (t) => {
  const server = await engine(t, { pair: serving });
  const made = client(t, { tls: { ca: authority.certificate }, credential: ["x-api-key", "old"] });
  const running = post(made, server);
  made.use({ tls: { ca: authority.certificate }, credential: ["x-api-key", "new"] });
  t.equal(outcome(await running), 200);
  t.equal(outcome(await post(made, server)), 200);
  t.same(
    server.calls.map(({ headers }) => headers["x-api-key"]),
    ["old", "new"],
  );
});

/** Ports whose clock is ours, and whose log is kept. */
function portsOf(engine: object, headers?: readonly string[]): { ports: RolePorts; fire: () => void; lines: string[] } {
  const lines: string[] = [];
  let task = (): void => undefined;
  const keep = (message: string, fields?: LogFields): void => void lines.push(`${message} ${JSON.stringify(fields)}`);
  const log: Log = { debug: keep, info: keep, warn: keep, error: keep, with: () => log };
  const router = { engine, ...(headers === undefined ? {} : { prefill: { headers } }) };
  const ports = createPorts(loadConfig({ text: JSON.stringify({ router }) }), log);
  const timers = {
    after: () => () => undefined,
    every: (_: number, given: () => void) => {
      task = given;
      return () => undefined;
    },
  };
  return { ports: { ...ports, timers }, fire: () => task(), lines };
}

t.test("files are read again; half of a pair and rubbish leave what was, and nothing of them is logged", async (t) => {
  const folder = t.testdir({ "ca.crt": authority.certificate, token: "first-secret\n", "tls.crt": "", "tls.key": "" });
  const at = (name: string): string => join(folder, name);
  const pair = ({ certificate, key }: KeyedCertificate): void => {
    writeFileSync(at("tls.crt"), certificate);
    writeFileSync(at("tls.key"), key);
  };
  pair(caller);
  const { ports, fire, lines } = portsOf({
    ...{ scheme: "https", caFile: at("ca.crt"), certFile: at("tls.crt"), keyFile: at("tls.key") },
    tokenFile: at("token"),
  });
  const source = engineAccess(ports);
  const server = await engine(t, { pair: serving, clientCa: authority.certificate });
  const made = client(t, source.current());
  source.onChange((access) => made.use(access));
  const ask = async (): Promise<[string | number, string, string]> => {
    const reply = outcome(await post(made, server));
    const last = server.calls.at(-1);
    return [reply, last?.caller ?? "", last?.headers.authorization ?? ""];
  };
  t.same(await ask(), [200, "tandem-router", "Bearer first-secret"]);
  fire();
  t.same(lines, [], "nothing changed");

  writeFileSync(at("token"), "second-secret");
  const next = issueClient("tandem-router-2", authority);
  writeFileSync(at("tls.crt"), next.certificate);
  fire();
  t.same(await ask(), [200, "tandem-router", "Bearer first-secret"], "half a pair");
  pair(next);
  fire();
  t.same(await ask(), [200, "tandem-router-2", "Bearer second-secret"]);

  for (const rubbish of ["", "two words", "third-secret\r\nx-evil: 1", "\u00fcber", "t".repeat(9000)]) {
    writeFileSync(at("token"), rubbish);
    fire();
    t.same(await ask(), [200, "tandem-router-2", "Bearer second-secret"], JSON.stringify(rubbish.slice(0, 20)));
  }
  t.ok(lines.length >= 6, "told of each");
  t.notMatch(lines.join(), /secret|BEGIN|two words/);
});

t.test("a configuration that contradicts itself does not start", (t) => {
  const folder = t.testdir({ rubbish: "rubbish", empty: "" });
  const table: [object, readonly string[] | undefined, RegExp][] = [
    [{ certFile: "a" }, undefined, /certFile and keyFile belong together/],
    [{ caFile: "a" }, undefined, /need scheme: https/],
    [{ scheme: "https", caFile: join(folder, "rubbish") }, undefined, /router\.engine\.caFile .*rubbish/],
    [{ scheme: "https", caFile: join(folder, "none") }, undefined, /router\.engine\.caFile .*ENOENT/],
    [{ tokenFile: join(folder, "empty") }, undefined, /tokenFile .*it is empty/],
    [{ tokenHeader: "x-prefiller-host-port" }, undefined, /tokenHeader: x-prefiller-host-port routes/],
    [{}, ["x-gateway-destination-endpoint"], /prefill\.headers: x-gateway-destination-endpoint/],
    [{}, ["content-length"], /prefill\.headers: content-length/],
  ];
  for (const [engine, headers, wanted] of table)
    t.throws(() => engineAccess(portsOf(engine, headers).ports), { message: wanted }, String(wanted));
  t.end();
});

t.test("scraping goes the same way", async (t) => {
  const server = await engine(t, { pair: serving, clientCa: authority.certificate });
  server.reply = ({ path }) =>
    path === "/metrics"
      ? { status: 200, body: "vllm:num_requests_running 3\n" }
      : { status: 200, body: '{"data":[{"id":"m"}]}' };
  const { ports } = portsOf({});
  const text = JSON.stringify({
    router: { endpoints: { static: [{ address: server.address, role: "both", model: "m" }] } },
  });
  const endpoints = staticEndpoints(loadConfig({ text }).router.endpoints.static);
  const { certificate, key } = caller;
  const scraper = startScraper({
    ...{ ...ports, endpoints: () => endpoints, intervalMs: 1000, timeoutMs: 5000 },
    client: client(t, {
      tls: { ca: authority.certificate, certificate, key },
      credential: ["authorization", "Bearer scrape"],
    }),
  });
  t.teardown(() => scraper.stop());
  await scraper.pollNow();
  t.match(scraper.of(endpoints[0]?.id ?? ""), { stats: { running: 3 }, models: ["m"] });
  t.same(new Set(server.calls.map(({ headers }) => headers.authorization)), new Set(["Bearer scrape"]));
});
