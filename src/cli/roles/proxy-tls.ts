/**
 * TLS of the ext_proc server, from its configuration: the certificate that proxies see, and who may be a proxy. Files
 * are read again, so that a rotated Secret needs no restart; what cannot be read leaves the last that could.
 */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { Config } from "../../config/schema.ts";
import type { Cancel } from "../../ports.ts";
import type { Tls } from "../../router/http2/server.ts";
import { UsageError } from "../input.ts";
import type { RolePorts } from "./ports.ts";

export interface ProxyTlsSource {
  /** Without `tls`: plain text. */
  readonly current: () => { readonly tls?: Tls };
  readonly onChange: (listener: (tls: Tls) => void) => Cancel;
}

/** Kubelet renews a mounted Secret within a minute or two; three small files cost less than a millisecond. */
export const REREAD_MS = 10_000;

type TlsConfig = Config["router"]["tls"];

/** Throws a UsageError where files are missing, contradict one another, or hold not what they should. */
export function proxyTls({ config: { router }, timers, log }: RolePorts): ProxyTlsSource {
  const { certFile, keyFile, clientCaFile } = router.tls;
  if ((certFile === "") !== (keyFile === "")) throw new UsageError("router.tls: certFile and keyFile belong together");
  if (certFile === "" && clientCaFile !== "")
    throw new UsageError("router.tls.clientCaFile needs certFile and keyFile");
  if (certFile === "") return { current: () => ({}), onChange: () => () => undefined };
  let tls = tlsOf(router.tls);
  return {
    current: () => ({ tls }),
    onChange: (listener) =>
      timers.every(REREAD_MS, () => {
        try {
          const next = tlsOf(router.tls);
          if (JSON.stringify(next) === JSON.stringify(tls)) return;
          tls = next;
          listener(next);
          log.info("certificate of ext_proc renewed");
        } catch (error) {
          // Names a file and what is wrong with it, never what stands in it.
          log.error("certificate of ext_proc not renewed", { error: (error as Error).message });
        }
      }),
  };
}

function tlsOf({ certFile, keyFile, clientCaFile }: TlsConfig): Tls {
  const certificate = read("certFile", certFile);
  const key = read("keyFile", keyFile);
  // The pair is looked at as one: half of a renewed pair is kept out until the other half is here.
  check(`router.tls.keyFile ${keyFile}`, { cert: certificate, key });
  const pair = { certificate, key };
  if (clientCaFile === "") return { pair };
  const clientCa = read("clientCaFile", clientCaFile);
  check(`router.tls.clientCaFile ${clientCaFile}`, { ca: clientCa });
  // Of an empty list OpenSSL makes no error, and nobody would be let in.
  if (!clientCa.includes("BEGIN CERTIFICATE"))
    throw new UsageError(`router.tls.clientCaFile ${clientCaFile}: no certificate in it`);
  return { pair, clientCa };
}

function read(key: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`router.tls.${key} ${file}: ${(error as Error).message}`);
  }
}

function check(what: string, context: { cert?: string; key?: string; ca?: string }): void {
  try {
    createSecureContext(context);
  } catch (error) {
    throw new UsageError(`${what}: ${(error as Error).message}`);
  }
}
