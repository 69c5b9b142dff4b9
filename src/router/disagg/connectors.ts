/**
 * What the connector of an endpoint asks of the router: the order of the legs, their wire, and which endpoints can do
 * without a prefill leg.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { legsOf, prefillsAlone as computesPrompts, type Legs } from "../../profiles/connectors.ts";
import type { RequestFacts } from "../request/facts.ts";
import { WIRES, type WireRules } from "./wires.ts";

/** True where the legs of the endpoint's connector can be run. */
export const handsOver = ({ compatibility: { connector, engine } }: Endpoint): boolean =>
  legsOf(connector, engine) !== undefined;

/** SGLang's decode mode waits for a bootstrap room and computes no prompt by itself. */
export const prefillsAlone = ({ role, compatibility: { connector, engine } }: Endpoint): boolean =>
  role !== "decode" || computesPrompts(connector, engine);

/** How the router hands a request over between two endpoints: it runs the prefill leg, or names it to a sidecar. */
export const orderOf = (prefill: Endpoint, decode: Endpoint): Legs | "sidecar" | undefined =>
  decode.prefillRunner === "sidecar"
    ? "sidecar"
    : legsOf(prefill.compatibility.connector, prefill.compatibility.engine)?.legs;

/** The wire of an endpoint's connector. */
export const wireOf = ({ compatibility: { connector, engine } }: Endpoint): WireRules | undefined => {
  const legs = legsOf(connector, engine);
  return legs === undefined ? undefined : WIRES[legs.wire];
};

/** Milliseconds after which an engine frees prefilled blocks that nobody fetched. */
export const leaseOf = ({ compatibility: { connector, engine } }: Endpoint): number =>
  legsOf(connector, engine)?.leaseMs ?? 0;

/** Whether a request can be served in two legs with prefill on this endpoint. `calledBack`: decode can reach the router. */
export function splits(facts: RequestFacts, prefill: Endpoint, calledBack: boolean): boolean {
  const legs = legsOf(prefill.compatibility.connector, prefill.compatibility.engine);
  if (legs === undefined || (legs.legs === "decode-first" && !calledBack)) return false;
  return WIRES[legs.wire].takes(facts);
}
