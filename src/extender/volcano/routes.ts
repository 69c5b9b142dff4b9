/**
 * Volcano's dialect, as a fastify plugin for a server of its own: `POST /volcano/<verb>` for its `extender` plugin.
 *
 * The plugin verifies nobody and says nothing of itself, so that whoever reaches the port is answered. What is learned
 * is small: which nodes fit a pod that the caller describes.
 */
import type { FastifyInstance, FastifyPluginCallback } from "fastify";
import { LABEL, OWNERSHIP } from "../../kinds/names.ts";
import { keyOf, labelOf, type KubeObject } from "../../kinds/kube.ts";
import type { ClusterSnapshot } from "../../kinds/snapshot.ts";
import { cellKey, standingName, type CellId } from "../../workload/cell.ts";
import { answerErrors, memoOf, serveVerb, unjudgeable, type Answer, type Call, type EdgeOptions } from "../server.ts";
import type { ExtenderMemo } from "../view.ts";
import { SessionMemory } from "./gang.ts";
import { UNREAD, VERBS, type Asked } from "./verbs.ts";

interface Room {
  readonly options: EdgeOptions;
  readonly memo: ExtenderMemo;
  readonly memory: SessionMemory;
}

/** The routes, with one memo of their own, and what is remembered of Volcano's session. */
export function volcanoRoutes(options: EdgeOptions): FastifyPluginCallback {
  const room: Room = { options, memo: memoOf(options), memory: new SessionMemory() };
  return (app, _, done) => {
    // Volcano logs the status of a failed call and nothing of its body; the words are for whoever looks here.
    answerErrors(app, { log: options.log, body: (error) => ({ error }) });
    readVerbs(app, room);
    void app.register((unread, __, registered) => {
      unreadVerbs(unread, room);
      registered();
    });
    done();
  };
}

const verbAt = (verb: string, { options }: Room): Parameters<typeof serveVerb>[1] => ({
  ...{ url: `/volcano/${verb}`, verb: `volcano/${verb}`, options },
});

function readVerbs(app: FastifyInstance, room: Room): void {
  for (const [verb, read] of Object.entries(VERBS))
    serveVerb(app, verbAt(verb, room), (body, call) => answerTo(read(body), call, room));
}

/** The body runs off unread, however long: `onSessionOpen` has the whole cluster in it. */
function unreadVerbs(app: FastifyInstance, room: Room): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_, payload, parsed) => {
    payload.on("end", () => parsed(null, undefined));
    payload.on("error", parsed);
    payload.resume();
  });
  for (const [verb, body] of Object.entries(UNREAD))
    serveVerb(app, verbAt(verb, room), () => {
      if (verb === "onSessionClose" || verb === "onSessionOpen") room.memory.close();
      return { body, verdicts: [] };
    });
}

/** Nothing has to be judged where nobody of ours is asked about. */
function answerTo(asked: Asked, call: Call, { options, memo, memory }: Room): Answer {
  if (!asked.ours) return { body: asked.neutral(), verdicts: [] };
  const why = unjudgeable(call, options);
  if (why !== undefined) return { body: asked.unjudged(why), verdicts: [] };
  const { config, clock, cluster } = options;
  const { snapshot } = cluster();
  return asked.decide({
    ...{ view: memo.view(snapshot), memory, stood: standingIn(snapshot) },
    ...{ monotonic: clock.monotonic(), now: clock.now() },
    // Twice as long as the controller gives a gang that was let go: it takes the gang back before.
    holdMs: config.gang.bindSeconds * 2000,
  });
}

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
