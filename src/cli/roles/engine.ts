/**
 * How the router reaches engines, from its configuration: TLS with an authority and a certificate of its own, a token.
 */
import { createSecureContext } from "node:tls";
import type { Config } from "../../config/schema.ts";
import type { EngineAccess, EngineTls } from "../../router/disagg/client.ts";
import { mayGoAlong } from "../../router/disagg/headers.ts";
import { UsageError } from "../input.ts";
import { fileOf, reread, type Reread } from "./files.ts";
import type { RolePorts } from "./ports.ts";

export type EngineAccessSource = Reread<EngineAccess>;

type EngineConfig = Config["router"]["engine"];

/** A JWT has a few kilobytes; Node takes 16 KiB of headers in all. */
const MAX_TOKEN = 8192;

/** Throws a UsageError where the configuration contradicts itself, or a file holds not what it should. */
export function engineAccess(ports: RolePorts): EngineAccessSource {
  const { prefill, engine } = ports.config.router;
  checkLegHeaders(prefill.headers);
  checkEngine(engine);
  return reread("credentials towards engines", () => accessOf(engine), ports);
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
  const token = tokenFile === "" ? undefined : fileOf("router.engine.tokenFile", tokenFile, checkedToken);
  return {
    ...(config.scheme === "https" ? { tls: tlsOf(config) } : {}),
    ...(token === undefined
      ? {}
      : { credential: [tokenHeader, tokenHeader === "authorization" ? `Bearer ${token}` : token] as const }),
  };
}

function tlsOf({ caFile, serverName, certFile, keyFile }: EngineConfig): EngineTls {
  const ca =
    caFile === "" ? undefined : fileOf("router.engine.caFile", caFile, (text) => checkedPem({ ca: text }, text));
  const certificate = certFile === "" ? undefined : fileOf("router.engine.certFile", certFile);
  // The pair is looked at as one: half of a renewed pair is kept out until the other half is here.
  const key =
    certificate &&
    fileOf("router.engine.keyFile", keyFile, (text) => checkedPem({ cert: certificate, key: text }, text));
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(serverName === "" ? {} : { serverName }),
    ...(certificate === undefined || key === undefined ? {} : { certificate, key }),
  };
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
