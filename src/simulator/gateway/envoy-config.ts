/**
 * A shipped Envoy configuration (`manifests/envoy`) with the addresses of one machine put in: the same listener,
 * filters and clusters that users get. For the demo and the end-to-end tests.
 */
import { parse } from "yaml";
import type { BodyMode } from "../../router/extproc/codec.ts";

/** Addresses are `ip:port`; several replicas of the router with commas, each with its health service. */
export interface EnvoyChanges {
  readonly listener: string;
  readonly admin: string;
  readonly router: string;
  /** The router's health service; default: Envoy does not check it. */
  readonly routerHealth?: string;
  /** Decode engines: fixed, or read from a file that Envoy watches. */
  readonly decode: { readonly addresses: readonly string[] } | { readonly file: string };
  /** Mode of the request body; default as shipped. */
  readonly bodyMode?: BodyMode;
  /** Further settings of the ext_proc filter. */
  readonly extProc?: Readonly<Record<string, unknown>>;
  /** Without the ext_proc filter, for comparison. */
  readonly plain?: boolean;
  /** Clients' routing headers come as far as the filter: what the router removes by itself. */
  readonly believing?: boolean;
  readonly bufferLimitBytes?: number;
}

/** The parts that are changed. */
export interface EnvoyConfig {
  admin: { address: object };
  node?: object;
  static_resources: {
    listeners: [{ address: object; per_connection_buffer_limit_bytes: number; filter_chains: [FilterChain] }];
    clusters: Cluster[];
  };
}
interface FilterChain {
  filters: [{ typed_config: Manager }];
}
interface Manager {
  http_filters: { name: string; typed_config: ExtProc }[];
  early_header_mutation_extensions?: object;
}
interface ExtProc {
  processing_mode: Record<string, string>;
}
interface Cluster {
  name: string;
  type?: string;
  health_checks?: object;
  cluster_type?: object;
  load_assignment?: object;
  eds_cluster_config?: object;
}

const DECODE = "tandem_decode";
const ROUTER = "tandem_router";
const EXT_PROC = "envoy.filters.http.ext_proc";

export const parseEnvoyConfig = (text: string): EnvoyConfig => parse(text, { merge: true }) as EnvoyConfig;

export function adaptEnvoyConfig(text: string, changes: EnvoyChanges): EnvoyConfig {
  const config = parseEnvoyConfig(text);
  const [listener] = config.static_resources.listeners;
  listener.address = socketAddress(changes.listener);
  config.admin.address = socketAddress(changes.admin);
  config.node = { id: "tandem", cluster: "tandem" };
  if (changes.bufferLimitBytes !== undefined) listener.per_connection_buffer_limit_bytes = changes.bufferLimitBytes;
  changeFilters(listener.filter_chains[0], changes);
  for (const cluster of config.static_resources.clusters) changeCluster(cluster, changes);
  return config;
}

function changeFilters(chain: FilterChain, changes: EnvoyChanges): void {
  const manager = chain.filters[0].typed_config;
  const extProc = manager.http_filters.find(({ name }) => name === EXT_PROC);
  if (extProc === undefined) throw new Error(`the shipped configuration has no ${EXT_PROC}`);
  if (changes.bodyMode !== undefined) extProc.typed_config.processing_mode["request_body_mode"] = changes.bodyMode;
  Object.assign(extProc.typed_config, changes.extProc ?? {});
  if (changes.believing === true) delete manager.early_header_mutation_extensions;
  if (changes.plain === true) manager.http_filters = manager.http_filters.filter(({ name }) => name !== EXT_PROC);
}

function changeCluster(cluster: Cluster, changes: EnvoyChanges): void {
  // It has no list of engines: the router names them.
  if (cluster.type === "ORIGINAL_DST") return;
  delete cluster.cluster_type;
  delete cluster.load_assignment;
  if (cluster.name === ROUTER) makeRouter(cluster, changes);
  else if ("addresses" in changes.decode) makeStatic(cluster, changes.decode.addresses);
  else {
    cluster.type = "EDS";
    const source = { path_config_source: { path: changes.decode.file }, resource_api_version: "V3" };
    cluster.eds_cluster_config = { service_name: DECODE, eds_config: source };
  }
}

function makeRouter(cluster: Cluster, { router, routerHealth }: EnvoyChanges): void {
  if (routerHealth === undefined) delete cluster.health_checks;
  makeStatic(cluster, router.split(","), routerHealth?.split(","));
}

function makeStatic(cluster: Cluster, addresses: readonly string[], health?: readonly string[]): void {
  cluster.type = "STATIC";
  cluster.load_assignment = assignment(cluster.name, addresses, health);
}

const socketAddress = (address: string): object => {
  const at = address.lastIndexOf(":");
  return { socket_address: { address: address.slice(0, at), port_value: Number(address.slice(at + 1)) } };
};

function assignment(name: string, addresses: readonly string[], health: readonly string[] = []): object {
  const endpoints = addresses.map((address, index) => {
    const at = health[index];
    const checked = at === undefined ? {} : { health_check_config: { address: socketAddress(at) } };
    return { endpoint: { address: socketAddress(address), ...checked } };
  });
  return { cluster_name: name, endpoints: [{ lb_endpoints: endpoints }] };
}

/** What a watched file of decode engines holds. */
export const decodeAssignment = (addresses: readonly string[]): object => ({
  "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
  ...assignment(DECODE, addresses),
});
