/** The request router over static endpoints, with engines that answer as told: for tests of what becomes of a request. */
import { loadConfig } from "../../src/config/load.ts";
import { staticEndpoints } from "../../src/endpoints/directory.ts";
import type { EngineReply, EngineRequest } from "../../src/ports.ts";
import type { CompleteRequest, Forward, RequestRouter, Routed } from "../../src/router/exchange.ts";
import type { HeaderList } from "../../src/router/headers.ts";
import { createBlockHasher } from "../../src/router/kv/blocks.ts";
import { HistoryIndex } from "../../src/router/kv/history.ts";
import { LoadBook } from "../../src/router/load.ts";
import { RequestScan } from "../../src/router/request/scan.ts";
import { createRouter, type RouterDependencies } from "../../src/router/route.ts";
import { SILENT_LOG } from "../../src/telemetry/log.ts";
import { NO_METRICS } from "../../src/telemetry/metrics.ts";

export interface RoutingOptions {
  /** Keys below `router`. */
  readonly router?: object;
  /** Address -> role and model. */
  readonly endpoints: Readonly<Record<string, { readonly role?: string; readonly model: string }>>;
  readonly saltKey?: Buffer;
  readonly engine?: (request: EngineRequest) => EngineReply;
  /** Other ports of the router. */
  readonly more?: Partial<RouterDependencies>;
}

export interface Asked {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: HeaderList;
  readonly body: Buffer | object;
  /** Where the body is cut while it arrives. */
  readonly cuts?: readonly number[];
}

const JSON_TYPE: HeaderList = [["content-type", "application/json"]];
const LOST: EngineReply = { kind: "lost", detail: "no engine" };
const hasher = createBlockHasher();

export class Routing {
  readonly router: RequestRouter;
  readonly loads = new LoadBook();

  constructor({ router = {}, endpoints, saltKey, engine = () => LOST, more = {} }: RoutingOptions) {
    const entries = Object.entries(endpoints).map(([address, { role = "both", model }]) => ({ address, role, model }));
    const text = JSON.stringify({ router: { explainHeaders: true, ...router, endpoints: { static: entries } } });
    const config = loadConfig({ text }).router;
    const known = staticEndpoints(config.endpoints.static).map((endpoint) => ({ endpoint, stats: undefined }));
    this.router = createRouter({
      ...{ config, hasher, loads: this.loads, metrics: NO_METRICS, log: SILENT_LOG },
      client: { send: (request) => Promise.resolve(engine(request)) },
      timers: { after: () => () => undefined, every: () => () => undefined },
      directory: { list: () => known },
      index: new HistoryIndex({ slots: 4096, endpoints: 16, rows: 64 }, 100_000),
      clock: { now: () => 0, monotonic: () => 0 },
      random: { next: () => 0.5, id: () => "1d" },
      incompatible: () => undefined,
      ...(saltKey === undefined ? {} : { saltKey }),
      ...more,
    });
  }

  /** The whole way of a request: its head, its body in pieces, the pick; what it held is released. */
  async route({
    path = "/v1/chat/completions",
    method = "POST",
    headers = JSON_TYPE,
    body,
    cuts,
  }: Asked): Promise<Routed> {
    const head = { method, path, headers };
    const refused = this.router.precheck(head);
    if (refused !== undefined) return refused;
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    const request: CompleteRequest = { ...head, body: bytes };
    const { ticket, routed } = this.router.begin(
      cuts === undefined ? request : { ...request, scan: inPieces(bytes, cuts) },
    );
    try {
      return await routed;
    } finally {
      ticket.finish();
    }
  }

  /** Where a request that must be forwarded goes. */
  async forward(asked: Asked): Promise<Forward> {
    const routed = await this.route(asked);
    if (routed.kind === "answer") throw new Error(`refused: ${routed.status} ${routed.body.toString()}`);
    return routed;
  }
}

/** A scan that was given the body piece by piece. */
export function inPieces(bytes: Buffer, cuts: readonly number[]): RequestScan {
  const scan = new RequestScan();
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) scan.push(bytes.subarray(0, cut));
  return scan;
}

export const header = (list: HeaderList, name: string): string | undefined => new Map(list).get(name);
