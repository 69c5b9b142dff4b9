/**
 * TLS of the ext_proc server, from its configuration: the certificate that proxies see, and who may be a proxy.
 */
import { createSecureContext } from "node:tls";
import type { Config } from "../../config/schema.ts";
import type { Cancel } from "../../ports.ts";
import type { Tls } from "../../router/http2/server.ts";
import { UsageError } from "../input.ts";
import { fileOf, reread } from "./files.ts";
import type { RolePorts } from "./ports.ts";

export interface ProxyTlsSource {
  /** Without `tls`: plain text. */
  readonly current: () => { readonly tls?: Tls };
  readonly onChange: (listener: (tls: Tls) => void) => Cancel;
}

type TlsConfig = Config["router"]["tls"];

/** Throws a UsageError where files are missing, contradict one another, or hold not what they should. */
export function proxyTls(ports: RolePorts): ProxyTlsSource {
  const { tls } = ports.config.router;
  const { certFile, keyFile, clientCaFile } = tls;
  if ((certFile === "") !== (keyFile === "")) throw new UsageError("router.tls: certFile and keyFile belong together");
  if (certFile === "" && clientCaFile !== "")
    throw new UsageError("router.tls.clientCaFile needs certFile and keyFile");
  if (certFile === "") return { current: () => ({}), onChange: () => () => undefined };
  const { current, onChange } = reread("certificate of ext_proc", () => tlsOf(tls), ports);
  return { current: () => ({ tls: current() }), onChange };
}

function tlsOf({ certFile, keyFile, clientCaFile }: TlsConfig): Tls {
  const certificate = fileOf("router.tls.certFile", certFile);
  // The pair is looked at as one: half of a renewed pair is kept out until the other half is here.
  const key = fileOf("router.tls.keyFile", keyFile, (text) => {
    createSecureContext({ cert: certificate, key: text });
    return text;
  });
  const pair = { certificate, key };
  return clientCaFile === ""
    ? { pair }
    : { pair, clientCa: fileOf("router.tls.clientCaFile", clientCaFile, checkedCa) };
}

function checkedCa(text: string): string {
  createSecureContext({ ca: text });
  // Of an empty list OpenSSL makes no error, and nobody would be let in.
  if (!text.includes("BEGIN CERTIFICATE")) throw new Error("no certificate in it");
  return text;
}
