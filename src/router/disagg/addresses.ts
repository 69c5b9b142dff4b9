/** Addresses of endpoints in the forms that bodies and calls want. */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { legsOf } from "../../profiles/connectors.ts";

/** The host of `ip:port`; IPv6 stays in brackets, as both engines' own proxies write it. */
export const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(":"));

/** The host as a socket takes it. */
export const bareHost = (address: string): string => hostOf(address).replace(/^\[|\]$/g, "");

export const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(":") + 1));

/** First port of the endpoint's connector: its own word, else the connector's default. */
export const connectorPort = ({ kvPort, compatibility: { connector, engine } }: Endpoint): number =>
  kvPort ?? legsOf(connector, engine)?.port ?? 0;
