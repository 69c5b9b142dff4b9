/**
 * What a routing policy is to the simulation: told of each request, it says which engine answers it, and is told how it
 * went. Published policies choose from `Tracked` counts, from engines' signals of their true age, and from an index.
 */
import type { Random, Timers } from "../../ports.ts";
import type { RemoteSource, SequenceEnd } from "../engine/sequence.ts";
import type { VirtualTime } from "../engine/virtual-time.ts";
import type { Fleet } from "./fleet.ts";
import type { SimulatedRequest } from "./workload.ts";

/** Engines as policies see them, in virtual time or live. */
export type FleetView = Pick<Fleet, "decoders" | "prefillers" | "capacityTokens" | "signals" | "listen"> & {
  readonly engines: readonly { readonly number: number }[];
  readonly model: { readonly blockTokens: number };
};

/** All that a published policy decides from. */
export interface View {
  readonly fleet: FleetView;
  readonly time: Timers;
  readonly random: Random;
}

export interface World extends View {
  readonly fleet: Fleet;
  readonly time: VirtualTime;
}

export interface Route {
  /** The engine that answers. */
  readonly engine: number;
  /** What a prefill leg left for it, and how many of its tokens were cached there. */
  readonly remote?: { readonly source: RemoteSource; readonly cachedTokens: number };
  firstToken(): void;
  finished(end: SequenceEnd): void;
}

/** The route may come later, where a prefill leg is run first. */
export type Policy = (request: SimulatedRequest) => Promise<Route>;

export interface Choice {
  readonly engine: number;
  readonly prefill?: number;
}

/** A published policy: where to, and, with roles, over which prefill engine. */
export interface Chooser {
  choose(request: SimulatedRequest): Choice;
  /** The choice is made, and nothing is sent yet. */
  chosen?(request: SimulatedRequest, choice: Choice): void;
  /** The request was sent to the engine, for `prefill` or for its answer; the result is called when that is over. */
  sent?(request: SimulatedRequest, engine: number): Sent;
}

export interface Sent {
  readonly firstToken?: () => void;
  readonly over?: () => void;
}

/** The legs of a choice: prefill first where one is named, then the answer. */
export function policyOf(chooser: Chooser, { fleet }: World): Policy {
  return async (request) => {
    const choice = chooser.choose(request);
    chooser.chosen?.(request, choice);
    const { engine, prefill } = choice;
    const remote = prefill === undefined ? undefined : await prefilled(chooser, fleet, request, prefill);
    const sent = chooser.sent?.(request, engine);
    return {
      engine,
      ...(remote === undefined ? {} : { remote }),
      firstToken: () => sent?.firstToken?.(),
      finished: () => sent?.over?.(),
    };
  };
}

const prefilled = (
  chooser: Chooser,
  fleet: Fleet,
  request: SimulatedRequest,
  engine: number,
): Promise<NonNullable<Route["remote"]>> =>
  new Promise((resolve) => {
    const sent = chooser.sent?.(request, engine);
    fleet.prefill(engine, request, (source, cachedTokens) => {
      sent?.firstToken?.();
      sent?.over?.();
      resolve({ source, cachedTokens });
    });
  });
