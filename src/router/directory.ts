/** The endpoints that exist, with what their engines say of themselves: the router's view of the world. */
import type { Endpoint, EngineStats } from "../kinds/endpoint.ts";
import { handsOver } from "./disagg/connectors.ts";

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

/** Fleets of each list by namespace and model: lists live for a second, and a thousand requests ask for the same one. */
const fleets = new WeakMap<readonly KnownEndpoint[], Map<string, Fleet>>();

/** The endpoints, of one namespace, that may serve a model now; prefill engines as far as their connector hands KV over. */
export function fleetOf(known: readonly KnownEndpoint[], model: string, namespace?: string): Fleet {
  const found = fleets.get(known) ?? new Map<string, Fleet>();
  fleets.set(known, found);
  // No name of a model or a namespace holds a NUL.
  const key = namespace === undefined ? model : `${namespace}\0${model}`;
  const fleet = found.get(key) ?? findFleet(known, model, namespace);
  // Names that nobody serves are the client's to invent, and would fill the memory.
  if (fleet.modelKnown) found.set(key, fleet);
  return fleet;
}

function findFleet(known: readonly KnownEndpoint[], model: string, namespace: string | undefined): Fleet {
  return fleetAmong(within(known, namespace).filter(({ endpoint }) => endpoint.models.includes(model)));
}

/** The fleet of every endpoint, of the namespace if one is given, where all belong to one service: its engines decide. */
export function onlyFleet(known: readonly KnownEndpoint[], namespace?: string): Fleet | undefined {
  const all = within(known, namespace);
  return all.length > 0 && isOneService(all) ? fleetAmong(all) : undefined;
}

function fleetAmong(serving: readonly KnownEndpoint[]): Fleet {
  const fit = serving.filter(({ endpoint }) => endpoint.ready && !endpoint.draining);
  return {
    modelKnown: serving.length > 0,
    ambiguous: new Set(serving.map(({ endpoint }) => endpoint.namespace)).size > 1,
    prefill: fit.filter(({ endpoint }) => endpoint.role === "prefill" && handsOver(endpoint)),
    decode: fit.filter(({ endpoint }) => endpoint.role !== "prefill"),
  };
}

const within = (known: readonly KnownEndpoint[], namespace: string | undefined): readonly KnownEndpoint[] =>
  namespace === undefined ? known : known.filter(({ endpoint }) => endpoint.namespace === namespace);

/** A model by which every endpoint, of the namespace if one is given, may be meant: all belong to one service. */
export function onlyModel(known: readonly KnownEndpoint[], namespace?: string): string | undefined {
  const all = within(known, namespace);
  return isOneService(all) ? all[0]?.endpoint.models[0] : undefined;
}

const isOneService = ([first, ...rest]: readonly KnownEndpoint[]): boolean =>
  rest.every(
    ({ endpoint }) => endpoint.service === first?.endpoint.service && endpoint.namespace === first.endpoint.namespace,
  );

const lists = new WeakMap<readonly KnownEndpoint[], readonly string[]>();
const sets = new WeakMap<readonly string[], ReadonlySet<string>>();

/** Ids of the endpoints of a list: one list for as long as that one lives, by which loads and index know it again. */
export function idsOf(known: readonly KnownEndpoint[]): readonly string[] {
  const ids = lists.get(known) ?? known.map(({ endpoint }) => endpoint.id);
  lists.set(known, ids);
  return ids;
}

/** The same as a set. */
export function idSetOf(known: readonly KnownEndpoint[]): ReadonlySet<string> {
  const ids = idsOf(known);
  const set = sets.get(ids) ?? new Set(ids);
  sets.set(ids, set);
  return set;
}

/** Every model name that some endpoint, of the namespace if one is given, serves; sorted. */
export const modelsOf = (known: readonly KnownEndpoint[], namespace?: string): string[] =>
  [...new Set(within(known, namespace).flatMap(({ endpoint }) => endpoint.models))].sort();
