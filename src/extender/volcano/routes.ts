/**
 * HTTP edge for Volcano's `extender` plugin: `POST /volcano/<verb>`, as a fastify plugin for a server of its own.
 *
 * The plugin verifies nobody and says nothing of itself, so that whoever reaches the port is answered. What is learned
 * is small: which nodes fit a pod that the caller describes.
 */
import type { FastifyInstance, FastifyPluginCallback, FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../../config/schema.ts";
import { LABEL, OWNERSHIP } from "../../kinds/names.ts";
import { keyOf, labelOf, type KubeObject } from "../../kinds/kube.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import type { Verdict } from "../../kinds/verdict.ts";
import type { Clock, Log, Metrics } from "../../ports.ts";
import type { Devices } from "../../profiles/devices.ts";
import { cellKey, standingName, type CellId } from "../../workload/cell.ts";
import { ExtenderMemo } from "../view.ts";
import { SessionMemory } from "./gang.ts";
import { UNREAD, VERBS, type Answer, type Asked, type VerbName } from "./verbs.ts";
import { BadCall } from "./wire.ts";

export interface VolcanoOptions {
  readonly config: Pick<Config, "extender" | "gang" | "topology">;
  /** The device profiles there are, and that of workloads that name none. */
  readonly devices: Devices;
  /** The cluster now, and whether the store has been filled once. The same object while nothing changed. */
  readonly cluster: () => { readonly snapshot: ClusterSnapshot; readonly synced: boolean };
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
}

interface Room {
  readonly options: VolcanoOptions;
  readonly memo: ExtenderMemo;
  readonly memory: SessionMemory;
}

/** The routes, with one memo of their own, and what is remembered of Volcano's session. */
export function volcanoRoutes(options: VolcanoOptions): FastifyPluginCallback {
  const { config, clock, devices } = options;
  const { topology } = config;
  const bindMs = config.gang.bindSeconds * 1000;
  const room: Room = {
    options,
    memo: new ExtenderMemo({ topology, devices, bindMs, now: () => clock.now() }),
    memory: new SessionMemory(),
  };
  return (app, _, done) => {
    app.setErrorHandler((error, request, reply) => answerError(error as Failure, { request, reply, log: options.log }));
    readVerbs(app, room);
    void app.register((unread, __, registered) => {
      unreadVerbs(unread, room);
      registered();
    });
    done();
  };
}

function readVerbs(app: FastifyInstance, room: Room): void {
  const { clock, config } = room.options;
  const began = new WeakMap<FastifyRequest, number>();
  for (const verb of Object.keys(VERBS) as (keyof typeof VERBS)[])
    app.post(`/volcano/${verb}`, {
      bodyLimit: config.extender.maxBodyBytes,
      onRequest: (request, _, next) => {
        began.set(request, clock.monotonic());
        next();
      },
      handler: (request, reply) => {
        const start = began.get(request) ?? clock.monotonic();
        const answer = answerTo(verb, VERBS[verb](request.body), start, room);
        report(verb, start, answer.verdicts, room);
        return reply.send(answer.body);
      },
    });
}

/** The body runs off unread, however long: `onSessionOpen` has the whole cluster in it. */
function unreadVerbs(app: FastifyInstance, room: Room): void {
  const { clock } = room.options;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_, payload, parsed) => {
    payload.on("end", () => parsed(null, undefined));
    payload.on("error", parsed);
    payload.resume();
  });
  for (const verb of Object.keys(UNREAD) as (keyof typeof UNREAD)[])
    app.post(`/volcano/${verb}`, (_, reply) => {
      const start = clock.monotonic();
      if (verb === "onSessionClose" || verb === "onSessionOpen") room.memory.close();
      report(verb, start, [], room);
      return reply.send(UNREAD[verb]);
    });
}

/**
 * One call. The time that may run out is that of the body on its way in, after which Volcano no longer listens. Without a
 * full store nothing may be judged, and nothing has to be where nobody of ours is asked about.
 */
function answerTo(verb: VerbName, asked: Asked, start: number, { options, memo, memory }: Room): Answer {
  if (!asked.ours) return { body: asked.neutral(), verdicts: [] };
  const { config, clock, cluster, log } = options;
  const { snapshot, synced } = cluster();
  const late = clock.monotonic() - start > config.extender.timeoutMs;
  if (late) log.warn("extender call came in too slowly", { verb });
  if (!synced || late)
    return { body: asked.unjudged(late ? "the call took too long to arrive" : NOT_SYNCED), verdicts: [] };
  return asked.decide({
    ...{ view: memo.view(snapshot), memory, stood: standingIn(snapshot) },
    ...{ monotonic: clock.monotonic(), now: clock.now() },
    // Twice as long as the controller gives a gang that was let go: it takes the gang back before.
    holdMs: config.gang.bindSeconds * 2000,
  });
}

const NOT_SYNCED = "ClusterNotSynced: Tandem's store has not been filled yet";

/** The controller's records of the cells that stand. */
function standingIn({ configMaps }: ClusterSnapshot): (key: string) => boolean {
  let keys: ReadonlySet<string> | undefined;
  return (key) => {
    keys ??= new Set(configMaps.flatMap(recordedCell));
    return keys.has(key);
  };
}

function recordedCell(map: KubeObject): readonly string[] {
  const { namespace = "" } = map.metadata;
  const [model, group, cell] = [LABEL.model, LABEL.group, LABEL.cell].map((key) => labelOf(map, key));
  if (model === undefined || group === undefined || cell === undefined) return [];
  const id: CellId = { namespace, model, group, cell };
  const isRecord =
    keyOf(map) === `${namespace}/${standingName(id)}` && labelOf(map, OWNERSHIP.label) === OWNERSHIP.value;
  return isRecord ? [cellKey(id)] : [];
}

function report(verb: VerbName, start: number, verdicts: Iterable<Verdict>, { options }: Room): void {
  const { clock, metrics, log } = options;
  const label = `volcano/${verb}`;
  const counts = new Map<string, number>();
  for (const { reason } of verdicts) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const ms = clock.monotonic() - start;
  metrics.observe("tandem_extender_duration_seconds", ms / 1000, { verb: label });
  for (const [reason, count] of counts) metrics.count("tandem_extender_verdicts_total", { verb: label, reason }, count);
  log.debug("extender", { verb: label, ms, verdicts: Object.fromEntries(counts) });
}

type Failure = Error & { readonly statusCode?: number };

interface Broken {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly log: Log;
}

/** Volcano logs the status of a failed call and nothing of its body; the words are for whoever looks here. */
function answerError(error: Failure, { request, reply, log }: Broken): FastifyReply {
  const status = error instanceof BadCall ? 400 : (error.statusCode ?? 500);
  const fields = { path: request.url, error: error.message };
  if (status < 500) log.warn("extender call refused", fields);
  else log.error("extender failed", { ...fields, stack: error.stack });
  return reply.code(status).send({ error: status < 500 ? error.message : "internal error of Tandem's extender" });
}
