/**
 * A real Envoy on loopback, from the configurations that users get (`manifests/envoy`): the same listener, filters and
 * clusters, with ports, addresses and discovery of the test put in.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { answers } from "./components.ts";
import { envoyBinary, type EnvoyVersion } from "./envoy-binary.ts";
import { REPOSITORY } from "./paths.ts";
import { freePorts, ready, startProcess, temporaryFolder } from "./process.ts";

export type EnvoyProfile = "light" | "exact";
export type BodyMode = "FULL_DUPLEX_STREAMED" | "BUFFERED" | "BUFFERED_PARTIAL" | "STREAMED" | "NONE";

export interface EnvoyOptions {
  /** Default light. */
  readonly profile?: EnvoyProfile;
  /** Mode of the request body; default as in the file. */
  readonly bodyMode?: BodyMode;
  /** `ip:port` of the router. */
  readonly extProcAddress: string;
  /** `ip:port` of each decode engine. */
  readonly decodeEndpoints: readonly string[];
  /** Without the ext_proc filter, for comparison. */
  readonly plain?: boolean;
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

/** The parts of an Envoy configuration that the harness changes. */
interface EnvoyConfig {
  admin: { address: object };
  node?: object;
  static_resources: {
    listeners: [{ address: object; per_connection_buffer_limit_bytes: number; filter_chains: [FilterChain] }];
    clusters: Cluster[];
  };
}
interface FilterChain {
  filters: [{ typed_config: { http_filters: { name: string; typed_config: ExtProc }[] } }];
}
interface ExtProc {
  processing_mode: Record<string, string>;
}
interface Cluster {
  name: string;
  type?: string;
  cluster_type?: object;
  load_assignment?: object;
  eds_cluster_config?: object;
}

const DECODE = "tandem_decode";
const ROUTER = "tandem_router";
const EXT_PROC = "envoy.filters.http.ext_proc";

/** A shipped configuration as users get it. */
export const shippedConfig = (profile: EnvoyProfile): EnvoyConfig =>
  parse(readFileSync(join(REPOSITORY, "manifests", "envoy", `${profile}.yaml`), "utf8"), {
    merge: true,
  }) as EnvoyConfig;

const socketAddress = (address: string): object => {
  const at = address.lastIndexOf(":");
  return { socket_address: { address: address.slice(0, at), port_value: Number(address.slice(at + 1)) } };
};

const assignment = (name: string, addresses: readonly string[]): object => ({
  cluster_name: name,
  endpoints: [{ lb_endpoints: addresses.map((address) => ({ endpoint: { address: socketAddress(address) } })) }],
});

export interface Ports {
  readonly listener: number;
  readonly admin: number;
}

/** The shipped configuration with the test's ports, router, mode, and decode endpoints read from `endpointsFile`. */
export function envoyConfig(options: EnvoyOptions, ports: Ports, endpointsFile: string): EnvoyConfig {
  const config = shippedConfig(options.profile ?? "light");
  const [listener] = config.static_resources.listeners;
  listener.address = socketAddress(`127.0.0.1:${ports.listener}`);
  config.admin.address = socketAddress(`127.0.0.1:${ports.admin}`);
  config.node = { id: "e2e", cluster: "e2e" };
  if (options.bufferLimitBytes !== undefined) listener.per_connection_buffer_limit_bytes = options.bufferLimitBytes;
  changeFilters(listener.filter_chains[0], options);
  for (const cluster of config.static_resources.clusters) changeCluster(cluster, options, endpointsFile);
  return config;
}

function changeFilters(chain: FilterChain, options: EnvoyOptions): void {
  const manager = chain.filters[0].typed_config;
  const extProc = manager.http_filters.find(({ name }) => name === EXT_PROC);
  if (extProc === undefined) throw new Error(`the shipped configuration has no ${EXT_PROC}`);
  if (options.bodyMode !== undefined) extProc.typed_config.processing_mode["request_body_mode"] = options.bodyMode;
  if (options.plain === true) manager.http_filters = manager.http_filters.filter(({ name }) => name !== EXT_PROC);
}

function changeCluster(cluster: Cluster, options: EnvoyOptions, endpointsFile: string): void {
  delete cluster.cluster_type;
  if (cluster.name === ROUTER) {
    cluster.type = "STATIC";
    cluster.load_assignment = assignment(ROUTER, [options.extProcAddress]);
    return;
  }
  cluster.type = "EDS";
  delete cluster.load_assignment;
  const source = { path_config_source: { path: endpointsFile }, resource_api_version: "V3" };
  cluster.eds_cluster_config = { service_name: DECODE, eds_config: source };
}

/** Envoy reads the file again when another is moved over it. */
function writeEndpoints(file: string, addresses: readonly string[], version: number): void {
  const type = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
  const resources = [{ "@type": type, ...assignment(DECODE, addresses) }];
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
  const members = `cluster\\.${DECODE}\\.membership_total`;
  const taken = `cluster\\.${DECODE}\\.update_success`;
  try {
    await ready(process, () => answers(`${adminUrl}/ready`));
    await ready(process, async () => (await statOf(adminUrl, members)) === options.decodeEndpoints.length);
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
