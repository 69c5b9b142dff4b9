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
  readonly prefill: readonly KnownEndpoint[];
  /** Roles decode and both. */
  readonly decode: readonly KnownEndpoint[];
}

/** The endpoints that may serve a model now, as far as the legs of their connectors can be run. */
export function fleetOf(known: readonly KnownEndpoint[], model: string): Fleet {
  const serving = known.filter(({ endpoint }) => endpoint.models.includes(model));
  const fit = serving.filter(({ endpoint }) => endpoint.ready && !endpoint.draining);
  return {
    modelKnown: serving.length > 0,
    prefill: fit.filter(({ endpoint }) => endpoint.role === "prefill" && handsOver(endpoint)),
    decode: fit.filter(({ endpoint }) => endpoint.role !== "prefill" && prefillsAlone(endpoint)),
  };
}

/** Every model name that some endpoint serves, sorted. */
export const modelsOf = (known: readonly KnownEndpoint[]): string[] =>
  [...new Set(known.flatMap(({ endpoint }) => endpoint.models))].sort();
