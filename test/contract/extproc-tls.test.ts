/** ext_proc over TLS with node:http2 as the proxy: who is served, and that certificates change while it runs. */
import { randomUUID } from "node:crypto";
import { once, type EventEmitter } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from "node:http2";
import { connect as connectPlain, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectSecure } from "node:tls";
import t, { type Test } from "tap";
import { issueAuthority, issueServing, type KeyedCertificate } from "../../src/certs/issue.ts";
import { createPorts } from "../../src/cli/roles/ports.ts";
import { REREAD_MS } from "../../src/cli/roles/files.ts";
import { proxyTls } from "../../src/cli/roles/proxy-tls.ts";
import { startRouterRole } from "../../src/cli/roles/router.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Log, Timers } from "../../src/ports.ts";
import { startHttp2Server } from "../../src/router/http2/server.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { systemClock, systemTimers } from "../../src/telemetry/process.ts";
import { issueClient } from "../support/client-certificate.ts";
import { LIMITS } from "../support/http2-peer.ts";

const METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const context = { now: Date.now(), id: randomUUID };
const authority = await issueAuthority(context);
const successor = await issueAuthority(context);
const serving = await issueServing(context, authority, ["127.0.0.1"]);
const proxy = issueClient("envoy", authority);
const nextProxy = issueClient("envoy", successor);

interface Rig {
  readonly address: string;
  readonly logged: string[];
  readonly write: (pair: KeyedCertificate, clientCa?: string) => void;
  /** Time to look at the files again. */
  readonly reread: () => void;
}

async function rig(t: Test, more: Record<string, string> = {}, pair?: KeyedCertificate): Promise<Rig> {
  const folder = t.testdir();
  const file = (name: string): string => join(folder, name);
  const write = (pair: KeyedCertificate, clientCa?: string): void => {
    writeFileSync(file("tls.crt"), pair.certificate);
    writeFileSync(file("tls.key"), pair.key);
    if (clientCa !== undefined) writeFileSync(file("ca.crt"), clientCa);
  };
  if (pair !== undefined) write(pair, authority.certificate);
  const files = { "router.tls.certFile": file("tls.crt"), "router.tls.keyFile": file("tls.key") };
  const own = { "router.listen": "127.0.0.1:0", "router.healthListen": "", ...(pair === undefined ? {} : files) };
  const flags = {
    ...own,
    ...more,
    ...(more["router.tls.clientCaFile"] === "" ? { "router.tls.clientCaFile": file("ca.crt") } : {}),
  };
  const logged: string[] = [];
  const log: Log = { ...SILENT_LOG, info: (line) => logged.push(line), error: (line) => logged.push(line) };
  const ports = createPorts(loadConfig({ flags }), log);
  const looks: (() => void)[] = [];
  const timers: Timers = {
    after: ports.timers.after,
    every: (ms, task) => (ms === REREAD_MS ? (looks.push(task), () => undefined) : ports.timers.every(ms, task)),
  };
  const role = await startRouterRole({ ...ports, timers }, { endpoints: () => [], synced: () => true });
  t.teardown(() => role.stop());
  const reread = (): void => looks.forEach((look) => look());
  return { address: role.address, logged, write, reread };
}

interface Shown {
  readonly ca?: string;
  readonly pair?: KeyedCertificate;
}

function dial(t: Test, { address }: Rig, { ca = authority.certificate, pair }: Shown = {}): ClientHttp2Session {
  const own = pair === undefined ? {} : { cert: pair.certificate, key: pair.key };
  const session = connect(`https://${address}`, { ca, ...own });
  session.on("error", () => undefined);
  t.teardown(() => session.destroy());
  return session;
}

/** Whatever went wrong before. */
const closed = (one: EventEmitter): Promise<void> => new Promise((resolve) => void one.once("close", () => resolve()));

/** How a stream ends that was served and asked nothing. */
const CANCELLED = "1";

/** gRPC status of an exchange that says nothing, or why there was none. */
async function served(session: ClientHttp2Session): Promise<string> {
  if (session.destroyed) return "closed";
  const stream = session.request({ ":method": "POST", ":path": METHOD, te: "trailers" });
  stream.end().resume();
  let status = "closed";
  stream.on("trailers", (trailers: IncomingHttpHeaders) => (status = String(trailers["grpc-status"])));
  stream.on("error", () => undefined);
  await closed(stream);
  return status;
}

const serialOf = (session: ClientHttp2Session): string | undefined =>
  (session.socket as unknown as { getPeerCertificate(): { serialNumber?: string } }).getPeerCertificate().serialNumber;

t.test("TLS: who trusts the authority is served, and nobody without TLS", async (t) => {
  const started = await rig(t, {}, serving);
  t.equal(await served(dial(t, started)), CANCELLED);
  t.equal(await served(dial(t, started, { ca: successor.certificate })), "closed", "another authority");
  const plain = connect(`http://${started.address}`);
  plain.on("error", () => undefined);
  t.equal(await served(plain), "closed", "plain text");
});

