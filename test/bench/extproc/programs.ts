/** The programs of the ext_proc benchmark: the peer and the load, built from their Go module; one run of each. */
import { createHash } from "node:crypto";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { cached } from "../../e2e/cluster/cache.ts";
import { MissingTool, step, versionOf } from "../../e2e/cluster/step.ts";
import { peerConfig, type Setting } from "./setting.ts";

export const STACKS = ["tandem", "grpc-go"] as const;
export type Stack = (typeof STACKS)[number];

const MODULE = join(import.meta.dirname, "..", "peers", "grpc-go");

/** Folder with the peer (`grpc-go`) and `load`, from the cache where their sources are the same. */
export async function buildPeer(): Promise<string> {
  const version = versionOf("go", ["env", "GOVERSION"]);
  if (version === undefined)
    throw new MissingTool("go is missing: the peer of the benchmark is a Go program. Install Go 1.24 or newer.");
  const hash = createHash("sha256").update(version);
  for (const file of globSync("**/*.{go,mod,sum}", { cwd: MODULE }).sort())
    hash.update(readFileSync(join(MODULE, file)));
  return cached(`bench-peer-${hash.digest("hex").slice(0, 16)}`, async (folder) => {
    await step(
      "building the grpc-go peer (cold: about 2 minutes on two cores)",
      ["go", "build", "-trimpath", "-buildvcs=false", "-o", `${folder}/`, ".", "./cmd/load"],
      { cwd: MODULE, env: { CGO_ENABLED: "0" } },
    );
  });
}

const CAN_PIN = availableParallelism() >= 2 && versionOf("taskset", ["--version"]) !== undefined;

/** Servers on the first core, the load on the second: neither takes the other's time. */
const pinned = (core: 0 | 1, command: readonly string[]): readonly [string, ...string[]] =>
  CAN_PIN ? ["taskset", "-c", String(core), ...command] : (command as [string, ...string[]]);

/** All threads of a process that runs. */
async function pin(core: 0 | 1, pid: number): Promise<void> {
  if (CAN_PIN) await promisify(execFile)("taskset", ["-a", "-p", "-c", String(core), String(pid)]);
}

export interface Server {
  readonly stack: Stack;
  readonly setting: Setting;
  readonly address: string;
  readonly pid: number;
  /** Number of the first request that it has not seen. */
  next: number;
  /** From now on prefill work expires with time. */
  expire(): void;
  stop(): Promise<void>;
}

/** Both, once their indexes are full: Tandem's is filled on the core where no load runs yet, and then joins the other. */
export async function startServers(setting: Setting, folder: string): Promise<Server[]> {
  const started = await Promise.allSettled(STACKS.map((stack) => startServer(stack, setting, folder)));
  const servers = started.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  const failed = started.find((each) => each.status === "rejected");
  if (failed !== undefined) {
    await Promise.all(servers.map((server) => server.stop()));
    throw failed.reason;
  }
  for (const server of servers) await pin(0, server.pid);
  return servers;
}

/** A server that answers: its index is full. */
async function startServer(stack: Stack, setting: Setting, folder: string): Promise<Server> {
  const tandem = [process.execPath, join(import.meta.dirname, "server.ts"), JSON.stringify(setting)];
  const peer = [join(folder, "grpc-go"), JSON.stringify(peerConfig(setting))];
  const [command, ...args] = stack === "tandem" ? pinned(1, tandem) : pinned(0, peer);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const [line] = (await Promise.race([once(createInterface({ input: child.stdout }), "line"), exited])) as [unknown];
  if (typeof line !== "string") throw new Error(`the ${stack} server ended before it served`);
  return {
    ...{ stack, setting, next: 0, pid: child.pid ?? 0 },
    address: (JSON.parse(line) as { address: string }).address,
    expire: () => void child.kill("SIGUSR2"),
    stop: async () => {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

/** One run of the load; what it prints. Requests are numbered on, so that no body comes twice. */
async function runLoad(folder: string, server: Server, flags: readonly string[]): Promise<Record<string, unknown>> {
  const { seed, endpoints, blocks, bodyBytes } = server.setting;
  const content = { seed, endpoints, blocks, "body-bytes": bodyBytes };
  const common = { target: server.address, pid: server.pid, first: server.next, ...content };
  const all = [...Object.entries(common).map(([name, value]) => `-${name}=${value}`), ...flags];
  const [command, ...args] = pinned(1, [join(folder, "load"), ...all]);
  const { stdout } = await promisify(execFile)(command, args, { timeout: 120_000 });
  const out = JSON.parse(stdout) as Record<string, unknown>;
  server.next = Number(out["next"]);
  return out;
}

export interface Picks {
  readonly checksum: string;
  /** Requests that went where their conversation was: 0 to 1. */
  readonly holderShare: number;
}

/** Where `requests` in order are sent. */
export async function picksOf(folder: string, server: Server, requests: number): Promise<Picks> {
  return (await runLoad(folder, server, [`-verify=${requests}`])) as unknown as Picks;
}

/** So many requests that nothing is measured of. */
export async function warmUp(folder: string, server: Server, requests: number): Promise<void> {
  await runLoad(folder, server, [`-count=${requests}`]);
}

export interface Run {
  readonly streams: number;
  readonly cpuMicrosPerStream: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly rssMiB: number;
}

export interface LoadShape {
  /** Streams a second; null: as many as the server takes. */
  readonly rate: number | null;
  readonly seconds: number;
}

/** One measured run, with a quarter of its time before it to warm up. */
export async function measure(folder: string, server: Server, { rate, seconds }: LoadShape): Promise<Run> {
  const flags = [`-duration=${seconds}s`, `-warmup=${seconds / 4}s`, ...(rate === null ? [] : [`-rate=${rate}`])];
  return (await runLoad(folder, server, flags)) as unknown as Run;
}
