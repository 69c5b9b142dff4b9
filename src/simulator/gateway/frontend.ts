/**
 * What stands in front of the router in the demo: a real Envoy with the shipped configuration where `ENVOY_BIN` or the
 * PATH has one, else the small gateway.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

// Envoy takes ports that are free and says which: one found here first could be another's by then.
const ANY_PORT = "127.0.0.1:0";

async function startEnvoy(binary: string, options: FrontendOptions): Promise<Frontend> {
  const folder = mkdtempSync(join(tmpdir(), "tandem-demo-"));
  const [config, adminFile] = [join(folder, "envoy.json"), join(folder, "admin")];
  const text = readFileSync(options.shippedConfig, "utf8");
  const decode = { addresses: options.decode };
  const changes = { listener: ANY_PORT, admin: ANY_PORT, router: options.router, decode };
  writeFileSync(config, JSON.stringify(adaptEnvoyConfig(text, changes)));
  const settings = ["--concurrency", "2", "--use-dynamic-base-id", "--log-level", "error"];
  const args = ["-c", config, "--admin-address-path", adminFile, ...settings];
  const child = spawn(binary, args, { stdio: ["ignore", "ignore", "inherit"] });
  const stop = async (): Promise<void> => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  return { name: "Envoy", url: `http://${await readyListener(adminFile, child)}`, stop };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await gone;
}

const READY_TRIES = 100;
const READY_WAIT_MS = 100;

/** `ip:port` of its listener, once it is ready. */
async function readyListener(adminFile: string, child: ChildProcess): Promise<string> {
  for (let tries = 0; tries < READY_TRIES; tries++) {
    if (child.exitCode !== null) throw new Error(`Envoy ended with ${child.exitCode}`);
    const listener = await listenerOf(adminFile).catch(() => undefined);
    if (listener !== undefined) return listener;
    await sleep(READY_WAIT_MS);
  }
  await end(child);
  throw new Error("Envoy was not ready within 10 s");
}

interface Listeners {
  readonly listener_statuses?: { local_address: { socket_address: { address: string; port_value: number } } }[];
}

async function listenerOf(adminFile: string): Promise<string | undefined> {
  const admin = `http://${readFileSync(adminFile, "utf8").trim()}`;
  if (!(await fetch(`${admin}/ready`)).ok) return undefined;
  const listeners = (await (await fetch(`${admin}/listeners?format=json`)).json()) as Listeners;
  const at = listeners.listener_statuses?.[0]?.local_address.socket_address;
  return at === undefined ? undefined : `${at.address}:${at.port_value}`;
}
