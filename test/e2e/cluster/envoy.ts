/**
 * A real Envoy on loopback, from the configurations that users get (`manifests/envoy`): the same listener, filters and
 * clusters, with ports, addresses and discovery of the test put in.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  adaptEnvoyConfig,
  decodeAssignment,
  parseEnvoyConfig,
  type EnvoyConfig,
} from "../../../src/simulator/gateway/envoy-config.ts";
import { answers } from "./components.ts";
import { envoyBinary, type EnvoyVersion } from "./envoy-binary.ts";
import { REPOSITORY } from "./paths.ts";
import { ready, startProcess, temporaryFolder } from "./process.ts";

/** File names in `manifests/envoy`, without their ending. */
export const ENVOY_PROFILES = ["light", "exact", "original-dst", "fail-open"] as const;
export type EnvoyProfile = (typeof ENVOY_PROFILES)[number];
import type { BodyMode } from "../../../src/router/extproc/codec.ts";
import { freePorts } from "../../support/ports.ts";

export type { BodyMode };

export interface EnvoyOptions {
  /** Default light. */
  readonly profile?: EnvoyProfile;
  /** Mode of the request body; default as in the file. */
  readonly bodyMode?: BodyMode;
  /** `ip:port` of the router. */
  readonly extProcAddress: string;
  /** `ip:port` of its health service; default: not checked. */
  readonly routerHealth?: string;
  /** `ip:port` of each decode engine. */
  readonly decodeEndpoints: readonly string[];
  /** Further settings of the ext_proc filter. */
  readonly extProc?: Readonly<Record<string, unknown>>;
  /** Without the ext_proc filter, for comparison. */
  readonly plain?: boolean;
  /** Without the removal of clients' routing headers, to see what the router removes. */
  readonly believing?: boolean;
  /** Listener's buffer limit; default as in the file. */
  readonly bufferLimitBytes?: number;
  readonly version?: EnvoyVersion;
}

export interface Envoy {
  /** As `http://127.0.0.1:PORT`. */
  readonly url: string;
  readonly adminUrl: string;
  readonly log: string;
  /** Replaces the decode endpoints; resolves when Envoy has taken them. */
  setEndpoints(addresses: readonly string[]): Promise<void>;
  /** Value of a counter or gauge; 0 where it does not exist. */
  stat(name: string): Promise<number>;
  /** The end of its log. */
  tail(): string;
  stop(): Promise<void>;
}

const shippedText = (profile: EnvoyProfile): string =>
  readFileSync(join(REPOSITORY, "manifests", "envoy", `${profile}.yaml`), "utf8");

/** A shipped configuration as users get it. */
export const shippedConfig = (profile: EnvoyProfile): EnvoyConfig => parseEnvoyConfig(shippedText(profile));

export interface Ports {
  readonly listener: number;
  readonly admin: number;
}

/** The shipped configuration with the test's ports, router, mode, and decode endpoints read from `endpointsFile`. */
export const envoyConfig = (options: EnvoyOptions, ports: Ports, endpointsFile: string): EnvoyConfig =>
  adaptEnvoyConfig(shippedText(options.profile ?? "light"), {
    ...options,
    listener: `127.0.0.1:${ports.listener}`,
    admin: `127.0.0.1:${ports.admin}`,
    router: options.extProcAddress,
    decode: { file: endpointsFile },
  });

/** Envoy reads the file again when another is moved over it. */
function writeEndpoints(file: string, addresses: readonly string[], version: number): void {
  const resources = [decodeAssignment(addresses)];
  writeFileSync(`${file}.new`, JSON.stringify({ version_info: String(version), resources }));
  renameSync(`${file}.new`, file);
}

async function statOf(adminUrl: string, name: string): Promise<number> {
  const text = await (await fetch(`${adminUrl}/stats?filter=${encodeURIComponent(`^${name}$`)}`)).text();
  return Number(text.trim().split(": ")[1] ?? "0");
}

export async function startEnvoy(options: EnvoyOptions): Promise<Envoy> {
  const command = await envoyBinary(options.version);
  const { folder, remove } = temporaryFolder("tandem-envoy-");
  const [listener = 0, admin = 0] = await freePorts(2);
  const [file, endpoints] = [join(folder, "envoy.json"), join(folder, "endpoints.json")];
  let version = 1;
  writeEndpoints(endpoints, options.decodeEndpoints, version);
  writeFileSync(file, JSON.stringify(envoyConfig(options, { listener, admin }, endpoints), undefined, 2));
  const args = ["-c", file, "--concurrency", "2", "--use-dynamic-base-id", "--log-level", "warning"];
  const process = startProcess({ name: "envoy", command, args, folder });
  const adminUrl = `http://127.0.0.1:${admin}`;
  const stop = async (): Promise<void> => {
    await process.stop();
    remove();
  };
  const listed = options.profile !== "original-dst";
  const members = `cluster\\.tandem_decode\\.membership_total`;
  const taken = `cluster\\.tandem_decode\\.update_success`;
  try {
    await ready(process, () => answers(`${adminUrl}/ready`));
    if (listed) await ready(process, async () => (await statOf(adminUrl, members)) === options.decodeEndpoints.length);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `http://127.0.0.1:${listener}`,
    adminUrl,
    log: process.log,
    setEndpoints: async (addresses) => {
      const before = await statOf(adminUrl, taken);
      version += 1;
      writeEndpoints(endpoints, addresses, version);
      await ready(process, async () => (await statOf(adminUrl, taken)) > before);
    },
    stat: (name) => statOf(adminUrl, name.replaceAll(".", "\\.")),
    tail: () => process.tail(),
    stop,
  };
}
