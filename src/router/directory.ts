/** The endpoints that exist, with what their engines say of themselves: the router's view of the world. */
import type { Endpoint, EngineStats } from "../kinds/endpoint.ts";
import { handsOver, prefillsAlone } from "./disagg/connectors.ts";

export interface KnownEndpoint {
  readonly endpoint: Endpoint;
  readonly stats: EngineStats | undefined;
}

export interface Directory {
  /** All endpoints; the same array until something changes. */
  list(): readonly KnownEndpoint[];
}

export interface Fleet {
  /** False where no endpoint, ready or not, serves the model. */
  readonly modelKnown: boolean;
  /** Served by tenants apart, and nobody says whose it is: prompts of one must not reach another. */
  readonly ambiguous: boolean;
  readonly prefill: readonly KnownEndpoint[];
  /** Roles decode and both. */
  readonly decode: readonly KnownEndpoint[];
}

/** The endpoints, of one namespace, that may serve a model now, as far as the legs of their connectors can be run. */
export function fleetOf(known: readonly KnownEndpoint[], model: string, namespace?: string): Fleet {
  const serving = within(known, namespace).filter(({ endpoint }) => endpoint.models.includes(model));
  const fit = serving.filter(({ endpoint }) => endpoint.ready && !endpoint.draining);
  return {
    modelKnown: serving.length > 0,
    ambiguous: new Set(serving.map(({ endpoint }) => endpoint.namespace)).size > 1,
    prefill: fit.filter(({ endpoint }) => endpoint.role === "prefill" && handsOver(endpoint)),
    decode: fit.filter(({ endpoint }) => endpoint.role !== "prefill" && prefillsAlone(endpoint)),
  };
}

const within = (known: readonly KnownEndpoint[], namespace: string | undefined): readonly KnownEndpoint[] =>
  namespace === undefined ? known : known.filter(({ endpoint }) => endpoint.namespace === namespace);

/** Every model name that some endpoint, of the namespace if one is given, serves; sorted. */
export const modelsOf = (known: readonly KnownEndpoint[], namespace?: string): string[] =>
  [...new Set(within(known, namespace).flatMap(({ endpoint }) => endpoint.models))].sort();
