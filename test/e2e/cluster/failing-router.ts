/** What stands where the router should be, each failing in its own way: for what Envoy does then. */
import { createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import * as grpc from "@grpc/grpc-js";

export interface FailingRouter {
  readonly address: string;
  readonly stop: () => Promise<void>;
}

type Start = () => Promise<FailingRouter>;

/** Takes connections, and does `with` them. */
async function onSocket(use: (socket: Socket) => void): Promise<FailingRouter> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    use(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

type Call = grpc.ServerDuplexStream<Buffer, Buffer>;
const raw = (value: Buffer): Buffer => value;
const METHOD = {
  Process: {
    path: "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
    ...{ requestStream: true, responseStream: true, requestSerialize: raw, requestDeserialize: raw },
    ...{ responseSerialize: raw, responseDeserialize: raw },
  },
} as const;

/** Speaks gRPC, and answers the first message of each stream with `use`. */
async function onStream(use: (call: Call) => void): Promise<FailingRouter> {
  const server = new grpc.Server();
  const Process = (call: Call): void => {
    call.on("error", () => undefined).once("data", () => use(call));
    call.on("data", () => undefined);
  };
  server.addService(METHOD, { Process });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    ),
  );
  const stop = (): Promise<void> => {
    server.forceShutdown();
    return Promise.resolve();
  };
  return { address: `127.0.0.1:${port}`, stop };
}

const failure = Object.assign(new Error("broken"), { code: grpc.status.INTERNAL });

/** `silent` hangs with its connections open, as a stopped process does; `ends` closes its streams as if all were well. */
export const FAILING_ROUTERS: Readonly<Record<string, Start>> = {
  // Nobody listens there, and nobody is given that port.
  absent: () => Promise.resolve({ address: "127.0.0.1:1", stop: () => Promise.resolve() }),
  resets: () => onSocket((socket) => socket.once("data", () => socket.resetAndDestroy())),
  silent: () => onSocket((socket) => socket.resume()),
  noise: () => onSocket((socket) => socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\n\r\n"))),
  fails: () => onStream((call) => call.emit("error", failure)),
  ends: () => onStream((call) => call.end()),
  // An empty ProcessingResponse, and one whose bytes are none.
  says_nothing: () => onStream((call) => call.write(Buffer.alloc(0))),
  says_garbage: () => onStream((call) => call.write(Buffer.from([0xff, 0xff, 0xff]))),
};
