/** An engine behind TLS that tells what it was asked with: client certificate, headers, body. */
import { createServer, type Server } from "node:https";
import type { IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { TLSSocket } from "node:tls";
import { text } from "node:stream/consumers";
import type { KeyedCertificate } from "../../src/certs/issue.ts";

export interface SecureCall {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
  /** Common name of the caller's certificate; empty where it showed none. */
  readonly caller: string;
}

export interface SecureEngine {
  readonly address: string;
  readonly calls: readonly SecureCall[];
  /** With what it answers from now on. */
  reply: (call: SecureCall) => { readonly status: number; readonly body: string };
  /** Serves with another certificate from the next connection on. */
  secure(pair: KeyedCertificate): void;
  stop(): Promise<void>;
}

export interface SecureEngineOptions {
  readonly pair: KeyedCertificate;
  /** PEM: callers need a certificate of it. */
  readonly clientCa?: string;
}

function callerOf(socket: unknown): string {
  const given = socket instanceof TLSSocket ? (socket.getPeerCertificate() as { subject?: { CN?: string } }) : {};
  return given.subject?.CN ?? "";
}

const contextOf = ({ certificate: cert, key }: KeyedCertificate): { cert: string; key: string } => ({ cert, key });

export async function startSecureEngine({ pair, clientCa }: SecureEngineOptions): Promise<SecureEngine> {
  const asked: SecureCall[] = [];
  const mutual = clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  const server: Server = createServer({ ...contextOf(pair), ...mutual }, (request, response) => {
    void text(request).then((body) => {
      const { method = "", url: path = "", headers } = request;
      const call = { method, path, headers, body, caller: callerOf(request.socket) };
      asked.push(call);
      const { status, body: answer } = engine.reply(call);
      response.writeHead(status, { "content-type": "application/json" }).end(answer);
    });
  });
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const engine: SecureEngine = {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls: asked,
    reply: () => ({ status: 200, body: "{}" }),
    secure: (next) =>
      server.setSecureContext({ ...contextOf(next), ...(clientCa === undefined ? {} : { ca: clientCa }) }),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return engine;
}
