/**
 * Between a client and the API server: passes calls on, counts them, and answers some of them itself as an API server in
 * trouble does. It has a certificate of its own; watches stream through.
 */
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, request } from "node:https";
import { issueAuthority, issueServing } from "../../../src/certs/issue.ts";
import type { Server } from "./components.ts";
import { serveOnLoopback } from "./loopback.ts";

export interface Fault {
  readonly status: 409 | 429 | 500;
  /** Seconds, in a header. */
  readonly retryAfter?: number;
  /** The server does what it was asked for, and only its answer is another. */
  readonly carriedOut?: boolean;
}

export interface ProxiedCall {
  /** `performance.now()` when its head came. */
  readonly at: number;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly fault: Fault | undefined;
}

export interface FaultProxy {
  /** All so far, in the order in which they came. */
  readonly calls: readonly ProxiedCall[];
  /** What goes wrong from now on. */
  readonly become: (faultOf: (call: Omit<ProxiedCall, "fault">) => Fault | undefined) => void;
  /** Writes a copy of a kubeconfig that leads here; gives its path. */
  readonly before: (kubeconfig: string) => string;
  readonly stop: () => Promise<void>;
}

const REASONS = { 409: "Conflict", 429: "TooManyRequests", 500: "InternalError" } as const;

export async function startFaultProxy(target: Server): Promise<FaultProxy> {
  const calls: ProxiedCall[] = [];
  const agent = new Agent({ keepAlive: true, ca: target.ca });
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const { certificate: cert, key } = await issueServing(context, authority, ["127.0.0.1"]);
  let faultOf: Parameters<FaultProxy["become"]>[0] = () => undefined;
  const proxy = await serveOnLoopback(
    (incoming, outgoing) => {
      const call = { at: performance.now(), method: incoming.method ?? "", path: incoming.url?.split("?")[0] ?? "" };
      const fault = faultOf(call);
      calls.push({ ...call, fault });
      const upstream = fault === undefined || fault.carriedOut === true ? passOn(target, agent, incoming) : undefined;
      if (fault === undefined) answer(upstream, outgoing);
      else void fail(fault, { incoming, outgoing, upstream });
    },
    { cert, key },
  );
  return {
    calls,
    become: (next) => {
      faultOf = next;
    },
    before: (kubeconfig) => {
      const path = `${kubeconfig}.proxied`;
      const base64 = (text: string): string => Buffer.from(text).toString("base64");
      const text = readFileSync(kubeconfig, "utf8").replace(target.url, proxy.url);
      writeFileSync(path, text.replace(base64(target.ca), base64(authority.certificate)), { mode: 0o600 });
      return path;
    },
    stop: async () => {
      await proxy.stop();
      agent.destroy();
    },
  };
}

type Upstream = ReturnType<typeof request>;

function passOn(target: Server, agent: Agent, incoming: IncomingMessage): Upstream {
  const url = new URL(incoming.url ?? "/", target.url);
  const headers = { ...incoming.headers, host: url.host };
  const upstream = request(url, { agent, method: incoming.method, headers });
  incoming.pipe(upstream);
  return upstream;
}

function answer(upstream: Upstream | undefined, outgoing: ServerResponse): void {
  outgoing.once("close", () => upstream?.destroy());
  upstream?.once("error", () => outgoing.destroy());
  upstream?.once("response", (reply) => {
    outgoing.writeHead(reply.statusCode ?? 502, reply.headers);
    reply.once("error", () => outgoing.destroy()).pipe(outgoing);
  });
}

interface Failing {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  readonly upstream: Upstream | undefined;
}

/** After the whole body, as a server does; and after the true answer, where there was one. */
async function fail(fault: Fault, { incoming, outgoing, upstream }: Failing): Promise<void> {
  await (upstream === undefined ? drained(incoming) : answered(upstream));
  const { status, retryAfter } = fault;
  const reason = REASONS[status];
  const body = { kind: "Status", apiVersion: "v1", status: "Failure", code: status, reason, message: "of the storm" };
  const headers = retryAfter === undefined ? {} : { "retry-after": String(retryAfter) };
  outgoing.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}

const drained = (incoming: IncomingMessage): Promise<unknown> =>
  new Promise((resolve) => incoming.once("end", resolve).once("close", resolve).resume());

const answered = (upstream: Upstream): Promise<unknown> =>
  new Promise((resolve) =>
    upstream.once("error", resolve).once("response", (reply) => reply.once("close", resolve).resume()),
  );
