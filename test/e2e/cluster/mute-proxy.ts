/**
 * A way to the API server that can fall silent: connections stay open, and nothing passes any more, in either direction,
 * as behind a router that forgot them. What was muted stays silent for good.
 */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface MuteProxy {
  readonly port: number;
  /** Silences the connections that are open now; `all`: new ones, too, until `heal`. */
  mute(which: "open" | "all"): void;
  /** New connections pass again. */
  heal(): void;
  stop(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket | undefined;
}

export async function startMuteProxy(target: number): Promise<MuteProxy> {
  const pairs = new Set<Pair>();
  let muted = false;
  const proxy = createServer((client) => {
    client.on("error", () => client.destroy());
    const server = muted ? undefined : connect(target, "127.0.0.1");
    const pair = { client, server };
    pairs.add(pair);
    client.once("close", () => (server?.destroy(), pairs.delete(pair)));
    if (server === undefined) return;
    server.on("error", () => server.destroy());
    server.once("close", () => client.destroy());
    client.pipe(server).pipe(client);
  });
  await new Promise<void>((resolve, reject) => proxy.once("error", reject).listen(0, "127.0.0.1", resolve));
  const silence = ({ client, server }: Pair): void => {
    client.unpipe().removeAllListeners("end").resume();
    server?.unpipe().removeAllListeners("close").resume();
  };
  return {
    port: (proxy.address() as AddressInfo).port,
    mute: (which) => {
      muted = which === "all";
      for (const pair of pairs) silence(pair);
    },
    heal: () => (muted = false),
    stop: async () => {
      for (const { client, server } of pairs) {
        client.destroy();
        server?.destroy();
      }
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}
