/**
 * Between Volcano and its extender: passes calls on, counts and keeps them, and can refuse them or let them hang.
 */
import { request, type IncomingMessage, type ServerResponse } from "node:http";
import { serveOnLoopback, textOf } from "./loopback.ts";

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
  const server = await serveOnLoopback((incoming, outgoing) => {
    if (mode === "refuse") incoming.socket.resetAndDestroy();
    if (mode === "pass")
      passOn(port, incoming, outgoing).then(
        (call) => void calls.push(call),
        () => outgoing.destroy(),
      );
  });
  return {
    url: `${server.url}/volcano`,
    calls: (verb) => calls.filter((call) => verb === undefined || call.verb === verb),
    clear: () => {
      calls = [];
    },
    become: (next) => {
      mode = next;
      server.closeConnections();
    },
    stop: () => server.stop(),
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