t.test("a client that speaks no HTTP/2 is closed", async (t) => {
  const [host = "", port = ""] = (await rig(t, {}, serving).then((started) => started.address)).split(":");
  for (const ALPNProtocols of [[], ["http/1.1"]]) {
    const socket = connectSecure({ host, port: Number(port), ca: authority.certificate, ALPNProtocols });
    socket.on("error", () => undefined);
    await closed(socket);
    t.pass(`closed with ${ALPNProtocols.join() || "no"} ALPN`);
  }
});

t.test("mTLS: only a certificate of the authority is served", async (t) => {
  const started = await rig(t, { "router.tls.clientCaFile": "" }, serving);
  t.equal(await served(dial(t, started, { pair: proxy })), CANCELLED);
  t.equal(await served(dial(t, started)), "closed", "none");
  t.equal(await served(dial(t, started, { pair: nextProxy })), "closed", "of another authority");
});

t.test("certificate and authority change while it runs; what is connected goes on", async (t) => {
  const started = await rig(t, { "router.tls.clientCaFile": "" }, serving);
  const old = dial(t, started, { pair: proxy });
  t.equal(await served(old), CANCELLED);
  const renewed = await issueServing(context, authority, ["127.0.0.1"]);
  started.write({ certificate: renewed.certificate, key: serving.key }, successor.certificate);
  started.reread();
  t.match(started.logged.at(-1), /not renewed/, "half of a pair");
  t.equal(await served(dial(t, started, { pair: proxy })), CANCELLED, "the last good one stays");
  started.write(renewed, successor.certificate);
  started.reread();
  t.match(started.logged.at(-1), /renewed/);
  started.reread();
  t.equal(started.logged.filter((line) => line === "certificate of ext_proc renewed").length, 1, "once");
  const fresh = dial(t, started, { pair: nextProxy });
  t.equal(await served(fresh), CANCELLED, "of the new authority");
  t.not(serialOf(fresh), serialOf(old), "the new certificate is shown");
  t.equal(await served(dial(t, started, { pair: proxy })), "closed", "of the old authority");
  t.equal(await served(old), CANCELLED, "the connection of before goes on");
});

t.test("whose handshake ends behind the SIGTERM is told at once that the server goes", async (t) => {
  const tls = { pair: { certificate: serving.certificate, key: serving.key } };
  const server = await startHttp2Server(
    { host: "127.0.0.1", port: 0 },
    {
      ...{ limits: LIMITS, maxConnections: 10, tls, opened: () => undefined },
      ...{ clock: systemClock, timers: systemTimers, log: SILENT_LOG },
    },
  );
  const [first, second] = [await open(server.address), await open(server.address)];
  const stopped = server.stop(60_000);
  const session = connect(`https://${server.address}`, {
    createConnection: () =>
      connectSecure({ socket: first, host: "127.0.0.1", ca: authority.certificate, ALPNProtocols: ["h2"] }),
  });
  session.on("error", () => undefined);
  await once(session, "goaway");
  await closed(session);
  second.destroy();
  await stopped;
  t.pass("and nobody is waited for");
});

t.test("a configuration that cannot be is refused by its key", (t) => {
  const folder = t.testdir({ "tls.crt": serving.certificate, "tls.key": serving.key, other: proxy.key, empty: "" });
  const refused = (files: Record<string, string>): void => {
    const flags = Object.fromEntries(
      Object.entries(files).map(([key, name]) => [`router.tls.${key}`, join(folder, name)]),
    );
    proxyTls(createPorts(loadConfig({ flags }), SILENT_LOG));
  };
  t.throws(() => refused({ certFile: "tls.crt" }), /certFile and keyFile belong together/);
  t.throws(() => refused({ clientCaFile: "tls.crt" }), /clientCaFile needs certFile/);
  t.throws(() => refused({ certFile: "tls.crt", keyFile: "none" }), /router\.tls\.keyFile .*none: ENOENT/);
  t.throws(() => refused({ certFile: "tls.crt", keyFile: "other" }), /router\.tls\.keyFile .*other: .*mismatch/i);
  const pair = { certFile: "tls.crt", keyFile: "tls.key" };
  t.throws(() => refused({ ...pair, clientCaFile: "empty" }), /clientCaFile .*no certificate/);
  t.doesNotThrow(() => refused({ ...pair, clientCaFile: "tls.crt" }));
  t.end();
});

const open = async (address: string): Promise<Socket> => {
  const [host = "", port = ""] = address.split(":");
  const socket = connectPlain(Number(port), host);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
};

t.test("connections are counted: one too many is closed, and has its place once another is gone", async (t) => {
  const { address } = await rig(t, { "router.maxConnections": "2" });
  const [first, second] = [await open(address), await open(address)];
  const third = (await open(address)).resume();
  await closed(third);
  first.destroy();
  await sleep(50);
  const fourth = connect(`http://${address}`);
  t.equal(await served(fourth), CANCELLED);
  fourth.destroy();
  second.destroy();
});

t.test("a peer that ends its side, or is sent away, is gone at once", async (t) => {
  const { address } = await rig(t);
  const half = (await open(address)).resume();
  half.end();
  await closed(half);
  const wrong = (await open(address)).resume();
  wrong.write("GET / HTTP/1.1\r\n\r\n");
  // It does not end its side: the server does not wait for it.
  await once(wrong, "end");
  t.pass();
});
