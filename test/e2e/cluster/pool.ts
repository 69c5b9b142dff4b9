/**
 * A pool as an attacker finds it: a real Envoy with a shipped configuration, the real router, two decode engines that keep
 * what reached them, a prefill engine that no client may reach, and a stranger that nothing may connect to.
 */
import { createServer, type Server } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { startRouterRole, type RouterRole } from "../../../src/cli/roles/router.ts";
import { createPorts } from "../../../src/cli/roles/ports.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { staticEndpoints } from "../../../src/endpoints/directory.ts";
import { SILENT_LOG } from "../../../src/telemetry/log.ts";
import { survivors, type Forgery } from "../../support/forged.ts";
import { startEnvoy, type Envoy, type EnvoyOptions } from "./envoy.ts";
import { freePorts } from "../../support/ports.ts";

export interface Arrived {
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value, as they came. */
  readonly headers: readonly string[];
  readonly trailers: readonly string[];
}

export interface Recorder {
  readonly address: string;
  /** Requests of clients: not those by which the router reads metrics and models. */
  readonly arrived: Arrived[];
  /** Connections ever made. */
  readonly connections: () => number;
  readonly stop: () => Promise<void>;
}

const SCRAPED = new Set(["/metrics", "/v1/models"]);

/** An engine that answers every request, and keeps its head. */
export async function startRecorder(): Promise<Recorder> {
  const arrived: Arrived[] = [];
  let connections = 0;
  const server: Server = createServer((request, response) => {
    request.resume().on("end", () => {
      const path = request.url ?? "";
      const { method = "", rawHeaders: headers, rawTrailers: trailers } = request;
      if (!SCRAPED.has(path) || method !== "GET") arrived.push({ method, path, headers, trailers });
      const body = SCRAPED.has(path) ? { data: [{ id: "m" }] } : { ok: true };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
  });
  server.on("connection", () => (connections += 1));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    arrived,
    connections: () => connections,
    stop,
  };
}

export interface Pool {
  readonly envoy: Envoy;
  readonly decode: readonly [Recorder, Recorder];
  readonly prefill: Recorder;
  readonly stranger: Recorder;
  /** Ends the router; what it had open ends with it. */
  readonly stopRouter: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

export interface PoolOptions extends Pick<EnvoyOptions, "profile" | "version" | "plain" | "believing"> {
  /** `ip:port` of what stands in the router's place; default: the router. */
  readonly instead?: string;
}

const started = async (entries: readonly object[], healthListen: string): Promise<RouterRole> => {
  const router = {
    ...{ listen: "127.0.0.1:0", healthListen, endpoints: { static: entries } },
    passthrough: [{ path: "/v1/passed", methods: ["GET"] }],
    // Nobody is to learn that it goes.
    leaveMs: 0,
  };
  const config = loadConfig({ text: JSON.stringify({ router }) });
  const endpoints = staticEndpoints(config.router.endpoints.static);
  return startRouterRole(createPorts(config, SILENT_LOG), { endpoints: () => endpoints, synced: () => true });
};

/** All of it, on loopback. */
export async function startPool({ instead, ...options }: PoolOptions): Promise<Pool> {
  const [one, two] = [await startRecorder(), await startRecorder()];
  const [prefill, stranger] = [await startRecorder(), await startRecorder()];
  const common = { model: "m", connector: "none" };
  const routerHealth = `127.0.0.1:${(await freePorts(1))[0]!}`;
  const entries = [
    ...[one, two].map(({ address }) => ({ ...common, address, role: "decode" })),
    { ...common, address: prefill.address, role: "prefill" },
  ];
  const router = await started(entries, routerHealth);
  // What stands in the router's place has no health service: Envoy goes on all the same, and checks are left out.
  const asked = instead === undefined ? { extProcAddress: router.address, routerHealth } : { extProcAddress: instead };
  const decodeEndpoints = [one.address, two.address];
  const envoy = await startEnvoy({ ...options, decodeEndpoints, ...asked });
  let over: Promise<void> | undefined;
  const stopRouter = (): Promise<void> => (over ??= router.stop());
  return {
    ...{ envoy, prefill, stranger, stopRouter },
    decode: [one, two],
    stop: async () => {
      await Promise.all([envoy.stop(), stopRouter()]);
      await Promise.all([one, two, prefill, stranger].map((recorder) => recorder.stop()));
    },
  };
}

/** Status of the answer; 0 where the connection ended without one. */
export function sendForgery(url: string, forgery: Forgery, timeoutMs = 60_000): Promise<number> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(Number(port), hostname);
    const end = (): void => {
      socket.destroy();
      resolve(Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0));
    };
    socket.setTimeout(timeoutMs, end);
    socket.on("error", end).on("close", end);
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      if (/^HTTP\/1\.1 \d{3} /.test(text)) end();
    });
    const { method, path, lines, body } = forgery;
    socket.write(`${method} ${path} HTTP/1.1\r\nhost: pool\r\n${lines}\r\n${body}`, "latin1");
  });
}

/** Sends them all, so many at a time; how often each status came. */
export async function sendAll(url: string, all: readonly Forgery[], atOnce = 16): Promise<Record<string, number>> {
  const statuses: Record<string, number> = {};
  const left = [...all];
  const one = async (): Promise<void> => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      const status = await sendForgery(url, next);
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return statuses;
}

/** What a forger got through: headers that survived, by name; requests that reached somebody who takes none of clients. */
export function harm({ decode, prefill, stranger }: Pool): { survived: readonly string[]; strayed: number } {
  const survived = decode.flatMap(({ address, arrived }) =>
    arrived.flatMap(({ headers, trailers }) => [...survivors(headers, address), ...survivors(trailers, "")]),
  );
  return { survived, strayed: prefill.arrived.length + stranger.connections() };
}

export const servedBy = ({ decode }: Pool): number => decode[0].arrived.length + decode[1].arrived.length;
