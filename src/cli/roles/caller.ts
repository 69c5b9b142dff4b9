/**
 * Who may call the webhooks: with `admission.clientCa` only those with a certificate of that authority, and of them, with
 * `admission.clientName`, only that one may ask for admission. The extender shares the port and is called by another.
 */
import { readFileSync } from "node:fs";
import { createSecureContext, TLSSocket } from "node:tls";
import type { FastifyInstance } from "fastify";
import type { Config } from "../../config/schema.ts";
import { UsageError } from "../input.ts";

/** Options of a TLS server; `ca` belongs to every context it is given later too. */
export interface CallerTls {
  readonly ca?: string;
  readonly requestCert?: true;
  readonly rejectUnauthorized?: true;
}

/** Throws a UsageError where the file is none, or `clientName` stands alone. */
export function callerTls({ admission: { clientCa, clientName } }: Config): CallerTls {
  if (clientCa === "") {
    if (clientName !== "") throw new UsageError("admission.clientName needs admission.clientCa");
    return {};
  }
  try {
    const ca = readFileSync(clientCa, "utf8");
    createSecureContext({ ca });
    if (!ca.includes("BEGIN CERTIFICATE")) throw new Error("no certificate in it");
    return { ca, requestCert: true, rejectUnauthorized: true };
  } catch (error) {
    throw new UsageError(`admission.clientCa ${clientCa}: ${(error as Error).message}`);
  }
}

/** Refuses callers of another name with 403, before their body is read. */
export function checkCallerName(app: FastifyInstance, { admission: { clientName } }: Config): void {
  if (clientName === "") return;
  app.addHook("onRequest", (request, reply, next) => {
    const socket: unknown = request.raw.socket;
    const name = socket instanceof TLSSocket ? commonName(socket) : undefined;
    if (!request.url.startsWith("/admission/") || name === clientName) next();
    else void reply.code(403).header("connection", "close").send({ error: "not the configured caller" });
  });
}

/** A certificate may carry several common names, or none. */
function commonName(socket: TLSSocket): string | undefined {
  const { subject } = socket.getPeerCertificate() as { subject?: { CN?: unknown } };
  return typeof subject?.CN === "string" ? subject.CN : undefined;
}
