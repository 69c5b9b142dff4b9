/** An HTTP or HTTPS server on a free port of loopback. */
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";

export interface LoopbackServer {
  /** `http://127.0.0.1:port`, or `https:`. */
  readonly url: string;
  /** Those that are open now. */
  closeConnections(): void;
  stop(): Promise<void>;
}

export interface ServingPair {
  readonly cert: string;
  readonly key: string;
}

export async function serveOnLoopback(handle: RequestListener, pair?: ServingPair): Promise<LoopbackServer> {
  const server = pair === undefined ? createServer(handle) : createSecureServer(pair, handle);
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  return {
    url: `http${pair === undefined ? "" : "s"}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    closeConnections: () => server.closeAllConnections(),
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export async function textOf(message: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}
