/**
 * Between Volcano and its extender: passes calls on, counts and keeps them, and can refuse them or let them hang.
 */
import { createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface RelayedCall {
  readonly verb: string;
  readonly bytes: number;
  readonly ms: number;
  readonly status: number;
  readonly request: string;
  readonly reply: string;
}

export interface Relay {
  /** `http://127.0.0.1:port/volcano`. */
  readonly url: string;
  /** Since the last `clear`. */
  calls(verb?: string): readonly RelayedCall[];
  clear(): void;
  /** `refuse`: connections are reset as nobody would take them. `hang`: nothing is ever answered. */
  become(mode: "pass" | "refuse" | "hang"): void;
  stop(): Promise<void>;
}

/** To `http://127.0.0.1:port`. */
export async function startRelay(port: number): Promise<Relay> {
  let calls: RelayedCall[] = [];
  let mode: Parameters<Relay["become"]>[0] = "pass";
  const server = createServer((incoming, outgoing) => {
    if (mode === "refuse") incoming.socket.resetAndDestroy();
    if (mode === "pass")
      passOn(port, incoming, outgoing).then(
        (call) => void calls.push(call),
        () => outgoing.destroy(),
      );
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/volcano`,
    calls: (verb) => calls.filter((call) => verb === undefined || call.verb === verb),
    clear: () => {
      calls = [];
    },
    become: (next) => {
      mode = next;
      server.closeAllConnections();
    },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function passOn(port: number, incoming: IncomingMessage, outgoing: ServerResponse): Promise<RelayedCall> {
  const body = await textOf(incoming);
  const begun = performance.now();
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const { url: path, headers } = incoming;
    const call = request({ host: "127.0.0.1", port, path, method: "POST", headers }, resolve);
    call.once("error", reject);
    call.end(body);
  });
  const reply = await textOf(answer);
  const ms = performance.now() - begun;
  const status = answer.statusCode ?? 0;
  outgoing.writeHead(status, { ...answer.headers }).end(reply);
  const verb = incoming.url?.split("/").at(-1) ?? "";
  return { verb, bytes: Buffer.byteLength(body), ms, status, request: body, reply };
}

async function textOf(message: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}
