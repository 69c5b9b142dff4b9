/**
 * How the router reaches engines, from its configuration: TLS with an authority and a certificate of its own, a token.
 * Files are read again, so that a rotated Secret needs no restart; what cannot be read leaves the last that could.
 */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { Config } from "../../config/schema.ts";
import type { Cancel } from "../../ports.ts";
import type { EngineAccess, EngineTls } from "../../router/disagg/client.ts";
import { mayGoAlong } from "../../router/disagg/headers.ts";
import { UsageError } from "../input.ts";
import type { RolePorts } from "./ports.ts";

export interface EngineAccessSource {
  readonly current: () => EngineAccess;
  readonly onChange: (listener: (access: EngineAccess) => void) => Cancel;
}

type EngineConfig = Config["router"]["engine"];

/** Kubelet renews a mounted Secret within a minute or two; four small files cost less than a millisecond. */
const REREAD_MS = 10_000;
/** A JWT has a few kilobytes; Node takes 16 KiB of headers in all. */
const MAX_TOKEN = 8192;

/** Throws a UsageError where the configuration contradicts itself, or a file holds not what it should. */
export function engineAccess({ config: { router }, timers, log }: RolePorts): EngineAccessSource {
  checkLegHeaders(router.prefill.headers);
  checkEngine(router.engine);
  let access = accessOf(router.engine);
  return {
    current: () => access,
    onChange: (listener) =>
      timers.every(REREAD_MS, () => {
        try {
          const next = accessOf(router.engine);
          if (JSON.stringify(next) === JSON.stringify(access)) return;
          access = next;
          listener(next);
          log.info("credentials towards engines renewed");
        } catch (error) {
          // Names a file and what is wrong with it, never what stands in it.
          log.error("credentials towards engines not renewed", { error: (error as Error).message });
        }
      }),
  };
}

function checkLegHeaders(names: readonly string[]): void {
  const wrong = names.find((name) => !mayGoAlong(name));
  if (wrong !== undefined)
    throw new UsageError(`router.prefill.headers: ${wrong} routes or frames a request, and never goes along`);
}

function checkEngine({ scheme, caFile, serverName, certFile, keyFile, tokenHeader }: EngineConfig): void {
  if ((certFile === "") !== (keyFile === ""))
    throw new UsageError("router.engine: certFile and keyFile belong together");
  if (scheme === "http" && [caFile, serverName, certFile].some((each) => each !== ""))
    throw new UsageError("router.engine: caFile, serverName and certFile need scheme: https");
  if (!mayGoAlong(tokenHeader))
    throw new UsageError(`router.engine.tokenHeader: ${tokenHeader} routes or frames a request`);
}

function accessOf(config: EngineConfig): EngineAccess {
  const { tokenFile, tokenHeader } = config;
  const token = tokenFile === "" ? undefined : read("tokenFile", tokenFile, checkedToken);
  return {
    ...(config.scheme === "https" ? { tls: tlsOf(config) } : {}),
    ...(token === undefined
      ? {}
      : { credential: [tokenHeader, tokenHeader === "authorization" ? `Bearer ${token}` : token] as const }),
  };
}

function tlsOf({ caFile, serverName, certFile, keyFile }: EngineConfig): EngineTls {
  const ca = caFile === "" ? undefined : read("caFile", caFile, (text) => checkedPem({ ca: text }, text));
  const certificate = certFile === "" ? undefined : read("certFile", certFile, (text) => text);
  // The pair is looked at as one: half of a renewed pair is kept out until the other half is here.
  const key = certificate && read("keyFile", keyFile, (text) => checkedPem({ cert: certificate, key: text }, text));
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(serverName === "" ? {} : { serverName }),
    ...(certificate === undefined || key === undefined ? {} : { certificate, key }),
  };
}

function read(key: string, file: string, check: (text: string) => string): string {
  try {
    return check(readFileSync(file, "utf8"));
  } catch (error) {
    throw new UsageError(`router.engine.${key} ${file}: ${(error as Error).message}`);
  }
}

function checkedPem(context: object, text: string): string {
  createSecureContext(context);
  if (!text.includes("-----BEGIN ")) throw new Error("no PEM in it");
  return text;
}

/** As it may stand in a header: printable, in one line. */
function checkedToken(text: string): string {
  const token = text.trim();
  if (token === "") throw new Error("it is empty");
  if (token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token))
    throw new Error(`no token: one line of at most ${MAX_TOKEN} printable characters, without blanks`);
  return token;
}
