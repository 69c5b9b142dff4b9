/** HTTP edge for the autoscaler: what groups were asked for, which may be woken, and a stream of those that are waited for. */
import type { ServerResponse } from "node:http";
import type { FastifyPluginCallback, FastifyReply } from "fastify";
import { KEEPALIVE_MS, SCALED_PATH, STATISTICS_PATH, WAKES_PATH, type StatisticsPage } from "../../kinds/statistics.ts";
import type { Timers } from "../../ports.ts";
import { refusalOf, type CallerRule } from "../replicas/callers.ts";
import { decodeScaled, MAX_SCALED_BYTES, type Wakeable } from "./wakeable.ts";
import type { Wakes } from "./wakes.ts";

export interface StatisticsRoutesOptions {
  readonly page: () => StatisticsPage;
  readonly wakeable: Wakeable;
  readonly wakes: Wakes;
  readonly callers: CallerRule;
  readonly timers: Timers;
}

const ERRORS = {
  401: "not a replica, nor the autoscaler",
  403: "not an address of router.replicas.peers or router.replicas.readers",
} as const;
const FORM = '{"groups":[{"group":"namespace/group","models":["..."],"service":"..."}]}';
/** Lines that a listener has not taken; one that does not read is let go, and comes back. */
const MAX_UNREAD_BYTES = 65_536;

export function statisticsRoutes(options: StatisticsRoutesOptions): FastifyPluginCallback {
  const { page, wakeable, callers } = options;
  return (app, _, done) => {
    app.addHook("onRequest", async ({ headers, socket }, reply) => {
      const caller = { authorization: headers.authorization, remote: socket.remoteAddress };
      const status = await refusalOf(callers, caller);
      return status === undefined ? undefined : reply.code(status).send({ error: ERRORS[status] });
    });
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("application/json", { parseAs: "string", bodyLimit: MAX_SCALED_BYTES }, (_, body, next) =>
      next(null, body),
    );
    app.get(STATISTICS_PATH, (_, reply) => reply.send(page()));
    app.get(WAKES_PATH, (_, reply) => follow(reply, options));
    app.post(SCALED_PATH, (request, reply) => {
      const groups = typeof request.body === "string" ? decodeScaled(request.body) : undefined;
      if (groups === undefined) return reply.code(400).send({ error: FORM });
      wakeable.replace(groups);
      return reply.code(204).send();
    });
    done();
  };
}

function follow(reply: FastifyReply, { wakes, timers }: StatisticsRoutesOptions): FastifyReply | undefined {
  const lines: string[] = [];
  let write = (line: string): void => void lines.push(line);
  const leave = wakes.listen((group) => write(`${JSON.stringify({ group })}\n`));
  if (leave === undefined) return reply.code(429).send({ error: "16 others follow" });
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
  write = (line) => tell(raw, line);
  // At least one, so that whoever follows knows that it does.
  for (const line of ["{}\n", ...lines]) write(line);
  const cancel = timers.every(KEEPALIVE_MS, () => write("{}\n"));
  raw.on("close", () => [leave, cancel].forEach((end) => end()));
  return undefined;
}

function tell(raw: ServerResponse, line: string): void {
  if (raw.writableLength > MAX_UNREAD_BYTES) raw.destroy();
  else raw.write(line);
}
