/**
 * The wires: how the legs of each connector find each other. One entry a wire; which connector speaks which, and in
 * which order its legs run, is data of `profiles/connectors.ts`.
 *
 * A wire decides from the request and the two endpoints what stands in both bodies and headers. It never sends, never
 * chooses an endpoint, and trusts nothing that a client said of hosts.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import type { Wire } from "../../profiles/connectors.ts";
import type { HeaderList } from "../headers.ts";
import type { RequestFacts } from "../request/facts.ts";
import { bootstrap } from "./wires/bootstrap.ts";
import { metaserver } from "./wires/metaserver.ts";
import { pull } from "./wires/pull.ts";
import { push } from "./wires/push.ts";
import { room } from "./wires/room.ts";

/** The request of both legs. */
export interface LegRequest {
  readonly body: Buffer;
  readonly facts: RequestFacts;
  /** The same for both engines; unique. */
  readonly requestId: string;
}

export interface Pair {
  readonly prefill: Endpoint;
  readonly decode: Endpoint;
}

/** What one try needs beside the two endpoints. */
export interface Meeting {
  /** A number in [0, 1), new for each try. */
  readonly chance: number;
  /** What is known of the prefill engine, where the wire asks for it: its answer, or what it said before. */
  readonly peer?: Peer;
  /** Where decode calls back, and the JSON object that it posted there. */
  readonly callback?: string;
  readonly posted?: Buffer;
}

/** What must be known of a prefill engine before a decode leg can name it. */
export interface Peer {
  /** By data-parallel rank. */
  readonly engineIds: readonly string[];
  /** Coordinates that the engine itself named, as JSON members. */
  readonly coordinates?: Readonly<Record<string, unknown>>;
}

export interface Leg {
  readonly body: Buffer;
  readonly headers: HeaderList;
}

export interface WireRules {
  /** Whether two legs can serve the request; without an entry in `apis.ts` none can. */
  readonly takes: (facts: RequestFacts) => boolean;
  /** `asks`: the engine's own server must be asked before; `hears`: the first answer of an engine tells. */
  readonly peer?: "asks" | "hears";
  /** Blocks outlive the answer of their prefill leg: until decode fetched them. */
  readonly pins?: true;
  readonly prefill: (request: LegRequest, pair: Pair, meeting: Meeting) => Leg;
  /** `params`: what the prefill leg answered, where there is an answer yet. */
  readonly decode: (request: LegRequest, pair: Pair, meeting: Meeting, params?: Buffer) => Leg;
}

export const WIRES: Readonly<Record<Wire, WireRules>> = { pull, push, bootstrap, room, metaserver };
