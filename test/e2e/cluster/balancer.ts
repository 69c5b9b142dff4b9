/**
 * A Service of TCP connections on loopback: each new connection goes to the next backend. As behind kube-proxy, what is
 * open stays open when a backend leaves, and a connection to a dead backend is refused, not tried elsewhere.
 */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface Balancer {
  readonly port: number;
  add(port: number): void;
  /** New connections go elsewhere; open ones stay. */
  remove(port: number): void;
  stop(): Promise<void>;
}

export async function startBalancer(): Promise<Balancer> {
  const backends: number[] = [];
  const open = new Set<Socket>();
  let turn = 0;
  const server = createServer((client) => {
    const port = backends[turn++ % backends.length];
    if (port === undefined) {
      client.resetAndDestroy();
      return;
    }
    const backend = connect(port, "127.0.0.1");
    pair(client, backend);
    for (const socket of [client, backend]) {
      open.add(socket);
      socket.once("close", () => open.delete(socket));
    }
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    add: (port) => void backends.push(port),
    remove: (port) => {
      const at = backends.indexOf(port);
      if (at !== -1) backends.splice(at, 1);
    },
    stop: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Bytes, ends and resets pass in both directions. */
function pair(client: Socket, backend: Socket): void {
  for (const [from, to] of [
    [client, backend],
    [backend, client],
  ] as const) {
    from.setNoDelay(true);
    from.pipe(to);
    from.once("error", () => reset(to));
    from.once("close", (failed) => {
      if (failed) reset(to);
    });
  }
}

/**
 * A socket whose end is on its way cannot be reset: libuv answers EINVAL, Node never closes the handle, and the process
 * spins at its exit.
 */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
