/** The life of a server that Kubernetes calls: how long it keeps connections, and how it ends without failing a call. */
import type { FastifyInstance } from "fastify";
import type { Timers } from "../../ports.ts";

/** Options of every such server. */
export const SERVER = {
  /** Above the 90 s for which a Go client keeps an idle connection: the caller must be the one that closes. */
  keepAliveTimeout: 120_000,
  /** The API server gives a webhook 30 s at most, schedulers give an extender less; a caller that sends slower is none. */
  requestTimeout: 30_000,
  // What comes in on a connection that is still open is answered to the end: a 503 would fail somebody's write.
  return503OnClosing: false,
  logger: false,
} as const;

/** Nobody waits longer for an answer: webhooks have 1 s, the scheduler gives the extender as much. */
const LAST_ANSWERS_MS = 2000;

export interface Draining {
  readonly draining: () => boolean;
  readonly stop: () => Promise<void>;
}

/** To be called before the server listens. Callers learn late that an address is gone: it serves on for `drainMs`. */
export function createDraining(app: FastifyInstance, timers: Timers, drainMs: number): Draining {
  const elapsed = (ms: number): Promise<void> => new Promise((resolve) => void timers.after(ms, resolve));
  let draining = false;
  // The caller's connection goes with the answer, so that its next call finds another replica.
  app.addHook("onSend", (_request, reply, payload, done) => {
    if (draining) reply.header("connection", "close");
    done(null, payload);
  });
  return {
    draining: () => draining,
    stop: async () => {
      draining = true;
      await elapsed(drainMs);
      const closed = app.close();
      await Promise.race([closed, elapsed(LAST_ANSWERS_MS)]);
      // A caller opens connections ahead of its calls: those that never carried one would hold the stop for a minute.
      app.server.closeAllConnections();
      await closed;
    },
  };
}
