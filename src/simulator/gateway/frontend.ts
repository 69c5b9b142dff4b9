/**
 * What stands in front of the router in the demo: a real Envoy with the shipped configuration where `ENVOY_BIN` or the
 * PATH has one, else the small gateway.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { adaptEnvoyConfig } from "./envoy-config.ts";
import { startGateway } from "./server.ts";

export interface Frontend {
  readonly name: string;
  readonly url: string;
  readonly stop: () => Promise<void>;
}

export interface FrontendOptions {
  /** `ip:port` of ext_proc. */
  readonly router: string;
  /** `ip:port` of each decode engine. */
  readonly decode: readonly string[];
  /** Environment of the process. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Path of the shipped Envoy configuration. */
  readonly shippedConfig: string;
}

export async function startFrontend(options: FrontendOptions): Promise<Frontend> {
  const envoy = findEnvoy(options.environment);
  if (envoy !== undefined) return startEnvoy(envoy, options);
  return {
    ...(await startGateway(options.router)),
    name: "a stand-in for Envoy",
  };
}

/** Path of an Envoy, if there is one. */
function findEnvoy(environment: FrontendOptions["environment"]): string | undefined {
  const given = environment["ENVOY_BIN"] ?? "";
  const onPath = (environment["PATH"] ?? "").split(delimiter).map((folder) => join(folder, "envoy"));
  return [given, ...onPath].find((path) => path.endsWith("envoy") && existsSync(path));
}

async function startEnvoy(binary: string, options: FrontendOptions): Promise<Frontend> {
  const folder = mkdtempSync(join(tmpdir(), "tandem-demo-"));
  const [listener, admin] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const text = readFileSync(options.shippedConfig, "utf8");
  const decode = { addresses: options.decode };
  writeFileSync(
    join(folder, "envoy.json"),
    JSON.stringify(adaptEnvoyConfig(text, { listener, admin, router: options.router, decode })),
  );
  const args = [
    "-c",
    join(folder, "envoy.json"),
    "--concurrency",
    "2",
    "--use-dynamic-base-id",
    "--log-level",
    "error",
  ];
  const child = spawn(binary, args, { stdio: ["ignore", "ignore", "inherit"] });
  const stop = async (): Promise<void> => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  await untilReady(`http://${admin}/ready`, child);
  return { name: "Envoy", url: `http://${listener}`, stop };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await gone;
}

const READY_TRIES = 100;
const READY_WAIT_MS = 100;

async function untilReady(url: string, child: ChildProcess): Promise<void> {
  for (let tries = 0; tries < READY_TRIES; tries++) {
    if (child.exitCode !== null) throw new Error(`Envoy ended with ${child.exitCode}`);
    const ok = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return;
    await sleep(READY_WAIT_MS);
  }
  await end(child);
  throw new Error("Envoy was not ready within 10 s");
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
