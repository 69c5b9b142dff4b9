/** HTTP edge of callbacks: `POST /v1/metaserver/TOKEN`, by which a decode engine asks for the prefill of its request. */
import type { FastifyPluginCallback } from "fastify";
import type { Metrics } from "../../ports.ts";
import type { Callbacks } from "./callbacks.ts";

/** Ids of the blocks of a 128 k prompt are about 100 KB; this is room for ten times that. */
const MAX_BYTES = 1024 * 1024;
export const METASERVER_PATH = "/v1/metaserver";

export function callbackRoutes({
  callbacks,
  metrics,
}: {
  callbacks: Callbacks;
  metrics: Metrics;
}): FastifyPluginCallback {
  return (app, _, done) => {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: MAX_BYTES }, (_, body, next) => next(null, body));
    app.post<{ Params: { token: string } }>(`${METASERVER_PATH}/:token`, async (request, reply) => {
      const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
      const status = await callbacks.post(request.params.token, body);
      metrics.count("tandem_router_callbacks_total", { status: String(status) });
      return reply.code(status).send({});
    });
    done();
  };
}
