/**
 * Stands where kube-scheduler looks for the extender, and fails on demand: refuses connections, hangs, answers 500 or
 * garbage; or passes every call on to the real one.
 */
import { randomUUID } from "node:crypto";
import { createServer, request as send } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import { issueAuthority, issueServing } from "../../../src/certs/issue.ts";
import type { Answering } from "./shipped.ts";
import { freePorts } from "../../support/ports.ts";

export type Fault = "refuses" | "hangs" | "500" | "garbage" | "none";

export interface FaultyExtender extends Answering {
  /** Resolves when calls meet it. */
  be(fault: Fault): Promise<void>;
  /** Calls of one verb that came since the last change. */
  calls(verb: string): number;
  stop(): Promise<void>;
}

export async function startFaultyExtender(real: Answering): Promise<FaultyExtender> {
  const context = { now: Date.now(), id: randomUUID };
  const authority = await issueAuthority(context);
  const serving = await issueServing(context, authority, ["127.0.0.1"]);
  const [port = 0] = await freePorts(1);
  const calls: string[] = [];
  let fault: Fault = "refuses";
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    calls.push(request.url ?? "");
    if (fault === "none") pass(request, response, real);
    else if (fault === "500") response.writeHead(500).end("broken");
    else if (fault === "garbage") response.writeHead(200, { "content-type": "application/json" }).end("{]nonsense");
    else request.resume();
  };
  const server = createServer({ cert: serving.certificate, key: serving.key }, answer);
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return {
    url: `https://127.0.0.1:${port}`,
    ca: authority.certificate,
    calls: (verb) => calls.filter((url) => url.endsWith(`/${verb}`)).length,
    be: async (next) => {
      fault = next;
      calls.length = 0;
      if (next === "refuses" && server.listening) await close();
      if (next !== "refuses" && !server.listening)
        await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
    },
    stop: () => (server.listening ? close() : Promise.resolve()),
  };
}

function pass(request: IncomingMessage, response: ServerResponse, { url, ca }: Answering): void {
  const { method, headers } = request;
  const onward = send(
    `${url}${request.url ?? ""}`,
    { ca, ...(method === undefined ? {} : { method }), headers },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    },
  );
  onward.once("error", () => response.destroy());
  request.pipe(onward);
}
