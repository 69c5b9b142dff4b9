/**
 * What is known of prefill engines before a decode leg can name them: engine ids, and coordinates.
 *
 * Asked of the engine's own bootstrap server, or heard in an engine's first answer. Kept for the life of the engine's
 * process, as far as its endpoint tells of a restart, and not beyond a leg that failed; what was asked, no longer than
 * 10 s, because endpoints of the configuration tell of none. Nothing here chooses an endpoint.
 */
import type { Endpoint } from "../../kinds/endpoint.ts";
import { isObject } from "../../kinds/kube.ts";
import type { Clock, EngineClient } from "../../ports.ts";
import { connectorPort, hostOf } from "./addresses.ts";
import type { Peer } from "./wires.ts";
import { COORDINATES } from "./wires/push.ts";

/** A bootstrap server answers from memory. */
const ASK_TIMEOUT_MS = 1000;
/** Engines of a fleet that are kept; beyond, the oldest is asked again. */
const MOST = 4096;
const MOST_RANKS = 1024;
const MOST_FORMER = 64;
/** An answer of a millisecond in ten seconds, for each engine. */
const ASKED_MS = 10_000;
/** What was asked for a leg holds while that is made. */
const SLACK_MS = 1000;
const LONGEST_ID = 512;

interface Known {
  readonly peer: Peer;
  /** Monotonic milliseconds. */
  readonly until: number;
}

export class PeerBook {
  readonly #client: EngineClient;
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #peers = new Map<string, Known>();
  readonly #asking = new Map<string, Promise<Peer | undefined>>();
  /** Former engine ids of an address. One that comes again is no restart: several engines answer there by turns. */
  readonly #former = new Map<string, Set<string>>();

  constructor(client: EngineClient, clock: Pick<Clock, "monotonic">) {
    this.#client = client;
    this.#clock = clock;
  }

  known(endpoint: Endpoint): Peer | undefined {
    return this.#within(endpoint, SLACK_MS);
  }

  /** A leg failed there: its engine may be another one by the next. */
  forget(endpoint: Endpoint): void {
    this.#peers.delete(keyOf(endpoint));
  }

  /** The peer by its bootstrap server; undefined where that does not answer as it should. Asked once at a time. */
  async ask(endpoint: Endpoint): Promise<Peer | undefined> {
    const key = keyOf(endpoint);
    const known = this.#within(endpoint, 0);
    if (known !== undefined) return known;
    const asking = this.#asking.get(key) ?? this.#query(endpoint).finally(() => this.#asking.delete(key));
    this.#asking.set(key, asking);
    return asking;
  }

  /** Parameters that an engine answered a prefill leg with: what of them holds for every later one. */
  hear(endpoint: Endpoint, params: Buffer): void {
    const key = keyOf(endpoint);
    const coordinates = coordinatesOf(params);
    if (coordinates === undefined) return;
    const before = this.#peers.get(key)?.peer.coordinates?.["remote_engine_id"];
    const id = String(coordinates["remote_engine_id"]);
    if (before === id) return;
    const former = this.#former.get(key) ?? new Set();
    if (typeof before === "string") this.#former.set(key, former.add(before));
    this.#peers.delete(key);
    if (!former.has(id) && former.size < MOST_FORMER) this.#keep(key, { engineIds: [], coordinates }, Infinity);
  }

  #within(endpoint: Endpoint, slackMs: number): Peer | undefined {
    const known = this.#peers.get(keyOf(endpoint));
    return known !== undefined && this.#clock.monotonic() < known.until + slackMs ? known.peer : undefined;
  }

  async #query(endpoint: Endpoint): Promise<Peer | undefined> {
    const reply = await this.#client.send({
      address: `${hostOf(endpoint.address)}:${connectorPort(endpoint)}`,
      method: "GET",
      path: "/query",
      timeoutMs: ASK_TIMEOUT_MS,
      plain: true,
    });
    if (reply.kind !== "answer" || reply.status !== 200) return undefined;
    const engineIds = engineIdsOf(Buffer.from(reply.body));
    if (engineIds === undefined) return undefined;
    const peer = { engineIds };
    this.#keep(keyOf(endpoint), peer, this.#clock.monotonic() + ASKED_MS);
    return peer;
  }

  #keep(key: string, peer: Peer, until: number): void {
    const [oldest] = this.#peers.keys();
    if (this.#peers.size >= MOST && oldest !== undefined) {
      this.#peers.delete(oldest);
      this.#former.delete(oldest);
    }
    this.#peers.set(key, { peer, until });
  }
}

const keyOf = ({ id, bootId }: Endpoint): string => `${id}\0${bootId}`;

function parsed(text: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text.toString("utf8"));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const isId = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && value.length <= LONGEST_ID;

/** `{"0":{"engine_id":...,"worker_addr":...},...}`: ranks from 0 on, each with its id. */
function engineIdsOf(text: Buffer): readonly string[] | undefined {
  const ranks = parsed(text);
  const count = Object.keys(ranks ?? {}).length;
  if (ranks === undefined || count === 0 || count > MOST_RANKS) return undefined;
  const ids = Array.from({ length: count }, (_, rank) => {
    const entry = ranks[String(rank)];
    return isObject(entry) ? entry["engine_id"] : undefined;
  });
  return ids.every(isId) ? ids : undefined;
}

function coordinatesOf(params: Buffer): Readonly<Record<string, unknown>> | undefined {
  const told = parsed(params);
  if (told === undefined || !isId(told["remote_engine_id"]) || !isId(told["remote_host"])) return undefined;
  return Object.fromEntries(COORDINATES.flatMap((key) => (told[key] === undefined ? [] : [[key, told[key]] as const])));
}
